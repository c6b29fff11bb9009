//! From our errors to the numbers that a program sees, and a word in the log that does not come too often.

use std::sync::Mutex;
use std::time::Duration;

use backy_core::{Error, ErrorKind};
use fuser::Errno;
use tracing::warn;

/// What does not concern one block alone is logged so often at most.
const PAUSE: Duration = Duration::from_secs(10);

/// Returns the number for an error of opening something or of changing a label.
pub(super) fn of_request(error: &Error) -> Errno {
    match error.kind() {
        ErrorKind::NotFound => Errno::ENOENT,
        ErrorKind::InvalidInput => Errno::EINVAL,
        ErrorKind::Refused | ErrorKind::Busy => Errno::EBUSY,
        ErrorKind::PermissionDenied => Errno::EACCES,
        ErrorKind::NoSpace => Errno::ENOSPC,
        _ => Errno::EIO,
    }
}

/// Returns the number for an error of reading or writing content.
pub(super) fn of_content(error: &Error) -> Errno {
    if error.kind() == ErrorKind::NoSpace { Errno::ENOSPC } else { Errno::EIO }
}

/// Logs errors, and passes over those that come right behind another one.
#[derive(Default)]
pub(super) struct Complaints {
    last: Mutex<Option<Duration>>,
}

impl Complaints {
    /// Logs an error at the time `now`. A bad block is passed over: the view has logged it, once and with its place.
    pub(super) fn note(&self, doing: &str, error: &Error, now: Duration) {
        if error.kind() == ErrorKind::Unreadable {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.is_none_or(|last| now.saturating_sub(last) >= PAUSE) {
            *last = Some(now);
            warn!("{doing}: {error}");
        }
    }
}
