//! Sources that cannot be read, change under the reader, or are spoken of wrongly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::sync::Arc;

use backy_core::ErrorKind;
use backy_core::hint::{Hint, HintState};
use backy_core::policy::audit::AuditSettings;
use backy_core::units::{BlockCount, ByteRange};
use backy_device::Target;
use backy_engine::backup::{BackupRequest, BaseChoice, OnMismatch};
use backy_engine::repository::versions::VersionState;
use backy_store::memory::MemoryStore;
use backy_testkit::device::{DeviceFaults, MemoryDevice, Shrink};
use support::{
    Host, all_bytes, hinted_request, lost_blocks, new_store, noise, request, restore_request, seeded, spec, state_of,
};

const BLOCK: usize = 4096;

fn host(seed: u64) -> (Host, MemoryStore) {
    let environment = seeded(seed);
    let store = new_store(&environment);
    (Host::new(Arc::new(store.clone()), environment), store)
}

fn blocks(start: u64, end: u64) -> ByteRange {
    ByteRange::between(start * BLOCK as u64, end * BLOCK as u64)
}

fn hint(range: ByteRange, state: HintState) -> Hint {
    Hint { range, state }
}

/// An audit of everything.
fn full_audit() -> AuditSettings {
    AuditSettings { percent_of_volume: 100.0, ..AuditSettings::default() }
}

fn no_audit() -> AuditSettings {
    AuditSettings { percent_of_volume: 0.0, ..AuditSettings::default() }
}

fn unreadable(source: &MemoryDevice, ranges: &[ByteRange]) {
    source.set_faults(DeviceFaults { unreadable: ranges.to_vec(), ..DeviceFaults::default() });
}

#[test]
fn blocks_that_cannot_be_read_are_missing_and_are_read_again_next_time() {
    let (host, _) = host(1);
    let bytes = noise(1, 600 * BLOCK + 77);
    let source = MemoryDevice::with_bytes(&bytes);
    // Two bytes on a border, one block in the middle, and the short one at the end.
    unreadable(
        &source,
        &[
            ByteRange::between(10 * 4096 - 1, 10 * 4096 + 1),
            blocks(300, 301),
            ByteRange::between(600 * 4096 + 76, 600 * 4096 + 77),
        ],
    );
    let first = host.backup(&source, "vm").manifest;
    assert_eq!(first.missing_blocks, BlockCount(4));
    assert_eq!(first.statistics.missing_bytes, 3 * 4096 + 77);
    assert_eq!(state_of(&host.repository, &first), VersionState::Invalid);

    // Restored over dirt: what is missing is zero and not what was there before.
    let target = MemoryDevice::with_bytes(&vec![0xee; bytes.len()]);
    let report = host.try_restore(&restore_request(&first, &target)).unwrap();
    assert_eq!(lost_blocks(&report), [9, 10, 300, 600]);
    let mut expected = bytes.clone();
    for block in [9, 10, 300, 600] {
        let end = expected.len().min((block + 1) * BLOCK);
        expected[block * BLOCK..end].fill(0);
    }
    assert!(all_bytes(&target) == expected);

    // Still not readable: still invalid, whatever the hints say.
    unreadable(&source, &[blocks(300, 301)]);
    let second = host.try_backup(&hinted_request(&source, "vm", &first, Vec::new())).unwrap().manifest;
    assert_eq!(second.missing_blocks, BlockCount(1));
    assert_eq!(state_of(&host.repository, &second), VersionState::Invalid);

    source.set_faults(DeviceFaults::default());
    let reads_before = source.counts().read_bytes;
    let unaudited = BackupRequest { audit: no_audit(), ..hinted_request(&source, "vm", &second, Vec::new()) };
    let third = host.try_backup(&unaudited).unwrap().manifest;
    assert_eq!(source.counts().read_bytes - reads_before, 4096, "nothing else is read");
    let fourth = host.backup(&source, "vm").manifest;
    for version in [&third, &fourth] {
        assert_eq!(state_of(&host.repository, version), VersionState::Valid);
        let (restored, report) = host.restore(version);
        assert!(restored == bytes && report.lost.is_empty());
    }
}

