//! Arguments of the commands that show and change versions.

use clap::Args;

/// List versions
///
/// In the table, uids are their last 8 digits, dates are local time, and the state is valid, INVALID (some blocks are
/// missing or damaged) or incomplete (the backup did not end). With -m the fields are those of the Python version of backy2, where
/// `valid` is 0 or 1 and dates are UTC.
#[derive(Debug, Args)]
#[command(after_help = "\
FIELDS
  date, name, snapshot_name, size (in blocks), size_bytes, uid, valid, protected, tags, expire,
  state, note, base, source, host, block_size, encryption (its version; 0 is none)

EXAMPLES
  backy2 ls
  backy2 -r ls -t daily mail
  backy2 -ms ls -e -f uid
  backy2 --json ls mail")]
pub struct Ls {
    /// Only versions of this name
    pub name: Option<String>,
    /// Only versions with this snapshot name
    #[arg(short = 's', long, value_name = "NAME")]
    pub snapshot_name: Option<String>,
    /// Only versions with this tag
    #[arg(short = 't', long, value_name = "TAG")]
    pub tag: Option<String>,
    /// Only versions that have expired
    #[arg(short = 'e', long)]
    pub expired: bool,
    /// The fields to show, with commas between them
    #[arg(short = 'f', long, value_name = "A,B")]
    pub fields: Option<String>,
}

/// Show what backups read, found and stored
///
/// One line for each complete version, the oldest first. Bytes are those of the volume, but `bytes stored`, which is what
/// the backup's packs take in the store, compressed.
#[derive(Debug, Args)]
#[command(after_help = "\
FIELDS
  date, uid, name, size bytes, size blocks, bytes read, bytes unread (taken from the base),
  bytes dedup (in the repository already), bytes sparse (holes and zeros), bytes new,
  bytes missing (could not be read), bytes audited (to check hints), bytes stored, packs,
  duration (s)

EXAMPLES
  backy2 -r stats
  backy2 stats mail@latest
  backy2 -m stats -l 10 -f 'date,name,bytes new,bytes stored'")]
pub struct Stats {
    /// Only this version
    pub version: Option<String>,
    /// The fields to show, with commas between them
    #[arg(short = 'f', long, value_name = "A,B")]
    pub fields: Option<String>,
    /// Only the newest so many
    #[arg(short = 'l', long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Remove versions
///
/// A removed version is gone from all lists at once. The space that its blocks take is freed by `backy2 cleanup`.
///
/// Young versions are refused (disallow_rm_when_younger_than_days in the configuration) unless forced; protected ones
/// always. Each version is looked at by itself: one that is refused does not stop the others.
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES\n  backy2 rm 7f3c0a12\n  backy2 rm -f mail@latest\n  backy2 rm $(backy2 -ms ls -e -f uid)"
)]
pub struct Rm {
    /// Remove young versions too
    #[arg(short = 'f', long)]
    pub force: bool,
    /// The versions
    #[arg(required = true, value_name = "VERSION")]
    pub versions: Vec<String>,
}

/// Protect a version from being removed
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  backy2 protect mail@latest")]
pub struct Protect {
    /// The version
    pub version: String,
}

/// Let a version be removed again
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  backy2 unprotect 7f3c0a12")]
pub struct Unprotect {
    /// The version
    pub version: String,
}

/// Add tags to a version; those that it has already stay
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  backy2 add-tag mail@latest before-upgrade,keep")]
pub struct AddTag {
    /// The version
    pub version: String,
    /// The tags, with commas between them
    #[arg(value_name = "A,B")]
    pub tags: String,
}

/// Remove tags from a version; those that it does not have are passed over
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  backy2 remove-tag 7f3c0a12 keep")]
pub struct RemoveTag {
    /// The version
    pub version: String,
    /// The tags, with commas between them
    #[arg(value_name = "A,B")]
    pub tags: String,
}

/// Set when a version expires
///
/// Nothing is removed by itself: `backy2 ls -e` lists what has expired.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  backy2 expire mail@latest 2026-12-31\n  backy2 expire 7f3c0a12 never")]
pub struct Expire {
    /// The version
    pub version: String,
    /// 2026-12-31 or 2026-12-31T12:00, local time; `never` or an empty text: it does not expire
    pub date: String,
}
