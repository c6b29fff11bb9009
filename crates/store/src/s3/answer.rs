//! What a server answered, and what the caller can do about it.
//!
//! The client library keeps the status and the text of an error to itself, so the transport notes them here: one
//! [`Conversation`] for each call of the store, in which the last request counts.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backy_core::{Error, ErrorKind};
use tokio::time::Instant;

/// What a call of the store has seen so far.
#[derive(Debug)]
pub(super) struct Conversation(Mutex<State>);

/// The state of a conversation.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// When the last byte moved, in either direction.
    pub(super) moved_at: Instant,
    /// The status of the last answer, if it has begun.
    pub(super) status: Option<u16>,
    /// The error code in the body of the last answer, as `NoSuchKey`.
    pub(super) code: Option<String>,
    /// How long the server asks us to stay away.
    pub(super) retry_after: Option<Duration>,
    /// What went wrong below HTTP.
    pub(super) failure: Option<Failure>,
    /// Whether the last request was to whoever hands out credentials.
    pub(super) is_about_credentials: bool,
}

/// What went wrong below HTTP.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// In words.
    pub(super) text: String,
    /// Whether the other side did not prove who it is.
    pub(super) is_distrust: bool,
}

impl Conversation {
    pub(super) fn new() -> Conversation {
        Conversation(Mutex::new(State {
            moved_at: Instant::now(),
            status: None,
            code: None,
            retry_after: None,
            failure: None,
            is_about_credentials: false,
        }))
    }

    /// Notes that a byte has moved.
    pub(super) fn moved(&self) {
        self.lock().moved_at = Instant::now();
    }

    /// Begins a request: what was noted of the one before is forgotten.
    pub(super) fn begin(&self, is_about_credentials: bool) {
        let mut state = self.lock();
        *state = State {
            moved_at: Instant::now(),
            status: None,
            code: None,
            retry_after: None,
            failure: None,
            is_about_credentials,
        };
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was asked for, where that changes what an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To delete something.
    Delete,
    /// Anything else.
    Other,
}

/// Returns our error for a call that failed; `said` is what the client library says.
pub(super) fn error(state: &State, asked: Asked, doing: &str, said: &str) -> Error {
    if let Some(failure) = &state.failure {
        let kind = if failure.is_distrust { ErrorKind::PermissionDenied } else { ErrorKind::Unavailable };
        let of_whom = if state.is_about_credentials { "no keys are configured, and the machine's role: " } else { "" };
        return Error::new(kind, format!("{doing}: {of_whom}{}", failure.text));
    }
    let code = state.code.as_deref().unwrap_or_default();
    match state.status {
        Some(status) if !(200..300).contains(&status) => {
            let kind = kind(status, code, asked, state.is_about_credentials);
            let code = if code.is_empty() { String::new() } else { format!(" {code}") };
            let hint = hint(status, state.code.as_deref().unwrap_or_default(), state.is_about_credentials);
            Error::new(kind, format!("{doing}: the server answers {status}{code}{hint}"))
        }
        // An answer that means success, but not to us: garbled on its way, or by a gateway that is no S3.
        Some(_) => Error::new(ErrorKind::Unavailable, format!("{doing}: the answer makes no sense: {said}")),
        None if state.is_about_credentials => {
            Error::new(ErrorKind::PermissionDenied, format!("{doing}: there are no credentials: {said}"))
        }
        None => Error::new(ErrorKind::InvalidInput, format!("{doing}: {said}")),
    }
}

fn kind(status: u16, code: &str, asked: Asked, is_about_credentials: bool) -> ErrorKind {
    if is_about_credentials {
        return if status >= 500 || status == 429 { ErrorKind::Unavailable } else { ErrorKind::PermissionDenied };
    }
    match (status, code) {
        (_, "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded") | (507, _) => ErrorKind::NoSpace,
        (404, _) => ErrorKind::NotFound,
        // What is protected against deletion answers like what is not allowed at all; who asks can only wait.
        (403, "AccessDenied" | "") | (_, "ObjectLocked") if asked == Asked::Delete => ErrorKind::Refused,
        (401 | 403, _) | (400, "ExpiredToken" | "InvalidToken" | "AuthorizationHeaderMalformed") => {
            ErrorKind::PermissionDenied
        }
        (429 | 503, _) | (409, _) | (_, "SlowDown") => ErrorKind::Busy,
        // The body was changed or cut on its way: the next time it may come through.
        (400, "BadDigest" | "IncompleteBody" | "XAmzContentSHA256Mismatch" | "RequestTimeout" | "InvalidDigest") => {
            ErrorKind::Unavailable
        }
        (501, _) => ErrorKind::Unsupported,
        (408, _) => ErrorKind::Unavailable,
        (300..400, _) => ErrorKind::InvalidInput,
        (500.., _) => ErrorKind::Unavailable,
        _ => ErrorKind::Io,
    }
}

fn hint(status: u16, code: &str, is_about_credentials: bool) -> &'static str {
    match (status, code) {
        _ if is_about_credentials => " when asked for credentials",
        (404, "NoSuchBucket") => "; the bucket must be there before a repository can be made in it",
        (_, "RequestTimeTooSkewed") => "; the clock of this machine or of the server is wrong",
        (_, "SignatureDoesNotMatch") => "; the secret key is wrong, or a gateway changes requests",
        (_, "InvalidAccessKeyId") => "; the access key id is wrong",
        (300..400, _) | (_, "AuthorizationHeaderMalformed") => "; the region or endpoint is wrong",
        _ => "",
    }
}