#[test]
fn continuing_an_invalid_version_reads_what_is_missing_and_nothing_else() {
    let (host, _) = host(2);
    let bytes = noise(2, 600 * BLOCK);
    let source = MemoryDevice::with_bytes(&bytes);
    unreadable(&source, &[blocks(100, 103), blocks(500, 501)]);
    let first = host.backup(&source, "vm").manifest;
    source.set_faults(DeviceFaults::default());
    let reads_before = source.counts().read_bytes;
    let continuing = BackupRequest { continued: Some(spec(&first)), audit: no_audit(), ..request(&source, "vm") };
    let second = host.try_backup(&continuing).unwrap().manifest;
    assert_eq!(source.counts().read_bytes - reads_before, 4 * 4096);
    assert_eq!(state_of(&host.repository, &second), VersionState::Valid);
    assert!(host.restore(&second).0 == bytes);
    // There is nothing to continue now.
    let again = BackupRequest { continued: Some(spec(&second)), ..request(&source, "vm") };
    assert_eq!(host.try_backup(&again).unwrap_err().error.kind(), ErrorKind::InvalidInput);
    // Another volume is refused.
    let other = MemoryDevice::with_bytes(&bytes[..300 * BLOCK]);
    for wrong in [
        BackupRequest { continued: Some(spec(&first)), ..request(&other, "vm") },
        BackupRequest { continued: Some(spec(&first)), ..request(&source, "other") },
    ] {
        assert_eq!(host.try_backup(&wrong).unwrap_err().error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_source_that_cannot_be_read_at_all_gives_an_invalid_version() {
    let (host, _) = host(3);
    let source = MemoryDevice::with_bytes(&noise(3, 300 * BLOCK));
    unreadable(&source, &[blocks(0, 300)]);
    let version = host.backup(&source, "vm").manifest;
    assert_eq!(
        (version.missing_blocks, state_of(&host.repository, &version)),
        (BlockCount(300), VersionState::Invalid)
    );
    assert_eq!(lost_blocks(&host.restore(&version).1), (0..300).collect::<Vec<u64>>());
}

#[test]
fn a_source_that_changes_its_size_while_it_is_read_is_not_published() {
    for after_reads in [0, 1, 3, 5] {
        let (host, _) = host(4);
        let source = MemoryDevice::with_bytes(&noise(4, 6 << 20));
        // Beyond what any read asks for it is noticed at the end only.
        for size_bytes in [1 << 20, (6 << 20) - 1] {
            let shrinks = Some(Shrink { after_reads, size_bytes });
            let source = MemoryDevice::with_bytes(&all_bytes(&source));
            source.set_faults(DeviceFaults { shrinks, ..DeviceFaults::default() });
            let failure = host.try_backup(&request(&source, "vm")).unwrap_err();
            assert_eq!(failure.error.kind(), ErrorKind::SourceChanged, "{:?}", failure.error);
            let listing = host.repository.versions().unwrap();
            assert!(listing.versions.iter().all(|entry| entry.state == VersionState::Incomplete));
        }
    }
}

#[test]
fn hints_that_go_beyond_the_end_are_refused() {
    let (host, _) = host(5);
    let source = MemoryDevice::with_bytes(&noise(5, 10 * BLOCK + 5));
    let first = host.backup(&source, "vm").manifest;
    let end = source_bytes(&source);
    for state in [HintState::Changed, HintState::Discarded] {
        for range in [
            ByteRange::between(end, end + 1),
            ByteRange::between(0, end + 1),
            ByteRange { offset_bytes: 5, length_bytes: u64::MAX },
        ] {
            let wanted = hinted_request(&source, "vm", &first, vec![hint(range, state)]);
            assert_eq!(host.try_backup(&wanted).unwrap_err().error.kind(), ErrorKind::InvalidInput);
        }
        let fits = hinted_request(&source, "vm", &first, vec![hint(ByteRange::between(0, 0), state)]);
        host.try_backup(&fits).unwrap();
    }
    assert_eq!(host.repository.versions().unwrap().versions.len(), 3);
}

fn source_bytes(source: &MemoryDevice) -> u64 {
    backy_device::Source::size_bytes(source)
}

/// A way in which hints can be wrong: the volume before, the volume now, and what is said.
struct Lie {
    what: &'static str,
    before: Vec<u8>,
    now: Vec<u8>,
    hints: Vec<Hint>,
}

fn lies() -> Vec<Lie> {
    let data = noise(6, 400 * BLOCK);
    let mut zero_there = data.clone();
    zero_there[200 * BLOCK..210 * BLOCK].fill(0);
    let mut changed = data.clone();
    changed[333 * BLOCK + 17] ^= 1;
    let lie =
        |what, before: &Vec<u8>, now: &Vec<u8>, hints| Lie { what, before: before.clone(), now: now.clone(), hints };
    vec![
        lie("one bit changed", &data, &changed, Vec::new()),
        lie("data where the base is zero", &zero_there, &data, Vec::new()),
        lie("zero where the base has data", &data, &zero_there, Vec::new()),
        lie("data where a discard is said", &data, &data, vec![hint(blocks(50, 60), HintState::Discarded)]),
        lie(
            "data where the base is zero and a discard is said",
            &zero_there,
            &data,
            vec![hint(blocks(200, 210), HintState::Discarded)],
        ),
        lie("changed outside of what is said", &data, &changed, vec![hint(blocks(0, 333), HintState::Changed)]),
    ]
}

#[test]
fn hints_that_lie_are_found_and_everything_is_read() {
    for Lie { what, before, now, hints } in lies() {
        for tells_holes in [true, false] {
            let (host, _) = host(6);
            let first = host.backup(&MemoryDevice::with_bytes(&before), "vm").manifest;
            let source = if tells_holes {
                MemoryDevice::new(now.len() as u64)
            } else {
                MemoryDevice::without_holes(now.len() as u64)
            };
            for (number, block) in
                now.chunks(BLOCK).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0))
            {
                source.write_at((number * BLOCK) as u64, block).unwrap();
            }
            let wanted = BackupRequest { audit: full_audit(), ..hinted_request(&source, "vm", &first, hints.clone()) };

            let failing = BackupRequest {
                on_mismatch: OnMismatch::Fail,
                audit: full_audit(),
                ..hinted_request(&source, "vm", &first, hints.clone())
            };
            let failure = host.try_backup(&failing).unwrap_err();
            assert!(failure.are_hints_wrong, "{what}: {failure:?}");
            assert_eq!(failure.incomplete, None);
            assert_eq!(host.repository.versions().unwrap().versions.len(), 1, "{what}: nothing is published");

            let report = host.try_backup(&wanted).unwrap();
            assert!(!report.wrong_hints.is_empty() && report.manifest.origin.hints_were_wrong, "{what}");
            let (restored, _) = host.restore(&report.manifest);
            assert!(restored == now, "{what}: the volume is not right");
        }
    }
}

#[test]
fn verifying_finds_what_a_lie_without_audit_did() {
    for Lie { what, before, now, hints } in lies() {
        let (host, _) = host(7);
        let first = host.backup(&MemoryDevice::with_bytes(&before), "vm").manifest;
        let source = MemoryDevice::with_bytes(&now);
        let wanted =
            BackupRequest { audit: no_audit(), verify_percent: 100.0, ..hinted_request(&source, "vm", &first, hints) };
        let report = host.try_backup(&wanted).unwrap();
        assert!(report.verify_differences.1 > 0, "{what}");
        assert_eq!(report.verified_bytes, now.len() as u64);
        let right = BackupRequest { verify_percent: 100.0, ..request(&source, "vm") };
        assert_eq!(host.try_backup(&right).unwrap().verify_differences.1, 0, "{what}");
    }
}

#[test]
fn empty_hints_mean_that_nothing_has_changed_and_need_a_base() {
    let (host, _) = host(8);
    let bytes = noise(8, 50 * BLOCK + 1);
    let source = MemoryDevice::with_bytes(&bytes);
    let none = BackupRequest { hints: Some(Vec::new()), audit: no_audit(), ..request(&source, "vm") };
    assert_eq!(host.try_backup(&none).unwrap_err().error.kind(), ErrorKind::Refused);
    assert!(host.repository.versions().unwrap().versions.is_empty());

    let first = host.backup(&source, "vm").manifest;
    let reads_before = source.counts().reads;
    let second = host.try_backup(&none).unwrap().manifest;
    assert_eq!(source.counts().reads, reads_before);
    assert_eq!(second.base, Some(first.uid));
    assert!(host.restore(&second).0 == bytes);

    let no_base =
        BackupRequest { hints: Some(Vec::new()), base: BaseChoice::None, audit: no_audit(), ..request(&source, "vm") };
    assert_eq!(host.try_backup(&no_base).unwrap_err().error.kind(), ErrorKind::Refused);
    let zero = host.try_backup(&BackupRequest { may_be_empty: true, ..no_base }).unwrap().manifest;
    assert!(host.restore(&zero).0 == vec![0; bytes.len()]);
    // With an audit that is found out.
    let audited = BackupRequest {
        hints: Some(Vec::new()),
        base: BaseChoice::None,
        may_be_empty: true,
        audit: full_audit(),
        ..request(&source, "vm")
    };
    let report = host.try_backup(&audited).unwrap();
    assert!(!report.wrong_hints.is_empty());
    assert!(host.restore(&report.manifest).0 == bytes);
}

#[test]
fn a_discard_of_a_part_of_a_block_leaves_the_rest_of_it() {
    let (host, _) = host(9);
    let mut bytes = noise(9, 20 * BLOCK + 100);
    let first = host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
    let gone = BLOCK + 10..5 * BLOCK + 10;
    bytes[gone.clone()].fill(0);
    let tail = 20 * BLOCK + 50..20 * BLOCK + 100;
    bytes[tail.clone()].fill(0);
    let said =
        [gone, tail].map(|range| hint(ByteRange::between(range.start as u64, range.end as u64), HintState::Discarded));
    let source = MemoryDevice::with_bytes(&bytes);
    let report =
        host.try_backup(&BackupRequest { audit: no_audit(), ..hinted_request(&source, "vm", &first, said.to_vec()) });
    assert!(host.restore(&report.unwrap().manifest).0 == bytes);
}
