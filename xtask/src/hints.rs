//! `cargo xtask hints`: what changed between two images, in the shape of `rbd diff --format json`.
//!
//! The grain is 4 KiB. Adjacent changed ranges are merged; `exists` is `"false"` where the new range is all zero, as
//! Ceph reports a discarded range. What is a hole in both images is not read.

use crate::Result;
use crate::image::{data_ranges, is_zero, open, pieces};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

const GRAIN_BYTES: usize = 4096;
/// Small, so that little is read around a lone block.
const WINDOW_BYTES: u64 = 64 << 10;

/// Prints the changed ranges of `new` against `old`.
pub fn run(old: &str, new: &str, out: &mut impl Write) -> Result<()> {
    let (new_file, new_size_bytes) = open(new)?;
    let old_file = if old == "-" { None } else { Some(open(old)?) };
    let mut windows = BTreeSet::new();
    add_windows(&new_file, new_size_bytes, &mut windows)?;
    if let Some((file, size_bytes)) = &old_file {
        add_windows(file, (*size_bytes).min(new_size_bytes), &mut windows)?;
    }

    let mut list = List { out, pending: None, is_first: true };
    let (mut new_bytes, mut old_bytes) = (Vec::new(), Vec::new());
    for offset in windows {
        let length = usize::try_from(WINDOW_BYTES.min(new_size_bytes - offset))?;
        read_padded(&new_file, offset, length, &mut new_bytes)?;
        match &old_file {
            Some((file, _)) => read_padded(file, offset, length, &mut old_bytes)?,
            None => old_bytes.resize(length, 0),
        }
        for (index, (new, old)) in new_bytes.chunks(GRAIN_BYTES).zip(old_bytes.chunks(GRAIN_BYTES)).enumerate() {
            if new != old {
                list.add(offset + (index * GRAIN_BYTES) as u64, new.len() as u64, !is_zero(new))?;
            }
        }
    }
    list.finish()
}

fn add_windows(file: &File, size_bytes: u64, windows: &mut BTreeSet<u64>) -> Result<()> {
    for piece in pieces(&data_ranges(file, size_bytes)?, WINDOW_BYTES) {
        windows.insert(piece.start / WINDOW_BYTES * WINDOW_BYTES);
    }
    Ok(())
}

/// Reads `length` bytes; behind the end of the file stand zeros.
fn read_padded(file: &File, offset: u64, length: usize, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    buffer.resize(length, 0);
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(())
}

/// The JSON list while it is written: the last range waits, because the next one may join it.
struct List<'a, W> {
    out: &'a mut W,
    pending: Option<(u64, u64, bool)>,
    is_first: bool,
}

impl<W: Write> List<'_, W> {
    fn add(&mut self, offset: u64, length: u64, exists: bool) -> Result<()> {
        if let Some((start, pending_length, pending_exists)) = &mut self.pending
            && *start + *pending_length == offset
            && *pending_exists == exists
        {
            *pending_length += length;
            return Ok(());
        }
        self.write_pending()?;
        self.pending = Some((offset, length, exists));
        Ok(())
    }

    fn write_pending(&mut self) -> Result<()> {
        if let Some((offset, length, exists)) = self.pending.take() {
            let before = if self.is_first { "[" } else { "," };
            self.is_first = false;
            write!(self.out, "{before}{{\"offset\":{offset},\"length\":{length},\"exists\":\"{exists}\"}}")?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.write_pending()?;
        writeln!(self.out, "{}", if self.is_first { "[]" } else { "]" })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(old: Option<&[u8]>, new: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("new"), new).unwrap();
        let old = match old {
            Some(bytes) => {
                std::fs::write(path("old"), bytes).unwrap();
                path("old")
            }
            None => "-".to_owned(),
        };
        let mut out = Vec::new();
        run(&old, &path("new"), &mut out).unwrap();
        String::from_utf8(out).unwrap().trim_end().to_owned()
    }

    #[test]
    fn equal_images_have_no_hints() {
        assert_eq!(hints(Some(&[7; 9000]), &[7; 9000]), "[]");
    }

    #[test]
    fn changes_are_merged_and_zeros_do_not_exist() {
        let old = [7; 5 * 4096];
        let mut new = old;
        new[4096] = 1;
        new[2 * 4096] = 1;
        new[3 * 4096..4 * 4096].fill(0);
        assert_eq!(
            hints(Some(&old), &new),
            r#"[{"offset":4096,"length":8192,"exists":"true"},{"offset":12288,"length":4096,"exists":"false"}]"#
        );
    }

    #[test]
    fn a_grown_tail_is_compared_with_zeros() {
        assert_eq!(hints(Some(&[7; 4096]), &[7; 5000]), r#"[{"offset":4096,"length":904,"exists":"true"}]"#);
        assert_eq!(hints(None, &[7; 100]), r#"[{"offset":0,"length":100,"exists":"true"}]"#);
    }
}
