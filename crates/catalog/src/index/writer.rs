//! Writes segments: entries come in order, pages go out, the footer follows.
//!
//! A file appears under its name complete and durable, or not at all: it is written beside as `*.new`, synchronised, and
//! renamed. Memory is that of one group's prefixes and its filter while that is built (6 MiB), and the footer.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use backy_core::ids::{RepositoryId, SlotNumber};
use backy_core::{Error, Result};

use super::filter::Filter;
use super::sector::{self, ENTRIES_PER_PAGE, ENTRIES_PER_SECTOR, Entry, SECTORS_PER_PAGE, SectorKey};
use super::segment::{Footer, PAGES_PER_GROUP, SegmentFact, path, sector_key};
use super::{Key, Origin, prefix_of};

/// Writes one segment.
pub(crate) struct SegmentWriter {
    repository: RepositoryId,
    fact: SegmentFact,
    path: PathBuf,
    path_new: PathBuf,
    file: BufWriter<File>,
    key: SectorKey,
    page: Vec<Entry>,
    prefixes: Vec<u64>,
    pack_numbers: HashMap<Origin, u32>,
    footer: Footer,
    is_finished: bool,
}

impl SegmentWriter {
    /// Begins segment `id` of `run`.
    pub fn create(folder: &Path, repository: RepositoryId, id: i64, run: i64) -> Result<SegmentWriter> {
        let path = path(folder, id);
        let path_new = path.with_extension("new");
        let file =
            File::create(&path_new).map_err(|error| Error::io(format!("create {}", path_new.display()), error))?;
        Ok(SegmentWriter {
            repository,
            fact: SegmentFact { id, run, key_count: 0, full_key_count: 0, checksum: [0; 32] },
            path,
            path_new,
            file: BufWriter::with_capacity(1 << 18, file),
            key: sector_key(repository, id),
            page: Vec::with_capacity(ENTRIES_PER_PAGE),
            prefixes: Vec::new(),
            pack_numbers: HashMap::new(),
            footer: Footer { key_count: 0, packs: Vec::new(), fences: Vec::new(), filters: Vec::new() },
            is_finished: false,
        })
    }

    /// Returns how many keys it has.
    pub fn key_count(&self) -> u64 {
        self.fact.key_count
    }

    /// Appends an entry; keys come in order, and of equal ones the newest first.
    pub fn push(&mut self, key: &Key, origin: Origin, slot: SlotNumber) -> Result<()> {
        let packs = &mut self.footer.packs;
        let pack_number = *self.pack_numbers.entry(origin).or_insert_with(|| {
            packs.push(origin);
            u32::try_from(packs.len() - 1).unwrap_or(u32::MAX)
        });
        if self.page.is_empty() {
            self.footer.fences.push(prefix_of(key));
        }
        self.page.push(Entry { key: *key, pack_number, slot: slot.0 });
        self.prefixes.push(prefix_of(key));
        self.fact.key_count += 1;
        self.fact.full_key_count += u64::from(!origin.is_sampled);
        if self.page.len() == ENTRIES_PER_PAGE {
            self.write_page()?;
        }
        Ok(())
    }

    /// Completes the file; it is durable when this returns.
    pub fn finish(mut self) -> Result<SegmentFact> {
        if !self.page.is_empty() {
            self.write_page()?;
        }
        if !self.prefixes.is_empty() {
            self.close_group();
        }
        self.footer.key_count = self.fact.key_count;
        let (bytes, checksum) = self.footer.encode(self.repository, self.fact.id);
        self.fact.checksum = checksum;
        self.write(&bytes)?;
        self.publish().map_err(|error| Error::io(format!("write {}", self.path.display()), error))?;
        self.is_finished = true;
        Ok(self.fact.clone())
    }

    fn write_page(&mut self) -> Result<()> {
        let first_sector = (self.footer.fences.len() - 1) * SECTORS_PER_PAGE;
        let mut bytes = Vec::with_capacity(sector::PAGE_SIZE_BYTES);
        let mut sectors = self.page.chunks(ENTRIES_PER_SECTOR);
        for number in first_sector..first_sector + SECTORS_PER_PAGE {
            let number = u32::try_from(number).map_err(|_| Error::invalid("a segment has too many pages"))?;
            bytes.extend_from_slice(&sector::encode(&self.key, number, sectors.next().unwrap_or_default()));
        }
        self.page.clear();
        self.write(&bytes)?;
        if self.footer.fences.len().is_multiple_of(PAGES_PER_GROUP) {
            self.close_group();
        }
        Ok(())
    }

