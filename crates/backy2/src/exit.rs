//! From an error to what the user sees: what failed, why, what can be done, and a fixed exit code.
//!
//! The codes are documented in `docs/errors.md` and do not change within a major version.

use std::error::Error as _;
use std::process::ExitCode;

use backy_core::{Error, ErrorKind};

use crate::console;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All that was asked for is done.
    Success = 0,
    /// Any other error.
    Other = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// A rule protects what is there.
    Refused = 3,
    /// The version, the source, the repository is not there.
    NotFound = 4,
    /// The hints were wrong.
    WrongHints = 5,
    /// The passphrase or key opens nothing here.
    WrongKey = 6,
    /// The store does not answer, or is full.
    Unavailable = 7,
    /// Finished, but some blocks are damaged, could not be read, or differ.
    Blemished = 20,
    /// Stopped by the user.
    Interrupted = 130,
}

impl Exit {
    /// Returns the code that follows from the kind of an error.
    pub fn of_kind(kind: ErrorKind) -> Exit {
        match kind {
            ErrorKind::NotFound => Exit::NotFound,
            ErrorKind::AlreadyExists | ErrorKind::Refused => Exit::Refused,
            ErrorKind::WrongKey => Exit::WrongKey,
            ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::NoSpace => Exit::Unavailable,
            ErrorKind::Unreadable => Exit::Blemished,
            ErrorKind::Cancelled => Exit::Interrupted,
            _ => Exit::Other,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error on its way to the user.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: Error,
    hints: Vec<String>,
}

impl Failure {
    /// Makes a failure of a wrong command line or configuration.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Usage, error: Error::invalid(message), hints: Vec::new() }
    }

    /// Takes an error whose message says already what can be done.
    pub fn without_hint(error: Error) -> Failure {
        Failure { hints: Vec::new(), ..Failure::from(error) }
    }

    /// Takes a request that cannot be for a wrong command line; other errors keep their code.
    pub fn of_request(error: Error) -> Failure {
        let is_request = error.kind() == ErrorKind::InvalidInput;
        let failure = Failure::from(error);
        if is_request { failure.with_exit(Exit::Usage) } else { failure }
    }

    /// Takes an error about a version that the command line names.
    pub fn of_version(error: Error) -> Failure {
        let is_missing = error.kind() == ErrorKind::NotFound;
        let failure = Failure::of_request(error);
        if is_missing { failure.hint("`backy2 ls` lists what there is") } else { failure }
    }

    /// Returns the same failure with another exit code.
    pub fn with_exit(mut self, exit: Exit) -> Failure {
        self.exit = exit;
        self
    }

    /// Adds a line that says what can be done.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }

    /// Returns how the program ends.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// Writes the failure to standard error; with its kind for those who look closer.
    pub fn print(&self, shows_kind: bool) {
        let kind = if shows_kind { format!(" [{:?}]", self.error.kind()) } else { String::new() };
        console::message(&format!("error: {}{kind}", self.error));
        let message = self.error.to_string();
        let mut source = self.error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // A library may repeat what its own source says.
            if !message.contains(&text) {
                console::message(&format!("  why: {text}"));
            }
            source = cause.source();
        }
        for hint in &self.hints {
            console::message(&format!("hint: {hint}"));
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let hints = hint_of_kind(error.kind()).map(str::to_owned).into_iter().collect();
        Failure { exit: Exit::of_kind(error.kind()), error, hints }
    }
}

/// What can be done whatever the command was.
fn hint_of_kind(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::WrongKey => Some("`backy2 config show` says which passphrase or key file is in use"),
        ErrorKind::Busy => Some("somebody else is at work on it; `backy2 leases` lists the jobs"),
        ErrorKind::Unavailable => Some("is the store mounted and reachable? then try again"),
        ErrorKind::PermissionDenied => Some("run it as a user who may; or is it mounted read-only?"),
        ErrorKind::SourceChanged => Some("nothing was published; back up a snapshot, which does not change"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_documented_codes() {
        let codes = [
            (ErrorKind::NotFound, 4),
            (ErrorKind::AlreadyExists, 3),
            (ErrorKind::InvalidInput, 1),
            (ErrorKind::Unsupported, 1),
            (ErrorKind::Damaged, 1),
            (ErrorKind::WrongKey, 6),
            (ErrorKind::Refused, 3),
            (ErrorKind::Busy, 7),
            (ErrorKind::Unavailable, 7),
            (ErrorKind::NoSpace, 7),
            (ErrorKind::PermissionDenied, 1),
            (ErrorKind::Unreadable, 20),
            (ErrorKind::SourceChanged, 1),
            (ErrorKind::Cancelled, 130),
            (ErrorKind::Io, 1),
        ];
        for (kind, code) in codes {
            assert_eq!(Exit::of_kind(kind) as u8, code, "{kind:?}");
        }
    }

    #[test]
    fn only_a_bad_request_becomes_a_usage_error() {
        assert_eq!(Failure::of_request(Error::invalid("x")).exit(), Exit::Usage);
        assert_eq!(Failure::of_request(Error::new(ErrorKind::NotFound, "x")).exit(), Exit::NotFound);
    }
}