/// Finds the text between `<Code>` and `</Code>` in an answer's body.
pub(super) fn code_in(body: &str) -> Option<String> {
    let (_, rest) = body.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_plain = !code.is_empty() && code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_plain.then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, code: &str, asked: Asked) -> Error {
        let conversation = Conversation::new();
        {
            let mut state = conversation.lock();
            state.status = Some(status);
            state.code = Some(code.to_owned()).filter(|code| !code.is_empty());
        }
        let state = conversation.lock().clone();
        error(&state, asked, "put a", "it failed")
    }

    #[test]
    fn answers_mean_what_the_caller_can_do() {
        use ErrorKind::{Busy, Io, NoSpace, NotFound, PermissionDenied, Refused, Unavailable, Unsupported};
        for (status, code, kind) in [
            (404, "NoSuchKey", NotFound),
            (404, "NoSuchBucket", NotFound),
            (403, "AccessDenied", PermissionDenied),
            (403, "SignatureDoesNotMatch", PermissionDenied),
            (403, "RequestTimeTooSkewed", PermissionDenied),
            (403, "QuotaExceeded", NoSpace),
            (507, "XMinioStorageFull", NoSpace),
            (503, "SlowDown", Busy),
            (503, "", Busy),
            (429, "", Busy),
            (409, "OperationAborted", Busy),
            (500, "InternalError", Unavailable),
            (502, "", Unavailable),
            (504, "", Unavailable),
            (408, "", Unavailable),
            (400, "RequestTimeout", Unavailable),
            (400, "XAmzContentSHA256Mismatch", Unavailable),
            (400, "InvalidArgument", Io),
            (501, "NotImplemented", Unsupported),
            (301, "PermanentRedirect", ErrorKind::InvalidInput),
            (200, "", Unavailable),
        ] {
            let error = answered(status, code, Asked::Other);
            assert_eq!(error.kind(), kind, "{status} {code}: {error}");
        }
        assert_eq!(answered(403, "AccessDenied", Asked::Delete).kind(), Refused);
        assert_eq!(answered(400, "ObjectLocked", Asked::Delete).kind(), Refused);
        assert_eq!(answered(403, "SignatureDoesNotMatch", Asked::Delete).kind(), PermissionDenied);
        let said = answered(403, "RequestTimeTooSkewed", Asked::Other).to_string();
        assert!(said.contains("put a: the server answers 403 RequestTimeTooSkewed; the clock"), "{said}");
    }

    #[test]
    fn only_a_plain_code_is_taken_from_a_body() {
        assert_eq!(code_in("<Error><Code>NoSuchKey</Code><Message/></Error>").as_deref(), Some("NoSuchKey"));
        for body in ["", "<Code></Code>", "<Code>a b</Code>", "<Code>x", "<html>Error</html>"] {
            assert_eq!(code_in(body), None, "{body}");
        }
    }
}
