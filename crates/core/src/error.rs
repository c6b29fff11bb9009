//! The error of all crates: a small stable kind, what was being done, and what was behind it.
//!
//! The kind answers "what can the caller do?". The text says what was being done, from the outermost step to the
//! innermost one; [`Error::source`](std::error::Error::source) keeps what another library or the system said.

use std::fmt;

/// What the caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// It is not there.
    NotFound,
    /// It is there already, and may not be overwritten.
    AlreadyExists,
    /// The caller asked for something that cannot be: change the request.
    InvalidInput,
    /// This program is too old or too small for it: a newer format, an unknown suite.
    Unsupported,
    /// Stored bytes are not what was stored.
    Damaged,
    /// The passphrase or key does not open it.
    WrongKey,
    /// A rule protects it: young, protected, in use. Force or wait.
    Refused,
    /// Somebody else is using it right now: try again soon.
    Busy,
    /// The other side does not answer, or answers for now with an error: try again later.
    Unavailable,
    /// There is no room left.
    NoSpace,
    /// The system does not let us.
    PermissionDenied,
    /// The device could not read these bytes.
    Unreadable,
    /// The source changed while it was read.
    SourceChanged,
    /// The user stopped the job.
    Cancelled,
    /// Any other answer of the operating system.
    Io,
}

/// An error with its kind, what was being done, and its source.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error of which nothing but our own words is known.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), source: None }
    }

    /// Makes an error on top of what another library said.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error { kind, message: message.into(), source: Some(source.into()) }
    }

    /// Makes an error from an answer of the operating system; the kind follows from it.
    pub fn io(message: impl Into<String>, source: std::io::Error) -> Error {
        Error { kind: kind_of_io(&source), message: message.into(), source: Some(Box::new(source)) }
    }

    /// Makes an error about stored bytes that are not what was stored.
    pub fn damaged(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Damaged, message)
    }

    /// Makes an error about a request that cannot be.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidInput, message)
    }

    /// Returns what the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Puts what was being done in front of the message.
    pub fn context(mut self, doing: impl fmt::Display) -> Error {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// Returns the same error under another kind, where the caller knows better what can be done.
    pub fn with_kind(mut self, kind: ErrorKind) -> Error {
        self.kind = kind;
        self
    }
}

fn kind_of_io(error: &std::io::Error) -> ErrorKind {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::NotFound => ErrorKind::NotFound,
        Io::AlreadyExists => ErrorKind::AlreadyExists,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::NoSpace,
        Io::ResourceBusy => ErrorKind::Busy,
        Io::TimedOut
        | Io::ConnectionReset
        | Io::ConnectionRefused
        | Io::ConnectionAborted
        | Io::StaleNetworkFileHandle => ErrorKind::Unavailable,
        _ => ErrorKind::Io,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)?;
        match &self.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// Adds what was being done to the error of a result.
pub trait ResultExt<T> {
    /// Puts `doing()` in front of the error's message.
    fn context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T>;
}

impl<T> ResultExt<T> for Result<T> {
    fn context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.context(doing()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_is_read_from_the_outside_in() {
        let error = Error::io("open it", std::io::Error::from(std::io::ErrorKind::StorageFull));
        let error = Err::<(), _>(error).context(|| "put pack 1f3a").unwrap_err();
        assert_eq!(error.to_string(), "put pack 1f3a: open it");
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(std::error::Error::source(&error).is_some());
    }
}
