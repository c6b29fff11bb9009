//! Sizes as people write them: `10GiB`, `5G`, `4096`. Every letter is a power of 1024.

use backy_core::{Error, Result};

/// Returns the bytes that `text` says: a whole number, then perhaps K, M, G, T or P, then perhaps `B` or `iB`.
pub fn parse_size(text: &str) -> Result<u64> {
    let wrong = || Error::invalid(format!("a size is a number such as 4096, 10G or 10GiB, not {text:?}"));
    let digits_end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(|| Error::invalid(format!("the size {text} does not fit 64 bits")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_understood_with_and_without_unit() {
        let sizes = [
            ("0", 0),
            ("4096", 4096),
            ("10GiB", 10 << 30),
            ("5G", 5 << 30),
            ("7kb", 7 << 10),
            ("3M", 3 << 20),
            ("2TiB", 2 << 40),
            ("200P", 200 << 50),
            ("12B", 12),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "G", "-1", "1.5G", "1 G", "1GG", "0x10", "99999999999999999999", "16384P", "1E", "1iB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
