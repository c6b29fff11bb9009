//! zstd, kept raw where it would grow.
//!
//! Bodies are single zstd frames (RFC 8878) that carry their content size and no checksum: the seal around them
//! finds any damage. Opening is bounded by the length that the caller expects, never by what the frame says.

use std::fmt;

use zstd::bulk;

use crate::error::{Error, ErrorKind, Result};

/// How the body of a slot is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
}

impl Codec {
    /// Reads the number that stands for a codec in stored structures.
    pub fn from_number(number: u8) -> Option<Codec> {
        match number {
            0 => Some(Codec::Raw),
            1 => Some(Codec::Zstd),
            _ => None,
        }
    }
}

/// The fastest level.
pub const LEVEL_MIN: i32 = -7;
/// The level that compresses best.
pub const LEVEL_MAX: i32 = 19;

/// A zstd context that is used again and again.
pub struct Compressor {
    context: bulk::Compressor<'static>,
}

impl Compressor {
    /// Makes a context for `level`, -7 to 19; 0 is zstd's default, 3.
    pub fn new(level: i32) -> Result<Compressor> {
        if !(LEVEL_MIN..=LEVEL_MAX).contains(&level) {
            return Err(Error::invalid(format!("a compression level is {LEVEL_MIN} to {LEVEL_MAX}, not {level}")));
        }
        let context = bulk::Compressor::new(level).map_err(|error| Error::io("set up compression", error))?;
        Ok(Compressor { context })
    }

    /// Compresses `plain` into `output`, which is cleared first; keeps it raw if it would not shrink.
    ///
    /// Either way `output` is the body to store. Nothing is allocated once `output` has grown to the largest block.
    pub fn compress(&mut self, plain: &[u8], output: &mut Vec<u8>) -> Result<Codec> {
        output.clear();
        output.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        let length = self
            .context
            .compress_to_buffer(plain, output)
            .map_err(|error| Error::io(format!("compress {} bytes", plain.len()), error))?;
        if length < plain.len() {
            return Ok(Codec::Zstd);
        }
        output.clear();
        output.extend_from_slice(plain);
        Ok(Codec::Raw)
    }
}

/// A zstd context that is used again and again.
pub struct Decompressor {
    context: bulk::Decompressor<'static>,
}

impl Decompressor {
    /// Makes a context.
    pub fn new() -> Result<Decompressor> {
        let context = bulk::Decompressor::new().map_err(|error| Error::io("set up decompression", error))?;
        Ok(Decompressor { context })
    }

    /// Fills `output`, exactly; `Damaged` if `body` is anything else than `output.len()` bytes compressed by `codec`.
    ///
    /// After an error `output` holds anything.
    pub fn decompress(&mut self, codec: Codec, body: &[u8], output: &mut [u8]) -> Result<()> {
        let length = match codec {
            Codec::Raw if body.len() == output.len() => {
                output.copy_from_slice(body);
                body.len()
            }
            Codec::Raw => body.len(),
            Codec::Zstd => self.context.decompress_to_buffer(body, output).map_err(|error| {
                let doing = format!("decompress {} bytes to {}", body.len(), output.len());
                Error::with_source(ErrorKind::Damaged, doing, error)
            })?,
        };
        if length == output.len() {
            Ok(())
        } else {
            Err(Error::damaged(format!("a body opens to {length} bytes where {} were stored", output.len())))
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn blocks_survive_at_every_level() {
        let mut output = Vec::new();
        let mut decompressor = Decompressor::new().unwrap();
        let text = b"one block like any other, ".repeat(600);
        for level in LEVEL_MIN..=LEVEL_MAX {
            let mut compressor = Compressor::new(level).unwrap();
            for (plain, codec) in [(&text[..], Codec::Zstd), (&noise(16384), Codec::Raw), (&[], Codec::Raw)] {
                assert_eq!(compressor.compress(plain, &mut output).unwrap(), codec);
                assert!(output.len() <= plain.len());
                let mut back = vec![0; plain.len()];
                decompressor.decompress(codec, &output, &mut back).unwrap();
                assert_eq!(back, plain, "level {level}");
            }
        }
    }

    #[test]
    fn levels_out_of_range_are_refused() {
        for level in [-8, 20, i32::MIN, i32::MAX] {
            assert_eq!(Compressor::new(level).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn another_length_than_expected_is_damage() {
        let mut output = Vec::new();
        let codec = Compressor::new(1).unwrap().compress(&[7; 5000], &mut output).unwrap();
        let mut decompressor = Decompressor::new().unwrap();
        for length in [0, 1, 4999, 5001, 100_000] {
            for codec in [codec, Codec::Raw] {
                let result = decompressor.decompress(codec, &output, &mut vec![0; length]);
                assert_eq!(result.unwrap_err().kind(), ErrorKind::Damaged, "{length}");
            }
        }
        decompressor.decompress(codec, &output, &mut [0; 5000]).unwrap();
    }

    #[test]
    fn frames_carry_their_size_and_no_checksum() {
        let mut output = Vec::new();
        Compressor::new(3).unwrap().compress(&[7; 5000], &mut output).unwrap();
        assert_eq!(zstd::zstd_safe::get_frame_content_size(&output).unwrap(), Some(5000));
        // RFC 8878: bit 2 of the frame header descriptor is the checksum's.
        assert_eq!(output[4] & 0b100, 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn arbitrary_bytes_are_an_error_or_exact(body in any::<Vec<u8>>(), length in 0usize..5000) {
            let _ = Decompressor::new().unwrap().decompress(Codec::Zstd, &body, &mut vec![0; length]);
        }
    }
}
