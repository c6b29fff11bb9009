//! Arguments of the jobs: init, backup, restore.

use std::path::PathBuf;

use backy_core::units::BlockSize;
use clap::{Args, ValueEnum};

use crate::size::{parse_block_size, parse_percent};

/// Make a new repository
///
/// The place must be empty or not exist; a folder is made. The repository is encrypted by a key that only your passphrase
/// or key file opens: without one of them nobody can read the backups, and nobody can help you. `backy2 key add` adds
/// a second one to put away.
///
/// The passphrase is asked twice on the terminal, or taken from where the configuration says (passphrase_file,
/// passphrase_command, key_file). A key file must then be named in the configuration too, or by BACKY2_KEY_FILE.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  backy2 --repository file:///srv/backup init
  backy2 init /srv/backup
  head -c 64 /dev/urandom > /root/backy2.key && chmod 400 /root/backy2.key
  backy2 init --key-file /root/backy2.key file:///srv/backup")]
pub struct Init {
    /// Where: file:///srv/backup, or a path; if not given, what is configured
    pub url: Option<String>,
    /// How to encrypt
    #[arg(long, value_enum, value_name = "HOW", default_value = "aes-256-gcm")]
    pub encryption: Encryption,
    /// Let this file of 32 to 4096 random bytes open the repository, not a passphrase
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// How a new repository is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Encryption {
    /// AES-256-GCM, with a data key that the passphrase or key file opens
    #[value(name = "aes-256-gcm")]
    Aes256Gcm,
    /// Not at all: who can read the store can read the backups
    None,
}

/// Back up a source to a new version
///
/// Only blocks that the repository does not have are stored. By default all of the source is read, apart from its holes.
///
/// With hints (-r) only what they name is read; all else is taken from the base, the version that the hints speak
/// of: by default the newest complete version of NAME, so name another one with -f. Some of what the hints leave out is
/// read all the same, to see whether they are true. If they are not, everything is read, a good version is published,
/// and the exit code is 5.
///
/// Blocks that cannot be read are reported and noted as missing, the version is marked invalid, and the exit code is 20.
/// A backup that was interrupted leaves an incomplete version, which --continue goes on with.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  backy2 backup file:///dev/vg0/mail mail
  backy2 backup -t daily -e 2026-12-31 /var/images/web.img web
  rbd diff --whole-object pool/vm@new --from-snap old --format=json > changed.json
  backy2 backup -s new -r changed.json -f 7f3c0a12 file:///dev/rbd0 vm
  backy2 backup --continue file:///dev/vg0/mail mail")]
pub struct Backup {
    /// What to back up: file:///dev/vg0/mail or a path; null://1GiB is generated data for measuring
    pub source: String,
    /// The name that the versions of this source have in common
    pub name: String,
    /// The name of the source's snapshot, to be found again with `ls -s`
    #[arg(short = 's', long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub snapshot_name: String,
    /// Hints as `rbd diff --format=json` writes them; - is standard input
    #[arg(short = 'r', long, value_name = "FILE")]
    pub rbd: Option<PathBuf>,
    /// The base: what is not read is taken from this version; `none`: it is zero
    #[arg(short = 'f', long, value_name = "VERSION", conflicts_with_all = ["continue_version", "continues"])]
    pub from_version: Option<String>,
    /// Continue this incomplete version, or read again what an invalid one is missing
    #[arg(short = 'c', long, value_name = "VERSION", conflicts_with = "continues")]
    pub continue_version: Option<String>,
    /// Continue the newest incomplete version of this name and source
    #[arg(long = "continue")]
    pub continues: bool,
    /// Tags of the version: up to 16, with commas between them
    #[arg(short = 't', long = "tag", value_name = "A,B")]
    pub tags: Option<String>,
    /// When the version expires: 2026-12-31 or 2026-12-31T12:00, local time
    #[arg(short = 'e', long, value_name = "DATE")]
    pub expire: Option<String>,
    /// Protect the version from being removed
    #[arg(long)]
    pub protect: bool,
    /// Any words about the version
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// The size of blocks: 4KiB to 4MiB, a power of two; a base must have the same
    #[arg(short = 'b', long, value_name = "SIZE", value_parser = parse_block_size)]
    pub block_size: Option<BlockSize>,
    /// How much of the volume is read against the word of the hints: 0 (nothing) to 100; if not given, what is configured
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub audit: Option<f64>,
    /// What to do if the hints are wrong
    #[arg(long, value_enum, value_name = "WHAT", default_value = "full")]
    pub on_mismatch: Mismatch,
    /// Read so much of the finished version back and compare it with the source: 100 is all
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, default_value = "0", hide_default_value = true)]
    pub verify: f64,
    /// Empty hints without a base are meant: the version shall be all zero
    #[arg(long)]
    pub empty_hints_ok: bool,
}

/// What to do if the hints are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mismatch {
    /// Read everything and publish that
    Full,
    /// Stop and publish nothing
    Fail,
}

/// Restore a version to a target
///
/// A target that is not there is made as a sparse file. One that is there, a device say, is overwritten only with --force;
/// it must be large enough, and what lies behind the version's end stays as it is.
///
/// Every block is checked. One that is damaged is reported and left as zeros, the restore goes on to its end, and the
/// exit code is 20. An incomplete version cannot be restored: continue its backup first.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  backy2 restore mail@latest file:///srv/mail.img
  backy2 restore -f mail@2026-11-22 file:///dev/vg0/mail
  backy2 restore -f --delta 7f3c0a12 file:///dev/vg0/mail
  backy2 restore --continue 7f3c0a12 file:///dev/vg0/mail")]
pub struct Restore {
    /// The version: part of its uid, NAME@latest, NAME@2026-11-23
    pub version: String,
    /// Where to: file:///dev/vg0/mail or a path; null:// reads and checks only
    pub target: String,
    /// Write no zeros; on a target that exists only together with --target-is-zeroed
    #[arg(short = 's', long)]
    pub sparse: bool,
    /// Overwrite a target that exists
    #[arg(short = 'f', long)]
    pub force: bool,
    /// The target is all zero, by your word: write no zeros
    #[arg(long)]
    pub target_is_zeroed: bool,
    /// Read the target too, and write only blocks that differ
    #[arg(long)]
    pub delta: bool,
    /// Begin at this block, counted from 0
    #[arg(short = 'c', long, value_name = "N", conflicts_with = "continues")]
    pub continue_from: Option<u64>,
    /// Continue an interrupted restore of this version to this target
    #[arg(long = "continue")]
    pub continues: bool,
}
