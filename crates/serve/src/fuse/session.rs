//! A mount while it lives: its threads, and its end.
//!
//! ```text
//!  unmount  --nobody uses it-->  gone
//!     |
//!     +--in use-->  out of the tree, so nothing new is opened  --last file closed-->  gone
//! ```
//!
//! A program that ends in the middle of that takes the rest with it: no mount is left behind without one.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use backy_core::cancel::Cancel;
use backy_core::{Error, ErrorKind, Result};
use fuser::{Config, MountOption, Session, SessionACL, SessionUnmounter};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use tracing::{info, warn};

use super::mounted::MountedVersions;
use super::mountpoint;

/// How many questions of the kernel are answered at once.
const THREADS: usize = 16;
/// How often is looked whether the user wants to stop.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);

/// A mount. It ends with this value.
pub struct Mounted {
    mountpoint: PathBuf,
    unmounter: Option<SessionUnmounter>,
    thread: Option<JoinHandle<()>>,
    ended: Receiver<std::io::Result<()>>,
}

impl Mounted {
    pub(super) fn begin(versions: MountedVersions, mountpoint: PathBuf) -> Result<Mounted> {
        let mut config = Config::default();
        config.acl = if versions.owner.allows_others { SessionACL::All } else { SessionACL::Owner };
        config.mount_options = vec![
            MountOption::FSName("backy2".to_owned()),
            MountOption::DefaultPermissions,
            MountOption::NoAtime,
            MountOption::NoExec,
        ];
        config.n_threads = Some(THREADS);
        config.clone_fd = true;
        let mut session =
            Session::new(versions, &mountpoint, &config).map_err(|error| mountpoint::explain(&mountpoint, error))?;
        let unmounter = Some(session.unmount_callable());
        let (sender, ended) = sync_channel(1);
        let run = move || {
            // It fails if nobody waits any more.
            let _ = sender.send(session.run());
        };
        let thread = std::thread::Builder::new().name("fuse".to_owned()).spawn(run);
        let thread = thread.map_err(|error| Error::io("start the thread of the mount", error))?;
        Ok(Mounted { mountpoint, unmounter, thread: Some(thread), ended })
    }

    /// Waits until somebody has unmounted it, or the user wants to stop: then it is unmounted here, and waited for those
    /// who use it still.
    pub fn wait(mut self, cancel: &Cancel) -> Result<()> {
        loop {
            match self.ended.recv_timeout(CANCEL_INTERVAL) {
                Ok(ended) => return self.end(ended),
                Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => {
                    self.unmount()?;
                    let gone = |_| Error::new(ErrorKind::Io, "the thread of the mount has ended without a word");
                    let ended = self.ended.recv().map_err(gone)?;
                    return self.end(ended);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(ErrorKind::Io, "the thread of the mount has ended without a word"));
                }
            }
        }
    }

    /// Takes the mount out of the tree. It is gone when nobody uses it any more.
    fn unmount(&mut self) -> Result<()> {
        let Some(mut unmounter) = self.unmounter.take() else { return Ok(()) };
        let Err(error) = unmounter.unmount() else { return Ok(()) };
        let name = self.mountpoint.display();
        if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) {
            info!("{name} is in use still; what is open is served until it is closed");
            let detached = rustix::mount::unmount(&self.mountpoint, UnmountFlags::DETACH);
            return detached.map_err(|error| Error::io(format!("unmount {name}"), error.into()));
        }
        Err(Error::io(format!("unmount {name}"), error))
    }

    fn end(&mut self, ended: std::io::Result<()>) -> Result<()> {
        // What is mounted there now is somebody else's.
        self.unmounter = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        match ended {
            // How the kernel says to one of the threads that the mount is gone: it is what was waited for.
            Err(error) if error.raw_os_error() == Some(Errno::CONNABORTED.raw_os_error()) => Ok(()),
            ended => ended.map_err(|error| Error::io(format!("serve {}", self.mountpoint.display()), error)),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.thread.is_some()
            && let Err(error) = self.unmount()
        {
            warn!("{error}");
        }
    }
}
