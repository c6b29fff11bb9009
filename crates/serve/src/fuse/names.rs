//! Names and dates as the mount shows them: any name as one plain file name, and no two names as the same one.
//!
//! ```text
//!  /  %  control characters, a dot at the beginning     %2F %25 %0A %2E: the bytes in hex
//!  what is longer than 150 bytes then                   its beginning, %+, and 32 hex digits of its hash
//! ```
//!
//! `%` never stands for itself, so no name can look like another one that was escaped. Dates are UTC and end with `Z`, so
//! that no hour comes twice in a year.

use backy_core::environment::Timestamp;
use backy_core::records::label::Expiry;
use backy_core::{Error, Result};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

/// The longest escaped name, in bytes: with a date and a uid behind it, it still fits the 255 bytes of a file name.
const NAME_BYTES_MAX: usize = 150;
/// How many hex digits of the hash stand behind a name that was cut.
const HASH_DIGITS: usize = 32;

/// Writes a name of a backup as a file name.
pub(super) fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (position, letter) in name.char_indices() {
        let is_odd = letter.is_control() || matches!(letter, '/' | '%') || (letter == '.' && position == 0);
        if is_odd {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        } else {
            escaped.push(letter);
        }
    }
    if escaped.len() <= NAME_BYTES_MAX {
        return escaped;
    }
    let mut end = NAME_BYTES_MAX - HASH_DIGITS - "%+".len();
    while !escaped.is_char_boundary(end) {
        end -= 1;
    }
    // Nor is an escaped byte cut in two.
    if let Some(percent) = escaped.get(..end).and_then(|kept| kept.rfind('%')).filter(|percent| end - percent < 3) {
        end = percent;
    }
    escaped.truncate(end);
    let hash = blake3::hash(name.as_bytes()).to_hex();
    format!("{escaped}%+{}", hash.as_str().get(..HASH_DIGITS).unwrap_or_default())
}

/// Writes a moment by RFC 3339: `2026-11-23T13:05:06Z`.
pub(super) fn date(moment: Timestamp) -> String {
    let milliseconds = i64::try_from(moment.milliseconds).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(milliseconds) {
        Ok(moment) => moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        // Beyond the year 9999: as many milliseconds, so that it is a name of its own still.
        Err(_) => format!("{milliseconds}ms"),
    }
}

/// Reads when a version expires: `2026-12-31`, `2026-12-31T12:00:00Z`, `never` or nothing.
///
/// # Errors
/// `InvalidInput`.
pub(super) fn parse_expiry(text: &str) -> Result<Expiry> {
    if matches!(text, "" | "never") {
        return Ok(Expiry::Never);
    }
    let day = text.parse::<Date>().ok().filter(|_| !text.contains('T'));
    let moment = match day {
        Some(day) => {
            day.to_datetime(Time::midnight()).to_zoned_datetime(TimeZone::UTC).ok().map(|moment| moment.timestamp())
        }
        None => text.parse::<jiff::Timestamp>().ok(),
    };
    let milliseconds = moment.and_then(|moment| u64::try_from(moment.as_millisecond()).ok());
    let wrong = || Error::invalid(format!("{text:?} is no date; write it like 2026-12-31 or 2026-12-31T12:00:00Z"));
    Ok(Expiry::At(Timestamp { milliseconds: milliseconds.ok_or_else(wrong)? }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use backy_core::ErrorKind;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn odd_names_become_plain_file_names() {
        for (name, escaped) in [
            ("mail", "mail"),
            ("pool/vm 1", "pool%2Fvm 1"),
            ("100%", "100%25"),
            ("..", "%2E."),
            (".hidden.", "%2Ehidden."),
            ("a\u{85}b\n", "a%C2%85b%0A"),
            ("größe", "größe"),
        ] {
            assert_eq!(escape(name), escaped);
        }
    }

    #[test]
    fn long_names_are_cut_between_letters_and_stay_different() {
        let (one, two) = (format!("{}1", "ö".repeat(200)), format!("{}2", "ö".repeat(200)));
        for name in [&one, &two] {
            assert!(escape(name).len() <= NAME_BYTES_MAX && escape(name).contains("ö%+"), "{}", escape(name));
        }
        assert_ne!(escape(&one), escape(&two));
        assert_eq!(escape(&"a".repeat(NAME_BYTES_MAX)), "a".repeat(NAME_BYTES_MAX));
        for name in ["/".repeat(200), format!("a{}", "/".repeat(200)), format!("aa{}", "/".repeat(200))] {
            assert!(escape(&name).contains("%2F%+"), "{}", escape(&name));
        }
    }

    proptest! {
        #[test]
        fn no_two_names_look_the_same(names in prop::collection::btree_set("[a%/.+2F\u{1}ö]{1,6}", 0..40)) {
            let mut seen = BTreeMap::new();
            for name in names {
                let escaped = escape(&name);
                prop_assert!(!escaped.is_empty() && escaped != "." && escaped != ".." && !escaped.contains(['/', '\0']));
                let before = seen.insert(escaped, name.clone());
                prop_assert!(before.is_none(), "{name:?} and {before:?}");
            }
        }
    }

    #[test]
    fn dates_survive_being_written_and_read() {
        let moment = Timestamp { milliseconds: 1_795_442_706_000 };
        assert_eq!(date(moment), "2026-11-23T14:05:06Z");
        assert_eq!(parse_expiry("2026-11-23T14:05:06Z").unwrap(), Expiry::At(moment));
        assert_eq!(parse_expiry("2026-11-23T15:05:06+01:00").unwrap(), Expiry::At(moment));
        let midnight = Timestamp { milliseconds: 1_795_392_000_000 };
        assert_eq!(parse_expiry("2026-11-23").unwrap(), Expiry::At(midnight));
        for never in ["", "never"] {
            assert_eq!(parse_expiry(never).unwrap(), Expiry::Never);
        }
        for bad in ["soon", "2026-11-23T14:05:06", "2026-13-01", "1960-01-01"] {
            assert_eq!(parse_expiry(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
        assert!(date(Timestamp { milliseconds: u64::MAX }).ends_with("ms"));
    }
}
