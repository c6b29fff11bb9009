//! The arguments of `scrub`.

use clap::Args;

use crate::size::parse_percent;

/// Read what is stored and check it
///
/// Each block and each part of a block map is opened and compared with its fingerprint; what several versions share is
/// read once. What is damaged is noted in the repository: every version that has it is marked invalid, wherever it was
/// found, and the next backup reads those blocks again. The scrub goes on to its end, and the exit code is 20.
///
/// With the source (-s) the version is compared with it, zero blocks included, and damaged blocks that the source still has
/// are healed. Compare with the snapshot that was backed up, not with a disk that has changed since.
///
/// A share (-p) never marks a version valid. A scrub of everything does, if it finds good what was noted as damaged.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  backy2 scrub mail@latest
  backy2 scrub --all -p 16 --since-last
  backy2 scrub --name mail
  backy2 scrub -s file:///dev/vg0/mail-snapshot mail@latest")]
pub struct Scrub {
    /// The versions: part of the uid, NAME@latest, NAME@2026-11-23
    #[arg(value_name = "VERSION", required_unless_present_any = ["all", "name"], conflicts_with_all = ["all", "name"])]
    pub versions: Vec<String>,
    /// All complete versions
    #[arg(long, conflicts_with = "name")]
    pub all: bool,
    /// All complete versions of this name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Read only so much, in whole packs: up to 100; what is read is drawn by chance
    #[arg(short = 'p', long = "percent", value_name = "PERCENT", value_parser = parse_percent)]
    pub percent: Option<f64>,
    /// Of a share, read first what was read longest ago, as far as this host knows
    #[arg(long, requires = "percent")]
    pub since_last: bool,
    /// Compare with this source, and heal from it; one version only
    #[arg(short = 's', long, value_name = "SOURCE", conflicts_with_all = ["all", "name"])]
    pub source: Option<String>,
}
