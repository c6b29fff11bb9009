//! An export as a block device of this machine: the kernel's own client, /dev/nbdN.
//!
//! The kernel gets one end of a pair of sockets, the other is served like any connection, without a handshake: both sides
//! know what they agreed upon.

use std::fs::{File, OpenOptions};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backy_core::cancel::Cancel;
use backy_core::environment::Environment;
use backy_core::{Error, ErrorKind, Result};
use tracing::{info, warn};

use super::export::Export;
use super::negotiate::Session;
use super::stream::{Socket, Stream};
use super::sys;
use super::transmit::transmit;

/// The unit of the block device: file systems with smaller blocks than the device has are not mounted.
const SECTOR_BYTES: u32 = 512;
const PAUSE: Duration = Duration::from_millis(100);

/// Makes `export` the block device `device` until it is disconnected, or the user stops it.
///
/// # Errors
/// `Busy` if the device is connected already, `InvalidInput` if it is none of nbd.
pub fn connect(device: &Path, export: Arc<Export>, cancel: &Cancel, environment: &Environment) -> Result<()> {
    let failed = |doing: &str, error: std::io::Error| Error::io(format!("{doing} {}", device.display()), error);
    refuse_connected(device)?;
    let file = OpenOptions::new().read(true).write(true).open(device).map_err(|error| failed("open", error))?;
    let (ours, kernels) = UnixStream::pair().map_err(|error| failed("connect", error))?;
    set_up(&file, &kernels, &export).map_err(|errno| match errno {
        rustix::io::Errno::BUSY => Error::new(ErrorKind::Busy, format!("{} is connected already", device.display())),
        rustix::io::Errno::NOTTY => Error::invalid(format!("{} is no device of nbd", device.display())),
        errno => failed("set up", errno.into()),
    })?;
    let size_bytes = export.disk().source().size_bytes();
    let rest_bytes = size_bytes % u64::from(SECTOR_BYTES);
    if rest_bytes > 0 {
        warn!("{} has no room for the last {rest_bytes} bytes", device.display());
    }
    let stream = Stream::new(Arc::new(Socket::Unix(ours)));
    let session = Session { export, has_structured_replies: false, has_allocation: false };
    info!("{} is connected.", device.display());
    let worked = std::thread::scope(|scope| {
        let serving = scope.spawn(|| transmit(&stream, &session));
        let working = scope.spawn(|| sys::work(&file));
        let mut is_disconnecting = false;
        while !working.is_finished() && !serving.is_finished() {
            if cancel.is_cancelled() && !is_disconnecting {
                is_disconnecting = true;
                if let Err(errno) = sys::disconnect(&file) {
                    warn!("{}", failed("disconnect", errno.into()));
                }
            }
            environment.clock.sleep(PAUSE);
        }
        stream.socket().end(Shutdown::Both);
        let worked = working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let served = serving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // The kernel calls it an error when somebody has disconnected the device.
        served.map(|()| worked)
    });
    // It is gone in any case when the file is closed.
    let _ = sys::clear(&file);
    match worked? {
        Ok(()) | Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET | rustix::io::Errno::SHUTDOWN) => Ok(()),
        Err(errno) => Err(failed("serve", errno.into())),
    }
}

fn set_up(device: &File, socket: &UnixStream, export: &Export) -> Result<(), rustix::io::Errno> {
    let size_bytes = export.disk().source().size_bytes();
    sys::set_socket(device, socket.as_fd())?;
    sys::set_block_size(device, SECTOR_BYTES)?;
    sys::set_size_blocks(device, size_bytes / u64::from(SECTOR_BYTES))?;
    sys::set_flags(device, export.flags())
}

/// The kernel shows the process that serves a device.
fn refuse_connected(device: &Path) -> Result<()> {
    let name = device.file_name().unwrap_or_default();
    match std::fs::read_to_string(Path::new("/sys/block").join(name).join("pid")) {
        Ok(pid) => {
            let message = format!("{} is connected already, by process {}", device.display(), pid.trim());
            Err(Error::new(ErrorKind::Busy, message))
        }
        Err(_) => Ok(()),
    }
}
