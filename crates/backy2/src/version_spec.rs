//! How a user names a version.
//!
//! ```text
//!  7f3c0a12                  beginning or end of the uid, 4 digits or more; hyphens do not matter
//!  vm1@latest                the newest complete version of vm1
//!  vm1@2026-11-23            its newest of that day; also of an hour, a minute, a second: vm1@2026-11-23T14:05
//! ```
//!
//! A name may hold `@`: what stands behind the last one counts.

use backy_engine::repository::versions::VersionSpec;
use jiff::tz::TimeZone;

use crate::dates;
use crate::exit::Failure;

const DIGITS_MIN: usize = 4;
const DIGITS_MAX: usize = 32;

/// Reads how a user names a version; dates are of `zone`.
pub fn parse(text: &str, zone: &TimeZone) -> Result<VersionSpec, Failure> {
    match text.rsplit_once('@') {
        Some(("", _)) => Err(Failure::usage(format!("{text:?} has no name before the @"))),
        Some((name, "latest")) => Ok(VersionSpec::Latest { name: name.to_owned() }),
        Some((name, date)) => {
            let (from, to) = dates::parse_span(date, zone)
                .map_err(|error| Failure::usage(error).hint(format!("the newest version: {name}@latest")))?;
            Ok(VersionSpec::Within { name: name.to_owned(), from, to })
        }
        None => parse_uid(text),
    }
}

fn parse_uid(text: &str) -> Result<VersionSpec, Failure> {
    let digits: String = text.chars().filter(|&letter| letter != '-').collect();
    let is_uid =
        (DIGITS_MIN..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_uid {
        return Ok(VersionSpec::Uid(digits.to_ascii_lowercase()));
    }
    let message =
        format!("{text:?} names no version; a uid has hex digits, and {DIGITS_MIN} of them at least are needed");
    Err(Failure::usage(message).hint(format!("the newest version of a name is {text}@latest; `backy2 ls` lists all")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> VersionSpec {
        parse(text, &TimeZone::UTC).unwrap()
    }

    #[test]
    fn uids_may_be_short_and_have_hyphens() {
        assert_eq!(parsed("7F3C-0a12"), VersionSpec::Uid("7f3c0a12".to_owned()));
        for bad in ["7f3", "vm1", "", "0123456789abcdef0123456789abcdef0", "7f3c0a1x"] {
            assert!(parse(bad, &TimeZone::UTC).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_split_at_the_last_at() {
        assert_eq!(parsed("root@vm1@latest"), VersionSpec::Latest { name: "root@vm1".to_owned() });
        assert!(matches!(parsed("vm1@2026-11-23"), VersionSpec::Within { name, .. } if name == "vm1"));
        assert!(parse("@latest", &TimeZone::UTC).is_err());
        assert!(parse("vm1@newest", &TimeZone::UTC).is_err());
    }
}
