//! Devices for measuring: data that is made up as it is read, and a drain.
//!
//! `null://SIZE` reads as zeros, all of which count as data; `null://SIZE?pattern=random&seed=7` as bytes that do not
//! compress, `pattern=half` as bytes that compress to about half. The same offset reads the same every time. As a
//! target, `null://` or `null://SIZE` takes everything, keeps nothing and reads as zeros.

mod pattern;
mod size;

use backy_core::units::ByteRange;
use backy_core::{Error, Result};

use crate::device::{Source, Target, check_bounds};
use crate::open::TargetRequest;

pub use pattern::Pattern;
pub use size::parse_size;

/// Made-up data of a given size.
pub struct NullSource {
    rest: String,
    size_bytes: u64,
    pattern: Pattern,
    seed: u64,
}

impl NullSource {
    /// Makes what `null://rest` says.
    pub fn open(rest: &str) -> Result<NullSource> {
        let (size, options) = rest.split_once('?').unwrap_or((rest, ""));
        let size_bytes = parse_size(size).map_err(|error| error.context(format_args!("open null://{rest}")))?;
        let mut source = NullSource { rest: rest.to_owned(), size_bytes, pattern: Pattern::Zero, seed: 0 };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("pattern", "zero")) => source.pattern = Pattern::Zero,
                Some(("pattern", "random")) => source.pattern = Pattern::Random,
                Some(("pattern", "half")) => source.pattern = Pattern::Half,
                Some(("seed", seed)) => source.seed = seed.parse().map_err(|_| unknown_option(rest, option))?,
                _ => return Err(unknown_option(rest, option)),
            }
        }
        Ok(source)
    }
}

fn unknown_option(rest: &str, option: &str) -> Error {
    let known = "pattern=zero, pattern=random, pattern=half and seed=NUMBER";
    Error::invalid(format!("open null://{rest}: it takes {known}, not {option}"))
}

impl Source for NullSource {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<()> {
        let range = ByteRange { offset_bytes, length_bytes: buffer.len() as u64 };
        check_bounds(range, self.size_bytes, &self.url())?;
        self.pattern.fill(self.seed, offset_bytes, buffer);
        Ok(())
    }

    fn data_ranges(&self, range: ByteRange) -> Result<Vec<ByteRange>> {
        let range = range.intersection(ByteRange::between(0, self.size_bytes));
        Ok(if range.is_empty() { Vec::new() } else { vec![range] })
    }

    fn check_unchanged(&self) -> Result<()> {
        Ok(())
    }

    fn url(&self) -> String {
        format!("null://{}", self.rest)
    }
}

/// A drain: takes everything, keeps nothing.
pub struct NullTarget {
    zeros: NullSource,
}

impl NullTarget {
    /// Makes a drain of the size that is asked for, or of the size that `null://rest` says, if that is enough.
    pub fn open(rest: &str, request: &TargetRequest) -> Result<NullTarget> {
        let size_bytes = match rest {
            "" => request.size_bytes,
            _ => parse_size(rest).map_err(|error| error.context(format_args!("open null://{rest} for writing")))?,
        };
        if size_bytes < request.size_bytes {
            let needs = request.size_bytes;
            let message = format!("null://{rest} is too small: it has {size_bytes} bytes, and {needs} are needed");
            return Err(Error::invalid(message));
        }
        Ok(NullTarget { zeros: NullSource { rest: rest.to_owned(), size_bytes, pattern: Pattern::Zero, seed: 0 } })
    }
}

impl Source for NullTarget {
    fn size_bytes(&self) -> u64 {
        self.zeros.size_bytes
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<()> {
        self.zeros.read_at(offset_bytes, buffer)
    }

    fn data_ranges(&self, _range: ByteRange) -> Result<Vec<ByteRange>> {
        Ok(Vec::new())
    }

    fn check_unchanged(&self) -> Result<()> {
        Ok(())
    }

    fn url(&self) -> String {
        self.zeros.url()
    }
}

impl Target for NullTarget {
    fn write_at(&self, offset_bytes: u64, buffer: &[u8]) -> Result<()> {
        self.zero_range(ByteRange { offset_bytes, length_bytes: buffer.len() as u64 })
    }

    fn zero_range(&self, range: ByteRange) -> Result<()> {
        check_bounds(range, self.size_bytes(), &self.url())
    }

    fn is_known_zero(&self) -> bool {
        true
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;
    use crate::open::DeviceOptions;
    use backy_core::ErrorKind;

    fn expected(pattern: Pattern, seed: u64, size_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![1; size_bytes];
        pattern.fill(seed, 0, &mut bytes);
        bytes
    }

    #[test]
    fn every_pattern_is_a_proper_source() {
        let urls = [
            ("100001", Pattern::Zero, 0),
            ("100001?pattern=zero&seed=3", Pattern::Zero, 3),
            ("100001?pattern=random&seed=7", Pattern::Random, 7),
            ("100001?seed=7&pattern=half", Pattern::Half, 7),
        ];
        for (rest, pattern, seed) in urls {
            let source = NullSource::open(rest).unwrap();
            conformance::check_source(&source, &expected(pattern, seed, 100_001));
            assert_eq!(source.url(), format!("null://{rest}"));
        }
    }

    #[test]
    fn zeros_count_as_data() {
        let all = ByteRange::between(0, 10 << 30);
        assert_eq!(NullSource::open("10GiB").unwrap().data_ranges(all).unwrap(), [all]);
    }

    #[test]
    fn wrong_options_are_refused() {
        for rest in ["", "x", "1G?pattern=other", "1G?seed=-1", "1G?seed", "1G?size=3"] {
            assert_eq!(NullSource::open(rest).err().unwrap().kind(), ErrorKind::InvalidInput, "{rest}");
        }
    }

    #[test]
    fn the_drain_takes_everything_up_to_its_end() {
        let request = TargetRequest { size_bytes: 9000, may_overwrite: false, options: DeviceOptions::default() };
        for rest in ["", "9000"] {
            let target = NullTarget::open(rest, &request).unwrap();
            target.write_at(8000, &[7; 1000]).unwrap();
            assert_eq!(target.write_at(8000, &[7; 1001]).unwrap_err().kind(), ErrorKind::InvalidInput);
            target.flush().unwrap();
            assert!(target.is_known_zero());
            conformance::check_source(&target, &[0; 9000]);
        }
        assert_eq!(NullTarget::open("8999", &request).err().unwrap().kind(), ErrorKind::InvalidInput);
        assert_eq!(NullTarget::open("9K?pattern=random", &request).err().unwrap().kind(), ErrorKind::InvalidInput);
    }
}
