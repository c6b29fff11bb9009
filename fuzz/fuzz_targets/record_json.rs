//! Bodies of JSON records: arbitrary bytes as each of them; what is read is written and read again as the same.
#![no_main]

use std::fmt::Debug;

use backy_core::Result;
use backy_core::ids::VersionUid;
use backy_core::records::damage::{DamageRecord, DamagedVersion};
use backy_core::records::label::{LabelChange, NumberedChange, fold};
use backy_core::records::lease::{LeaseRecord, Revocation};
use backy_core::records::manifest::{Checkpoint, Manifest};
use backy_core::records::mark::Tombstone;
use backy_core::records::repository::RepositoryRecord;
use backy_core::records::{from_body, to_body};
use backy_core::units::{BlockIndex, BlockRange};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    body: &[u8],
    check: impl FnOnce(&T) -> Result<()>,
) -> Option<T> {
    let record: T = from_body(body).ok()?;
    let again: T = from_body(&to_body(&record).unwrap()).unwrap();
    assert_eq!(again, record);
    check(&record).ok().map(|()| record)
}

fuzz_target!(|body: &[u8]| {
    let _ = RepositoryRecord::from_bytes(body);
    let _ = read(body, |_: &LeaseRecord| Ok(()));
    let _ = read(body, |_: &Revocation| Ok(()));
    let _ = read(body, |tombstone: &Tombstone| tombstone.check(VersionUid::from_bytes([1; 16])));
    if let Some(change) = read(body, LabelChange::check_stored) {
        let twice = [1, 2].map(|id| NumberedChange {
            counter: u32::MAX,
            id: backy_core::ids::RecordId::from_bytes([id; 16]),
            change: change.clone(),
        });
        assert_eq!(fold(&change, twice.to_vec()), fold(&change, Vec::new()));
    }
    if let Some(record) = read(body, DamageRecord::check) {
        for range in record.versions.iter().flat_map(DamagedVersion::ranges) {
            assert_eq!(range.end().0 - range.start.0, range.count.0);
        }
    }
    let checkpoint = read(body, Checkpoint::check);
    if let Some(manifest) = read(body, Manifest::check).or(checkpoint.map(|checkpoint| checkpoint.version)) {
        let whole = BlockRange { start: BlockIndex(0), count: manifest.map.blocks };
        let bytes = manifest.block_size.byte_range(whole, manifest.size_bytes);
        assert_eq!((bytes.offset_bytes, bytes.length_bytes), (0, manifest.size_bytes));
    }
});
