//! The arguments of `fuse`.

use std::path::PathBuf;

use clap::Args;

use crate::size::parse_size;

/// Mount all versions as files
///
/// MOUNTPOINT is an empty folder. In it are by_version_uid/UID/ with the file `data`, which is the content of the version,
/// and small files with what is known of it, and the links by_version/NAME@DATE and by_name/NAME/DATE, by_name/NAME/latest. Dates are UTC. A
/// slash, a percent sign, control characters and a dot at the beginning of a name are written as %2F, %25 and so on.
///
/// `data` can be read and written, mounted with `mount -o loop`, or given to a VM. The version is never changed: what is
/// written lies beside it, is seen by everybody who reads this mount, and is gone when it ends, or is kept in the folder
/// that --overlay-dir names. The files tags, expire and protected change the version's label when they are written.
///
/// It serves until it is unmounted (umount MOUNTPOINT), or stopped with Ctrl-C or SIGTERM; then what is open is served until it
/// is closed. A block that is damaged is an input/output error for the reader, and only that one; the log says which.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  backy2 fuse /mnt
  backy2 fuse --daemon /mnt && mount -o loop,ro /mnt/by_name/mail/latest/data /media
  cp --sparse=always /mnt/by_version/mail@2026-11-23T02:00:00Z/data mail.img
  echo daily,keep > /mnt/by_name/mail/latest/tags
  umount /mnt")]
pub struct Fuse {
    /// The folder
    pub mountpoint: PathBuf,
    /// Return as soon as it is mounted, and go on in the background
    #[arg(long = "daemon")]
    pub is_daemon: bool,
    /// Let all other users of this machine read all versions, and write to `data`
    #[arg(long)]
    pub allow_other: bool,
    /// Keep what is written in this folder, in a file for each version; a later mount finds it again
    #[arg(long, value_name = "FOLDER")]
    pub overlay_dir: Option<PathBuf>,
    /// Where what is written lies meanwhile; if not given, in the state directory
    #[arg(long, value_name = "FOLDER", conflicts_with = "overlay_dir")]
    pub scratch_dir: Option<PathBuf>,
    /// How much memory to use for blocks that were read
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "128MiB")]
    pub cache_size: u64,
    /// How many seconds a reader waits for the store before its read fails
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub timeout: u64,
}
