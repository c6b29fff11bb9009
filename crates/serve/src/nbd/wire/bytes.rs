//! Numbers on the wire: the highest byte first.

use backy_core::{Error, Result};

/// Reads numbers and texts off the front of some bytes.
pub struct Bytes<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Bytes<'a> {
    /// Begins at the front of `bytes`; `what` they are is for errors.
    pub fn new(bytes: &'a [u8], what: &'static str) -> Bytes<'a> {
        Bytes { rest: bytes, what }
    }

    /// Reads `count` bytes.
    ///
    /// # Errors
    /// `InvalidInput` if there are not as many, as with all that reads here.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else { return Err(self.error("is too short")) };
        self.rest = rest;
        Ok(taken)
    }

    /// Reads a number of two bytes.
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Reads a number of four bytes.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Reads a number of eight bytes.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Reads a number of eight bytes that must be `magic`.
    pub fn magic(&mut self, magic: u64) -> Result<()> {
        if self.u64()? == magic { Ok(()) } else { Err(self.error("begins with other bytes than it should")) }
    }

    /// Reads a text whose length in bytes stands before it in four bytes; at most `length_max`.
    pub fn text(&mut self, length_max: usize) -> Result<String> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if length > length_max {
            return Err(self.error("holds a text that is too long"));
        }
        let text = std::str::from_utf8(self.take(length)?).map(str::to_owned);
        text.map_err(|_| self.error("holds a text that is no UTF-8"))
    }

    /// Returns all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Checks that nothing is left.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error("is too long")) }
    }

    /// Returns the error that what is read has this fault.
    pub fn error(&self, fault: &str) -> Error {
        Error::invalid(format!("{} {fault}", self.what))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| self.error("is too short"))
    }
}

/// Puts a text with its length in four bytes before it behind `output`.
pub fn put_text(output: &mut Vec<u8>, text: &str) {
    output.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    output.extend(text.as_bytes());
}
