//! Arguments of `check`.

use clap::Args;

/// Look at the repository as a whole: is everything there, and does it fit together?
///
/// Opens every small object, walks through the block maps of all versions, and looks up in the directories of the packs whether
/// each block is there that a version points to. It does not read the blocks themselves: that is what `scrub` does. It runs beside
/// all other commands, on any host, and goes on to its end whatever it finds.
///
/// Exit code 20 means that something is damaged or missing. What is merely left over is counted; `backy2 cleanup` frees it.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  backy2 check
  backy2 check --repair
  backy2 --json check | jq '.findings[]'")]
pub struct Check {
    /// Make this host's catalog anew, and drop labels of versions that were deleted; all else is left to you
    #[arg(long)]
    pub repair: bool,
}
