//! Arguments of the commands that keep a repository in order.

use std::time::Duration;

use clap::Args;

/// Free the space of what no version needs any more
///
/// Takes back what removed versions and interrupted backups have left. It runs beside all other commands, on any host: what a
/// job at work may still rely on stays until that job has ended, and goes with the next cleanup. On a repository where nobody
/// is at work, all of it goes at once. Interrupt it whenever you like; the next one goes on.
///
/// Packs of which only a part is needed are written anew without the rest, if less than --compact-below of them is needed.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  backy2 rm -f 7f3c0a12 && backy2 cleanup
  backy2 cleanup --dry-run
  backy2 cleanup --max-time 2h --compact-below 90")]
pub struct Cleanup {
    /// Say what would be freed, and change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Write packs anew of which less than this share is needed; 0: none, 100: all with anything to spare
    #[arg(long, value_name = "PERCENT", default_value = "75", value_parser = percent)]
    pub compact_below: f64,
    /// Stop after this time, such as 90s, 30m or 2h; the rest is left to the next cleanup
    #[arg(long, value_name = "TIME", value_parser = crate::size::parse_duration)]
    pub max_time: Option<Duration>,
}

/// List the jobs at work, on all hosts
///
/// Each job leaves its word in the repository while it runs: a lease. A version that a job uses is not removed, and what a job
/// may rely on is not deleted. A host that has crashed leaves its lease behind; others give it up after three hours, or as
/// soon as they know that its process is gone.
#[derive(Debug, Args)]
#[command(after_help = "\
FIELDS
  lease, job, host, process, since, renewed, versions

EXAMPLES
  backy2 leases
  backy2 leases --give-up 0193a2c4   # that host is dead for sure")]
pub struct Leases {
    /// Give up the lease whose id begins or ends so: its job is dead. If it is not, it fails when it ends
    #[arg(long, value_name = "LEASE")]
    pub give_up: Option<String>,
    /// Show these fields, with commas between them
    #[arg(short = 'f', long, value_name = "FIELDS")]
    pub fields: Option<String>,
}

fn percent(text: &str) -> Result<f64, String> {
    let number: f64 = text.trim_end_matches('%').parse().map_err(|_| "it is a number from 0 to 100".to_owned())?;
    if (0.0..=100.0).contains(&number) { Ok(number) } else { Err("it is a number from 0 to 100".to_owned()) }
}
