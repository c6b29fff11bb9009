//! Moments as people write and read them: in the local time zone, or in UTC for machines.

use backy_core::environment::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan};

const FORMAT: &str = "%Y-%m-%d %H:%M:%S";

/// Writes a moment in the zone: `2026-11-23 14:05:06`.
pub fn in_zone(moment: Timestamp, zone: &TimeZone) -> String {
    match jiff_of(moment) {
        Some(moment) => moment.to_zoned_datetime(zone.clone()).strftime(FORMAT).to_string(),
        None => "?".to_owned(),
    }
}

/// Writes a moment in UTC, without saying so: `2026-11-23 13:05:06`.
pub fn in_utc(moment: Timestamp) -> String {
    in_zone(moment, &TimeZone::UTC)
}

/// Writes a moment by RFC 3339: `2026-11-23T13:05:06Z`.
pub fn rfc3339(moment: Timestamp) -> String {
    match jiff_of(moment) {
        Some(moment) => moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        None => "?".to_owned(),
    }
}

/// Reads a date, or a date and a time of day, in the zone: its first moment.
pub fn parse_moment(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    parse_span(text, zone).map(|(from, _)| from)
}

/// Reads `2026-11-23`, `2026-11-23T14`, `2026-11-23 14:05` or `2026-11-23T14:05:06` in the zone: the day, hour, minute or
/// second that it means, from its first moment to the first one after it.
pub fn parse_span(text: &str, zone: &TimeZone) -> Result<(Timestamp, Timestamp), String> {
    let wrong = || format!("{text:?} is no date; write it like 2026-11-23 or 2026-11-23T14:05");
    let (civil, span) = parse_civil(text.trim()).ok_or_else(wrong)?;
    let end = civil.checked_add(span).map_err(|_| wrong())?;
    let moment = |civil: DateTime| {
        let zoned = civil.to_zoned_datetime(zone.clone()).map_err(|_| wrong())?;
        let milliseconds = u64::try_from(zoned.timestamp().as_millisecond()).map_err(|_| wrong())?;
        Ok::<_, String>(Timestamp { milliseconds })
    };
    Ok((moment(civil)?, moment(end)?))
}

fn parse_civil(text: &str) -> Option<(DateTime, Span)> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let numbers = parse_numbers::<i16>(date, '-')?;
    let [year, month, day] = numbers.as_slice() else { return None };
    let date = Date::new(*year, i8::try_from(*month).ok()?, i8::try_from(*day).ok()?).ok()?;
    let Some(time) = time else { return Some((date.to_datetime(Time::midnight()), 1.day())) };
    let numbers = parse_numbers::<i8>(time, ':')?;
    let (hour, minute, second, span) = match numbers.as_slice() {
        [hour] => (*hour, 0, 0, 1.hour()),
        [hour, minute] => (*hour, *minute, 0, 1.minute()),
        [hour, minute, second] => (*hour, *minute, *second, 1.second()),
        _ => return None,
    };
    Some((date.to_datetime(Time::new(hour, minute, second, 0).ok()?), span))
}

fn parse_numbers<T: std::str::FromStr>(text: &str, divider: char) -> Option<Vec<T>> {
    let is_plain = text.chars().all(|letter| letter.is_ascii_digit() || letter == divider);
    if is_plain { text.split(divider).map(|part| part.parse().ok()).collect() } else { None }
}

fn jiff_of(moment: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(moment.milliseconds).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zone with daylight saving time, without files: summer time ends on the last Sunday of October.
    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    #[test]
    fn dates_mean_whole_days_of_the_zone() {
        let (from, to) = parse_span("2026-11-23", &berlin()).unwrap();
        assert_eq!(in_utc(from), "2026-11-22 23:00:00");
        assert_eq!(to.since(from).as_secs(), 86_400);
        assert_eq!(in_zone(from, &berlin()), "2026-11-23 00:00:00");
        let (from, to) = parse_span("2026-10-25", &berlin()).unwrap();
        assert_eq!(to.since(from).as_secs(), 25 * 3600, "the day on which summer time ends");
    }

    #[test]
    fn the_hour_that_comes_twice_is_meant_twice() {
        let (from, to) = parse_span("2026-10-25T02", &berlin()).unwrap();
        assert_eq!(to.since(from).as_secs(), 2 * 3600);
    }

    #[test]
    fn times_of_day_mean_what_they_spell_out() {
        for (text, seconds) in [("2026-11-23T14", 3600), ("2026-11-23 14:05", 60), ("2026-11-23T14:05:06", 1)] {
            let (from, to) = parse_span(text, &TimeZone::UTC).unwrap();
            assert_eq!(to.since(from).as_secs(), seconds, "{text}");
        }
        let moment = parse_moment("2026-11-23 14:05:06", &TimeZone::UTC).unwrap();
        assert_eq!(rfc3339(moment), "2026-11-23T14:05:06Z");
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for bad in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-11",
            "2026-11-23T25",
            "2026-11-23T",
            "1812-01-01",
            "2026-11-23T14:05:06:07",
            "+2026-11-23",
        ] {
            assert!(parse_span(bad, &TimeZone::UTC).is_err(), "{bad}");
        }
        assert_eq!(in_utc(Timestamp { milliseconds: u64::MAX }), "?");
    }
}
