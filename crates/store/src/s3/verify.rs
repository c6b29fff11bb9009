//! Is what the server has stored what was sent?
//!
//! Each put carries the SHA-256 of its body in its signature, so a server that looks at signatures refuses a body that
//! was changed on its way. It answers with an entity tag, and for a plain put that is the MD5 of what it has stored, at
//! AWS, Ceph, Garage, MinIO. MD5 is no protection against an attacker, and need not be one here.
//!
//! ```text
//!  the tag is the MD5 of the body          -> verified, no further request
//!  it is not: the object is read back      -> it differs: the put has failed
//!                                          -> it is equal: this server has other tags (encryption by its keys, say);
//!                                             from now on, the length is asked for, and the signature's SHA-256 trusted
//! ```

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use md5::{Digest, Md5};

/// What is known of a server's entity tags.
#[derive(Debug, Default)]
pub(super) struct Tags {
    are_others: AtomicBool,
}

/// What must still be done to verify a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing: the tag has shown it.
    Done,
    /// Read the object back and compare.
    Content,
    /// Ask for its length.
    Length,
}

impl Tags {
    /// Says what the tag of an answer leaves to be done.
    pub(super) fn check(&self, body: &[u8], tag: Option<&str>) -> Check {
        if self.are_others.load(Ordering::Relaxed) {
            return Check::Length;
        }
        let is_md5 = tag.is_some_and(|tag| tag.trim_matches('"').eq_ignore_ascii_case(&md5_hex(body)));
        if is_md5 { Check::Done } else { Check::Content }
    }

    /// Notes that an object was right although its tag was not its MD5.
    pub(super) fn note_others(&self) {
        self.are_others.store(true, Ordering::Relaxed);
    }
}

fn md5_hex(body: &[u8]) -> String {
    let mut hex = String::with_capacity(32);
    for byte in Md5::digest(body) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_shows_the_content_or_the_content_is_looked_at() {
        let tags = Tags::default();
        assert_eq!(tags.check(b"abc", Some("\"900150983cd24fb0d6963f7d28e17f72\"")), Check::Done);
        assert_eq!(tags.check(b"abc", Some("900150983CD24FB0D6963F7D28E17F72")), Check::Done);
        for tag in [None, Some("\"900150983cd24fb0d6963f7d28e17f73\""), Some("\"x-1\""), Some("")] {
            assert_eq!(tags.check(b"abc", tag), Check::Content, "{tag:?}");
        }
        tags.note_others();
        assert_eq!(tags.check(b"abc", Some("\"x\"")), Check::Length);
    }
}
