//! What may be typed. The texts here are the help: they are read by people in a hurry.
//!
//! Global options stand before the command only, so that `-c`, `-r` and `-s` can mean something else behind it.

pub mod check;
pub mod fuse;
pub mod jobs;
pub mod key;
pub mod nbd;
pub mod scrub;
pub mod upkeep;
pub mod versions;

use std::path::PathBuf;

use clap::builder::styling::Styles;
use clap::{Args, Parser, Subcommand};

use self::check::Check;
use self::fuse::Fuse;
use self::jobs::{Backup, Init, Restore};
use self::key::Key;
use self::nbd::Nbd;
use self::scrub::Scrub;
use self::upkeep::{Cleanup, Leases};
use self::versions::{AddTag, Expire, Ls, Protect, RemoveTag, Rm, Stats, Unprotect};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "backy2",
    version,
    about = "Deduplicating, compressing, encrypting backup for block devices",
    long_about = LONG_ABOUT,
    after_help = AFTER_HELP,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = false,
    infer_subcommands = false,
    styles = Styles::plain(),
    disable_help_subcommand = false
)]
pub struct Arguments {
    /// Options before the command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const LONG_ABOUT: &str = "\
Deduplicating, compressing, encrypting backup for block devices and disk images.

A backup reads a source (a disk, a logical volume, an image file) and stores it as a version in a repository. Blocks that \
the repository has already are not stored again, whichever volume they came from. A restore writes a version back, bit \
for bit, and says so if it cannot.";

const AFTER_HELP: &str = "\
A VERSION is named by the beginning or the end of its uid (4 digits or more), or as NAME@latest, NAME@2026-11-23 or \
NAME@2026-11-23T14:05: the newest version of that name, or its newest of that day or minute in local time.

Options before the command are for all commands; behind it, the same letter may mean something else.

The configuration is read from /etc/backy2/backy2.toml and ~/.config/backy2/backy2.toml; `backy2 config show` prints it.

Exit codes: 0 done; 1 another error; 2 wrong command line or configuration; 3 refused, as something is protected or \
exists already; 4 not found; 5 the hints were wrong; 6 wrong passphrase or key; 7 the store does not answer or is full; \
20 finished, but blocks are damaged, could not be read, or differ; 130 interrupted.

EXAMPLES
  backy2 --repository file:///srv/backup init
  backy2 backup file:///dev/vg0/mail mail
  backy2 ls mail
  backy2 restore mail@latest file:///srv/mail.img
  backy2 -ms ls -f uid";

/// Options before the command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Use this configuration file alone
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the backups are: file:///srv/backup, or a path
    #[arg(long, value_name = "URL")]
    pub repository: Option<String>,
    /// Say more
    #[arg(short = 'v', long = "verbose")]
    pub is_verbose: bool,
    /// Say everything, and with errors also their kind
    #[arg(short = 'd', long = "debug")]
    pub is_debugging: bool,
    /// Write results for scripts: lines, with | between the fields
    ///
    /// In a field, a backslash stands before | and \, and control characters are written as \n, \r, \t or \xNN. Dates are
    /// UTC, yes and no are 1 and 0, uids are whole. Messages below warnings are not shown.
    #[arg(short = 'm', long = "machine-output", conflicts_with = "is_json")]
    pub is_machine: bool,
    /// Write results as JSON, with all fields
    #[arg(long = "json")]
    pub is_json: bool,
    /// Leave the header line away
    #[arg(short = 's', long)]
    pub skip_header: bool,
    /// Write sizes as 4.0 KiB or 1.5 GiB
    #[arg(short = 'r', long)]
    pub human_readable: bool,
}

/// A command. What it does stands with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(Init),
    Backup(Box<Backup>),
    Restore(Restore),
    Scrub(Scrub),
    Fuse(Fuse),
    Nbd(Box<Nbd>),
    Ls(Ls),
    Stats(Stats),
    Rm(Rm),
    Check(Check),
    Cleanup(Cleanup),
    Leases(Leases),
    Protect(Protect),
    Unprotect(Unprotect),
    AddTag(AddTag),
    RemoveTag(RemoveTag),
    Expire(Expire),
    #[command(subcommand)]
    Key(Key),
    #[command(subcommand)]
    Config(Config),
    /// Show the release and the formats that it knows
    Version,
    /// Print a completion script for a shell
    #[command(after_help = "EXAMPLES\n  backy2 completion bash > /etc/bash_completion.d/backy2")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Show the configuration
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Show each value in force, and where it comes from; secrets are not shown
    #[command(after_help = "EXAMPLES\n  backy2 config show\n  backy2 -c /etc/backy2/other.toml config show")]
    Show,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn letters_mean_what_their_place_says() {
        let line = ["backy2", "-c", "file", "-msr", "backup", "-c", "7f3c", "-s", "snap", "-r", "-", "src", "name"];
        let arguments = Arguments::try_parse_from(line).unwrap();
        assert_eq!(arguments.global.config.as_deref(), Some(Path::new("file")));
        assert!(arguments.global.is_machine && arguments.global.skip_header && arguments.global.human_readable);
        let Command::Backup(backup) = arguments.command else { panic!("backup") };
        assert_eq!((backup.continue_version.as_deref(), backup.snapshot_name.as_str()), (Some("7f3c"), "snap"));
        assert_eq!(backup.rbd.as_deref(), Some(Path::new("-")));
        for wrong in
            [&["backy2", "ls", "-m"][..], &["backy2"], &["backy2", "-m", "--json", "ls"], &["backy2", "-x", "ls"]]
        {
            assert!(Arguments::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }
}
