//! Sizes as people write and read them.
//!
//! `K`, `KiB`, `M`, `MiB` and so on are powers of 1024, `kB`, `KB`, `MB` and so on powers of 1000. A plain number is
//! bytes.

use std::time::Duration;

use backy_core::units::BlockSize;

const UNITS: &str = "KMGTPE";

/// Reads a size: `16KiB`, `4M`, `1.5 GB`, `4096`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; write it like 16KiB, 4M, 1.5GB or 4096");
    let text = text.trim();
    let digits_end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let factor = factor(unit.trim()).ok_or_else(wrong)?;
    if let Ok(number) = number.parse::<u64>() {
        return number.checked_mul(factor).ok_or_else(wrong);
    }
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let size = number * factor as f64;
    // Below 2^53 a float holds each whole number.
    if size.fract() != 0.0 || size >= 9.0e15 {
        return Err(format!("{text:?} is no whole number of bytes, or too many of them"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, positive, below 2^53")]
    Ok(size as u64)
}

fn factor(unit: &str) -> Option<u64> {
    let upper = unit.to_ascii_uppercase();
    if upper.is_empty() || upper == "B" {
        return Some(1);
    }
    let (letter, rest) = upper.split_at_checked(1)?;
    let power = u32::try_from(UNITS.find(letter)?).ok()? + 1;
    match rest {
        "" | "IB" => 1024u64.checked_pow(power),
        "B" => 1000u64.checked_pow(power),
        _ => None,
    }
}

/// Reads a speed: a size, with `/s` behind it or not; 0 is refused.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    match parse_size(text.trim().trim_end_matches("/s"))? {
        0 => Err(format!("{text:?} would stop everything; leave it empty for no limit")),
        rate => Ok(rate),
    }
}

/// Reads a block size.
pub fn parse_block_size(text: &str) -> Result<BlockSize, String> {
    let size = u32::try_from(parse_size(text)?).unwrap_or(u32::MAX);
    BlockSize::new(size).map_err(|error| error.to_string())
}

/// Reads a time in seconds: `90`, `90s`, `5m`, `2h`.
pub fn parse_seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits_end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Reads a time on the command line.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_seconds(text).map(Duration::from_secs).ok_or_else(|| "it is a time like 90s, 30m or 2h".to_owned())
}

/// Reads a share: `0` to `100`, with `%` behind it or not.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim().parse::<f64>();
    number
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| format!("{text:?} is no percentage from 0 to 100"))
}

/// Writes a size for people: `4.0 KiB`, `37.1 GiB`.
pub fn human(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64;
    let mut unit = ' ';
    for letter in UNITS.chars() {
        if size < 1023.95 {
            break;
        }
        size /= 1024.0;
        unit = letter;
    }
    format!("{size:.1} {unit}iB")
}

/// Writes a size as short as it can be read back exactly: `16KiB`, `100`.
pub fn exact(bytes: u64) -> String {
    let mut size = bytes;
    let mut unit = String::new();
    for letter in UNITS.chars() {
        if size == 0 || !size.is_multiple_of(1024) {
            break;
        }
        size /= 1024;
        unit = format!("{letter}iB");
    }
    format!("{size}{unit}")
}

/// Writes a number of things: `1 pack`, `2 packs`.
pub fn counted(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let sizes = [
            ("4096", 4096),
            ("4k", 4096),
            ("4K", 4096),
            ("4KiB", 4096),
            ("4 kB", 4000),
            ("1.5M", 3 << 19),
            ("0", 0),
            ("1E", 1 << 60),
            ("12B", 12),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "K", "-1", "1.5", "1Q", "1KiBs", "16E", "99999999999999999999", "1e3", "ü", "1ü"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn exact_sizes_are_read_back() {
        for bytes in [0, 1, 1000, 1024, 16384, 256 << 20, u64::MAX, 1 << 60] {
            assert_eq!(parse_size(&exact(bytes)), Ok(bytes));
        }
        assert_eq!(exact(16384), "16KiB");
    }

    #[test]
    fn one_thing_has_no_plural() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "pack")), ["0 packs", "1 pack", "2 packs"]);
    }

    #[test]
    fn human_sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn rates_percents_and_block_sizes_have_bounds() {
        assert_eq!(parse_rate("50MiB/s"), Ok(50 << 20));
        assert!(parse_rate("0").is_err());
        assert_eq!(parse_percent("0.5%"), Ok(0.5));
        assert!(parse_percent("101").is_err());
        assert!(parse_percent("nan").is_err());
        assert_eq!(parse_block_size("64K").unwrap().bytes(), 65536);
        assert!(parse_block_size("3K").is_err());
        assert!(parse_block_size("8G").is_err());
    }
}
