//! Checking a pack without any key, as a storage host can.

use crate::envelope::{OBJECT_BYTES_MAX, check_format_version};
use crate::error::{Error, Result};
use crate::pack::header::PackHeader;
use crate::pack::trailer::{Trailer, UNHASHED_BYTES};

/// Checks that `object` is a whole pack, byte by byte as it was written, and returns what its header says.
///
/// This finds accidents. Whether the pack is genuine, only the keys can tell.
///
/// # Errors
/// `Damaged` if it is not; `Unsupported` if a newer backy2 wrote it, as header and trailer say both.
pub fn verify_pack_bytes(object: &[u8]) -> Result<PackHeader> {
    if object.len() > OBJECT_BYTES_MAX {
        return Err(Error::damaged(format!("it has {} bytes, a pack has at most {OBJECT_BYTES_MAX}", object.len())));
    }
    match (PackHeader::told_version(object), Trailer::told_version(object)) {
        (Some(header), Some(trailer)) if header == trailer => check_format_version(header)?,
        _ => return Err(Error::damaged("its header and its trailer tell of different format versions")),
    }
    let trailer = Trailer::parse(object)?;
    if trailer.object_bytes() != object.len() as u64 {
        let told = trailer.object_bytes();
        return Err(Error::damaged(format!("it has {} bytes, its trailer tells of {told}", object.len())));
    }
    let covered = object.len().checked_sub(UNHASHED_BYTES).and_then(|end| object.get(..end)).unwrap_or_default();
    if blake3::hash(covered) != trailer.hash {
        return Err(Error::damaged("its checksum does not match"));
    }
    PackHeader::parse(object)
}
