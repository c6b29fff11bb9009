//! Sectors: the smallest verified piece of a segment, 512 bytes with 22 entries.
//!
//! ```text
//!   0  entries, 22 of 22 bytes: key 16, number in the segment's pack table u32, slot u16
//! 484  number of entries u16
//! 486  number of the sector in the file u32
//! 490  zero, 6 bytes
//! 496  keyed BLAKE3 of the 496 bytes before, its first 16 bytes
//! ```
//!
//! The checksum's key is of the repository and the segment, so a sector that was written elsewhere does not pass. Unused
//! entries are zero. Numbers are little-endian; keys compare as bytes.

use super::Key;

/// The size of a sector.
pub(crate) const SECTOR_SIZE_BYTES: usize = 512;
/// The size of a page: what one read fetches.
pub(crate) const PAGE_SIZE_BYTES: usize = 4096;
/// Sectors in a page.
pub(crate) const SECTORS_PER_PAGE: usize = PAGE_SIZE_BYTES / SECTOR_SIZE_BYTES;
/// Entries in a full sector.
pub(crate) const ENTRIES_PER_SECTOR: usize = 22;
/// Entries in a full page.
pub(crate) const ENTRIES_PER_PAGE: usize = ENTRIES_PER_SECTOR * SECTORS_PER_PAGE;

const ENTRY_SIZE_BYTES: usize = 22;
const COUNT_OFFSET: usize = ENTRY_SIZE_BYTES * ENTRIES_PER_SECTOR;
const NUMBER_OFFSET: usize = COUNT_OFFSET + 2;
const CHECKSUM_OFFSET: usize = 496;

/// One key with the place of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub key: Key,
    /// The number of the pack in the segment's pack table.
    pub pack_number: u32,
    pub slot: u16,
}

/// The key of a segment's checksums.
#[derive(Clone)]
pub(crate) struct SectorKey(pub [u8; 32]);

impl SectorKey {
    fn checksum(&self, covered: &[u8]) -> [u8; 16] {
        let mut checksum = [0; 16];
        checksum.copy_from_slice(&blake3::keyed_hash(&self.0, covered).as_bytes()[..16]);
        checksum
    }
}

/// Returns a sector of at most 22 entries; more are an error of ours and left out.
pub(crate) fn encode(key: &SectorKey, number: u32, entries: &[Entry]) -> [u8; SECTOR_SIZE_BYTES] {
    let mut sector = [0; SECTOR_SIZE_BYTES];
    let mut count = 0u16;
    for (bytes, entry) in sector[..COUNT_OFFSET].chunks_exact_mut(ENTRY_SIZE_BYTES).zip(entries) {
        bytes[..16].copy_from_slice(&entry.key);
        bytes[16..20].copy_from_slice(&entry.pack_number.to_le_bytes());
        bytes[20..].copy_from_slice(&entry.slot.to_le_bytes());
        count += 1;
    }
    sector[COUNT_OFFSET..NUMBER_OFFSET].copy_from_slice(&count.to_le_bytes());
    sector[NUMBER_OFFSET..NUMBER_OFFSET + 4].copy_from_slice(&number.to_le_bytes());
    let checksum = key.checksum(&sector[..CHECKSUM_OFFSET]);
    sector[CHECKSUM_OFFSET..].copy_from_slice(&checksum);
    sector
}

/// Returns whether the sector is what was written as sector `number` of this segment.
pub(crate) fn is_intact(key: &SectorKey, number: u32, sector: &[u8]) -> bool {
    sector.len() == SECTOR_SIZE_BYTES
        && sector[NUMBER_OFFSET..NUMBER_OFFSET + 4] == number.to_le_bytes()
        && sector[CHECKSUM_OFFSET..] == key.checksum(&sector[..CHECKSUM_OFFSET])
        && usize::from(u16::from_le_bytes([sector[COUNT_OFFSET], sector[COUNT_OFFSET + 1]])) <= ENTRIES_PER_SECTOR
}

/// Returns the entries of a sector, intact or not: trust them only after [`is_intact`].
pub(crate) fn entries(sector: &[u8]) -> impl Iterator<Item = Entry> {
    sector.chunks_exact(ENTRY_SIZE_BYTES).take(count(sector)).map(|bytes| {
        let mut key = [0; 16];
        key.copy_from_slice(&bytes[..16]);
        Entry {
            key,
            pack_number: u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]),
            slot: u16::from_le_bytes([bytes[20], bytes[21]]),
        }
    })
}

/// Returns the first key of a sector, intact or not; none if it is empty.
pub(crate) fn first_key(sector: &[u8]) -> Option<&Key> {
    if count(sector) == 0 { None } else { sector.first_chunk() }
}

/// Returns the last key of a sector, intact or not; none if it is empty.
pub(crate) fn last_key(sector: &[u8]) -> Option<&Key> {
    sector.get(count(sector).checked_sub(1)? * ENTRY_SIZE_BYTES..)?.first_chunk()
}

fn count(sector: &[u8]) -> usize {
    match sector.get(COUNT_OFFSET..NUMBER_OFFSET) {
        Some(bytes) => usize::from(u16::from_le_bytes([bytes[0], bytes[1]])).min(ENTRIES_PER_SECTOR),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries_of(count: u8) -> Vec<Entry> {
        (0..count).map(|i| Entry { key: [i; 16], pack_number: u32::from(i) << 20, slot: u16::from(i) * 7 }).collect()
    }

    #[test]
    fn every_flipped_bit_of_a_sector_is_found() {
        let key = SectorKey([9; 32]);
        let sector = encode(&key, 5, &entries_of(20));
        assert!(is_intact(&key, 5, &sector));
        assert_eq!(entries(&sector).collect::<Vec<_>>(), entries_of(20));
        for bit in 0..SECTOR_SIZE_BYTES * 8 {
            let mut damaged = sector;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_intact(&key, 5, &damaged), "bit {bit}");
        }
    }

    #[test]
    fn a_sector_from_elsewhere_is_refused() {
        let sector = encode(&SectorKey([9; 32]), 5, &entries_of(22));
        assert!(!is_intact(&SectorKey([8; 32]), 5, &sector));
        assert!(!is_intact(&SectorKey([9; 32]), 6, &sector));
        assert!(!is_intact(&SectorKey([9; 32]), 5, &sector[..511]));
        assert_eq!(entries(&[0xff; 512]).count(), 22);
        assert_eq!(entries(&[]).count(), 0);
    }
}