    fn close_group(&mut self) {
        self.footer.filters.push(Filter::build(&mut self.prefixes));
        self.prefixes.clear();
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| Error::io(format!("write {}", self.path_new.display()), error))
    }

    fn publish(&mut self) -> std::io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        std::fs::rename(&self.path_new, &self.path)?;
        match self.path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            // What cannot be removed now goes when the catalog is opened next.
            let _ = std::fs::remove_file(&self.path_new);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::super::Candidate;
    use super::super::segment::Segment;
    use super::*;
    use backy_core::ids::{EncryptionVersion, PackId};
    use proptest::prelude::*;

    const REPOSITORY: RepositoryId = RepositoryId::from_bytes([7; 16]);

    fn keys(count: u32) -> Vec<Key> {
        let key = |number: u32| blake3::hash(&number.to_le_bytes()).as_bytes()[..16].try_into().unwrap();
        let mut keys: Vec<Key> = (0..count).map(key).collect();
        keys.sort_unstable();
        keys
    }

    fn candidate(position: usize) -> Candidate {
        let pack = PackId::from_bytes([u8::try_from(position / 100 % 3).unwrap(); 16]);
        let origin = Origin { pack, encryption_version: EncryptionVersion(1), is_sampled: position / 100 % 3 == 2 };
        Candidate { origin, slot: SlotNumber(u16::try_from(position % 8192).unwrap()) }
    }

    fn write(folder: &Path, keys: &[Key]) -> SegmentFact {
        let mut writer = SegmentWriter::create(folder, REPOSITORY, 5, 3).unwrap();
        for (position, key) in keys.iter().enumerate() {
            let candidate = candidate(position);
            writer.push(key, candidate.origin, candidate.slot).unwrap();
        }
        writer.finish().unwrap()
    }

    fn find(segment: &Segment, key: &Key) -> Vec<Candidate> {
        let mut found = Vec::new();
        let _ = segment.find(key, &mut |candidate| {
            found.push(candidate);
            ControlFlow::Continue(())
        });
        found
    }

    /// To change the format deliberately: raise its number, delete the file, run this test twice, and check it in.
    #[test]
    fn the_bytes_of_a_segment_do_not_change() {
        let folder = tempfile::tempdir().unwrap();
        let fact = write(folder.path(), &keys(250));
        let bytes = std::fs::read(path(folder.path(), fact.id)).unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/segment-1.bin");
        if !golden.exists() {
            std::fs::write(&golden, &bytes).unwrap();
            panic!("{} was missing and has been written", golden.display());
        }
        assert!(bytes == std::fs::read(&golden).unwrap());
    }

    #[test]
    fn every_key_is_found_across_groups_and_pages() {
        let folder = tempfile::tempdir().unwrap();
        let mut keys = keys(140_000);
        // One key fills a page and more, and one stands on both sides of the end of a group.
        let end = PAGES_PER_GROUP * ENTRIES_PER_PAGE;
        let repeated = [keys[1000], keys[end - 2]];
        keys[1000..1400].fill(repeated[0]);
        keys[end - 2..end + 3].fill(repeated[1]);
        let fact = write(folder.path(), &keys);
        let segment = Segment::open(folder.path(), REPOSITORY, &fact).unwrap();
        for (position, key) in keys.iter().enumerate().filter(|(_, key)| !repeated.contains(key)).step_by(7) {
            assert_eq!(find(&segment, key), [candidate(position)]);
        }
        assert_eq!(find(&segment, &repeated[0]), (1000..1400).map(candidate).collect::<Vec<_>>());
        assert_eq!(find(&segment, &repeated[1]), (end - 2..end + 3).map(candidate).collect::<Vec<_>>());
        assert_eq!(find(&segment, &[0; 16]), []);
        assert_eq!(find(&segment, &[0xff; 16]), []);
        assert!(!segment.is_bad());
        assert!(Segment::open(folder.path(), RepositoryId::from_bytes([8; 16]), &fact).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_footer_of_any_bytes_is_refused_or_read(
            changes in prop::collection::vec((0..400usize, any::<u8>()), 0..4), cut in 0..400usize,
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let footer = Footer {
                key_count: 100,
                packs: vec![candidate(0).origin],
                fences: vec![5],
                filters: vec![Filter::build(&mut (0..100).collect())],
            };
            let (mut bytes, _) = footer.encode(REPOSITORY, 1);
            bytes.truncate(bytes.len() - 40);
            prop_assert!(Footer::decode(&bytes, REPOSITORY, 1).is_ok());
            for (position, value) in changes {
                if let Some(byte) = bytes.get_mut(position) {
                    *byte = value;
                }
            }
            let _ = Footer::decode(&bytes, REPOSITORY, 1);
            bytes.truncate(cut);
            let _ = Footer::decode(&bytes, REPOSITORY, 1);
            let _ = Footer::decode(&noise, REPOSITORY, 1);
        }
    }
}
