//! Little-endian numbers and byte runs, written to and read from buffers.
//!
//! [`Reader`] never reads beyond its bytes and never allocates by a number that it has read: whoever needs a limit on
//! a count asks for it with [`Reader::count`].

use crate::error::{Error, Result};

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Makes an empty buffer.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Appends two bytes, little-endian.
    pub fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends four bytes, little-endian.
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends eight bytes, little-endian.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a number as LEB128: seven bits a byte, the low ones first, one to ten bytes.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push((value & 0x7f) as u8);
    }

    /// Appends a signed number as zigzag LEB128.
    pub fn signed_varint(&mut self, value: i64) {
        self.varint(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns how many bytes were written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Says whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns what was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Takes values from bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`; `what` names them in errors.
    pub fn new(bytes: &'a [u8], what: &'static str) -> Reader<'a> {
        Reader { rest: bytes, what }
    }

    /// Takes the next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.error("ends too early"))?;
        self.rest = rest;
        Ok(head)
    }

    /// Takes the next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| self.error("ends too early"))?;
        self.rest = rest;
        Ok(*head)
    }

    /// Takes one byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Takes two bytes, little-endian.
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Takes four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Takes eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Takes a LEB128 number; refuses one that is too long or not in its shortest form.
    #[inline]
    pub fn varint(&mut self) -> Result<u64> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.error("holds a number that is too large"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let is_shortest = shift == 0 || byte != 0;
                return if is_shortest { Ok(value) } else { Err(self.error("holds a number that is too long")) };
            }
        }
        Err(self.error("holds a number that is too long"))
    }

    /// Takes a zigzag LEB128 number.
    #[inline]
    pub fn signed_varint(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// Takes a LEB128 number that may not exceed `max`.
    #[inline]
    pub fn count(&mut self, max: usize) -> Result<usize> {
        let value = self.varint()?;
        usize::try_from(value)
            .ok()
            .filter(|&count| count <= max)
            .ok_or_else(|| self.error(&format!("counts {value} where {max} is the most")))
    }

    /// Returns how many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Fails if bytes are left.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error("has bytes behind its end")) }
    }

    /// Makes the error that these bytes are damaged.
    pub fn error(&self, problem: &str) -> Error {
        Error::damaged(format!("{} {problem}", self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive() {
        let mut writer = Writer::new();
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            writer.varint(value);
            writer.signed_varint(value.cast_signed());
        }
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes, "test");
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(reader.varint().unwrap(), value);
            assert_eq!(reader.signed_varint().unwrap(), value.cast_signed());
        }
        reader.finish().unwrap();
    }

    #[test]
    fn overlong_numbers_and_short_input_are_errors() {
        for bad in
            [&[0x80, 0x00][..], &[0x80], &[0xff; 11], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]]
        {
            assert!(Reader::new(bad, "test").varint().is_err(), "{bad:?}");
        }
        assert!(Reader::new(&[1], "test").finish().is_err());
        assert!(Reader::new(&[9], "test").count(8).is_err());
    }
}
