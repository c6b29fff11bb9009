//! The arguments of `nbd`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use crate::size::parse_size;

/// Serve versions as disks over NBD
///
/// Clients are qemu, nbdcopy, nbdfuse, the Linux kernel (nbd-client) and others. A VM can boot from it at once. The name of
/// an export is the uid of a version, or NAME@latest, which means the newest one when the first client opens it. Without
/// VERSION all versions are served; with one, clients may leave the name of the export away.
///
/// The versions are never changed. Clients that want to write need --writable: what they write goes to a file of its own
/// and is gone when this command ends, or is kept in the file that --overlay names.
///
/// It serves until it is stopped with Ctrl-C or SIGTERM. A block that is damaged is an input/output error for the client,
/// and only that one; the log says which. Over a network, use TLS: NBD itself knows no passwords.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  backy2 nbd
  backy2 nbd mail@latest
  backy2 nbd --writable -u /run/mail.nbd 7f3c0a12
  backy2 nbd --overlay mail.overlay mail@2026-11-22
  backy2 nbd --connect /dev/nbd0 mail@latest

  qemu-img convert nbd://127.0.0.1/mail@latest mail.qcow2
  qemu-system-x86_64 -m 2G -drive 'file=nbd+unix:///?socket=/run/mail.nbd,format=raw,if=virtio'")]
pub struct Nbd {
    /// The versions: part of a uid, NAME@latest, NAME@2026-11-23; if none is given, all
    #[arg(value_name = "VERSION")]
    pub versions: Vec<String>,
    /// The address to listen on
    #[arg(short = 'a', long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub bind_address: IpAddr,
    /// The port to listen on; 0: any that is free
    #[arg(short = 'p', long, value_name = "PORT", default_value = "10809")]
    pub bind_port: u16,
    /// Listen on a Unix socket instead
    #[arg(short = 'u', long = "unix", value_name = "PATH", conflicts_with_all = ["bind_address", "bind_port"])]
    pub socket: Option<PathBuf>,
    /// Let clients write; what they write is gone when the command ends
    #[arg(short = 'w', long = "writable")]
    pub is_writable: bool,
    /// Let clients write, and keep what they write in this file; for a single version
    #[arg(long, value_name = "FILE")]
    pub overlay: Option<PathBuf>,
    /// Where what is written lies meanwhile; if not given, in the state directory
    #[arg(long, value_name = "FOLDER", conflicts_with = "overlay")]
    pub scratch_dir: Option<PathBuf>,
    /// Make the version this block device (/dev/nbd0) of this machine instead of listening; needs root
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["bind_address", "bind_port", "socket", "tls_certificate"])]
    pub connect: Option<PathBuf>,
    /// Use TLS: the certificate of the server and those up to its authority, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// The key of the certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Let in only clients with a certificate of this authority, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_client_authority: Option<PathBuf>,
    /// How much memory to use for blocks that were read
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "128MiB")]
    pub cache_size: u64,
    /// How many seconds a client waits for the store before its read fails
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub timeout: u64,
}
