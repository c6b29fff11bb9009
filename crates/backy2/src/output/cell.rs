//! One value of a result, and how people, scripts and programs see it.

use backy_core::environment::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json as value};

use crate::{console, dates, size};

/// A value of a result.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Nothing is known, or nothing is set.
    Nothing,
    /// Text.
    Text(String),
    /// A number.
    Number(u64),
    /// A number of bytes.
    Bytes(u64),
    /// A time in milliseconds, shown in seconds.
    Seconds(u64),
    /// A moment.
    Moment(Timestamp),
    /// Yes or no.
    Flag(bool),
    /// A uid: its last 8 digits are enough for people.
    Uid(String),
    /// Several words.
    List(Vec<String>),
}

impl Cell {
    /// Says whether it stands at the right side of its column.
    pub fn is_number(&self) -> bool {
        matches!(self, Cell::Number(_) | Cell::Bytes(_) | Cell::Seconds(_))
    }
}

/// How many digits of a uid people see.
const UID_DIGITS: usize = 8;

/// What people see.
pub(super) fn text(cell: &Cell, is_human_readable: bool, zone: &TimeZone) -> String {
    match cell {
        Cell::Text(text) => console::printable(text),
        Cell::Moment(moment) => dates::in_zone(*moment, zone),
        Cell::Flag(true) => "yes".to_owned(),
        Cell::Flag(false) => "no".to_owned(),
        Cell::Uid(uid) => uid.get(uid.len().saturating_sub(UID_DIGITS)..).unwrap_or(uid).to_owned(),
        Cell::List(words) => console::printable(&words.join(",")),
        number => plain(number, is_human_readable),
    }
}

/// What scripts see.
pub(super) fn machine(cell: &Cell, is_human_readable: bool) -> String {
    match cell {
        Cell::Text(text) | Cell::Uid(text) => escape(text),
        Cell::Moment(moment) => dates::in_utc(*moment),
        Cell::Flag(is_set) => u8::from(*is_set).to_string(),
        Cell::List(words) => escape(&words.join(",")),
        number => plain(number, is_human_readable),
    }
}

/// What programs see.
pub(super) fn json(cell: &Cell) -> Value {
    match cell {
        Cell::Nothing => Value::Null,
        Cell::Text(text) | Cell::Uid(text) => value!(text),
        Cell::Number(number) | Cell::Bytes(number) => value!(number),
        Cell::Seconds(milliseconds) => value!(seconds(*milliseconds)),
        Cell::Moment(moment) => value!(dates::rfc3339(*moment)),
        Cell::Flag(is_set) => value!(is_set),
        Cell::List(words) => value!(words),
    }
}

fn plain(cell: &Cell, is_human_readable: bool) -> String {
    match cell {
        Cell::Bytes(bytes) if is_human_readable => size::human(*bytes),
        Cell::Number(number) | Cell::Bytes(number) => number.to_string(),
        Cell::Seconds(milliseconds) => format!("{:.1}", seconds(*milliseconds)),
        _ => String::new(),
    }
}

fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// Puts a backslash before `|` and `\`, and writes control characters as `\n`, `\r`, `\t` or `\xNN`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '|' | '\\' => escaped.extend(['\\', letter]),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            letter if letter.is_control() => escaped.push_str(&format!("\\x{:02x}", u32::from(letter))),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_output_can_be_taken_apart() {
        for (text, escaped) in [("a|b", "a\\|b"), ("a\\", "a\\\\"), ("a\nb\tc\u{1b}", "a\\nb\\tc\\x1b"), ("ü", "ü")] {
            assert_eq!(machine(&Cell::Text(text.to_owned()), false), escaped);
        }
    }

    #[test]
    fn people_see_short_uids_and_local_time() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let shown = |cell: &Cell| text(cell, true, &zone);
        assert_eq!(shown(&Cell::Uid("0123456789abcdef".to_owned())), "89abcdef");
        assert_eq!(shown(&Cell::Moment(Timestamp::default())), "1970-01-01 01:00:00");
        assert_eq!(shown(&Cell::Bytes(4096)), "4.0 KiB");
        assert_eq!(shown(&Cell::Text("a\u{1b}b".to_owned())), "a\\u{1b}b");
        assert_eq!(shown(&Cell::Nothing), "");
        assert_eq!(machine(&Cell::Moment(Timestamp::default()), false), "1970-01-01 00:00:00");
    }
}
