//! Regular files as sources and targets: what they promise, and what they refuse.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use backy_core::ErrorKind;
use backy_core::units::ByteRange;
use backy_device::conformance::{check_source, check_target};
use backy_device::{DeviceOptions, Source, Target, TargetRequest, open_source, open_target};
use tempfile::TempDir;

const BOTH: [DeviceOptions; 2] = [DeviceOptions { uses_direct_io: true }, DeviceOptions { uses_direct_io: false }];

/// Folders on the file systems that are here: that of temporary files, and one in memory.
fn folders() -> Vec<TempDir> {
    let mut folders = vec![tempfile::tempdir().unwrap()];
    match tempfile::tempdir_in("/dev/shm") {
        Ok(folder) => folders.push(folder),
        Err(error) => println!("skipped: no file system in memory: {error}"),
    }
    folders
}

fn source(path: &Path, options: &DeviceOptions) -> Box<dyn Source> {
    open_source(path.to_str().unwrap(), options).unwrap()
}

fn request(size_bytes: u64, may_overwrite: bool) -> TargetRequest {
    TargetRequest { size_bytes, may_overwrite, options: DeviceOptions::default() }
}

fn target(path: &Path, request: &TargetRequest) -> backy_core::Result<Box<dyn Target>> {
    open_target(path.to_str().unwrap(), request)
}

fn refusal(path: &Path, request: &TargetRequest) -> backy_core::Error {
    target(path, request).err().expect("a refusal")
}

/// Makes a file with data, holes, and an end that fits nothing.
fn holey_file(folder: &Path) -> (PathBuf, Vec<u8>) {
    let path = folder.join("holey");
    let file = File::create(&path).unwrap();
    let mut bytes = vec![0; (1 << 20) + 77];
    for (start, length) in [(0, 5000), (65536, 4096), (300_000, 100_000), ((1 << 20) - 10, 20)] {
        bytes[start..start + length].fill(u8::try_from(start % 251).unwrap() | 1);
        file.write_all_at(&bytes[start..start + length], start as u64).unwrap();
    }
    file.set_len(bytes.len() as u64).unwrap();
    (path, bytes)
}

#[test]
fn a_source_reads_what_the_file_holds() {
    for folder in folders() {
        let (path, bytes) = holey_file(folder.path());
        for options in BOTH {
            check_source(&*source(&path, &options), &bytes);
            File::open(&path).unwrap().sync_all().unwrap();
            check_source(&*source(&path, &options), &bytes);
        }
    }
}

#[test]
fn files_of_every_small_size_are_read_whole() {
    for folder in folders() {
        for size in [0, 1, 511, 512, 4095, 4096, 4097, 70_001] {
            let path = folder.path().join(size.to_string());
            let bytes: Vec<u8> = (0..size).map(|number| u8::try_from(number % 250).unwrap() + 1).collect();
            fs::write(&path, &bytes).unwrap();
            for options in BOTH {
                check_source(&*source(&path, &options), &bytes);
            }
        }
    }
}

#[test]
fn holes_are_no_data() {
    for folder in folders() {
        let path = folder.path().join("holes");
        let file = File::create(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&[1; 4096], 32 << 20).unwrap();
        let source = source(&path, &DeviceOptions::default());
        let found = source.data_ranges(ByteRange::between(0, 64 << 20)).unwrap();
        let [data] = found[..] else { panic!("one range is data, not {found:?}") };
        assert!(data.length_bytes < 8 << 20, "{data:?}");
        let inside = ByteRange::between((32 << 20) + 100, (32 << 20) + 200);
        assert_eq!(source.data_ranges(inside).unwrap(), [inside]);
        assert_eq!(source.data_ranges(ByteRange::between(0, 16 << 20)).unwrap(), []);
    }
}

#[test]
fn what_is_not_there_or_no_device_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let fifo = path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let socket = path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let wrong = [
        (path("missing"), ErrorKind::NotFound, "missing"),
        (folder.path().to_owned(), ErrorKind::InvalidInput, "a directory"),
        (fifo, ErrorKind::InvalidInput, "a FIFO"),
        (socket, ErrorKind::InvalidInput, "a socket"),
        ("/dev/null".into(), ErrorKind::InvalidInput, "a character device"),
        ("".into(), ErrorKind::NotFound, ""),
    ];
    for (path, kind, word) in wrong {
        let error = open_source(path.to_str().unwrap(), &DeviceOptions::default()).err().unwrap();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(word) && error.to_string().contains(path.to_str().unwrap()), "{error}");
        if kind == ErrorKind::InvalidInput {
            let error = refusal(&path, &request(0, true));
            assert!(error.kind() == kind && error.to_string().contains(word), "{error}");
        }
    }
}

#[test]
fn a_source_that_became_shorter_has_changed() {
    for folder in folders() {
        for options in BOTH {
            let path = folder.path().join("shrinking");
            fs::write(&path, vec![1; 100_000]).unwrap();
            let source = source(&path, &options);
            File::options().write(true).open(&path).unwrap().set_len(50_000).unwrap();
            let mut buffer = vec![0; 100_000];
            source.read_at(0, &mut buffer[..50_000]).unwrap();
            for (start_bytes, length) in [(0, 50_001), (49_000, 2000), (50_000, 1), (80_000, 20_000)] {
                let error = source.read_at(start_bytes, &mut buffer[..length]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::SourceChanged, "{error}");
            }
            assert_eq!(source.check_unchanged().unwrap_err().kind(), ErrorKind::SourceChanged);
        }
    }
}

#[test]
fn a_source_that_grew_was_removed_or_replaced_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    type Change = fn(&Path);
    let changes: [(&str, Change); 3] = [
        ("now has", |path| File::options().write(true).open(path).unwrap().set_len(2000).unwrap()),
        ("was removed", |path| fs::remove_file(path).unwrap()),
        ("not the file any more", |path| {
            let other = path.with_extension("other");
            fs::write(&other, vec![1; 1000]).unwrap();
            fs::rename(other, path).unwrap();
        }),
    ];
    for (word, change) in changes {
        let path = folder.path().join("changing");
        fs::write(&path, vec![1; 1000]).unwrap();
        let source = source(&path, &DeviceOptions::default());
        source.check_unchanged().unwrap();
        change(&path);
        let error = source.check_unchanged().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceChanged);
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_new_target_is_sparse_private_and_keeps_what_is_written() {
    for folder in folders() {
        for (number, options) in BOTH.into_iter().enumerate() {
            let path = folder.path().join(format!("new{number}"));
            let target = target(&path, &TargetRequest { options, ..request((3 << 20) + 123, false) }).unwrap();
            assert!(target.is_known_zero());
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!((metadata.mode() & 0o777, metadata.len(), metadata.blocks()), (0o600, (3 << 20) + 123, 0));
            let bytes = check_target(&*target);
            drop(target);
            assert!(fs::read(&path).unwrap() == bytes);
            check_source(&*source(&path, &options), &bytes);
        }
    }
}

#[test]
fn a_new_target_may_be_empty() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(&folder.path().join("empty"), &request(0, false)).unwrap();
    assert_eq!(target.size_bytes(), 0);
    target.write_at(0, &[]).unwrap();
    target.zero_range(ByteRange::between(0, 0)).unwrap();
    target.flush().unwrap();
}

#[test]
fn an_existing_target_needs_force_and_room_and_keeps_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("existing");
    fs::write(&path, vec![7; 300_000]).unwrap();

    let error = refusal(&path, &request(300_000, false));
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("--force"), "{error}");

    let error = refusal(&path, &request(300_001, true));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("has 300000 bytes, and 300001 are needed"), "{error}");
    assert!(fs::read(&path).unwrap() == vec![7; 300_000]);

    let target = target(&path, &request(200_000, true)).unwrap();
    assert!(!target.is_known_zero());
    assert_eq!(target.size_bytes(), 300_000);
    let bytes = check_target(&*target);
    drop(target);
    assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn a_dangling_link_is_not_followed_to_make_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    symlink(folder.path().join("elsewhere"), &link).unwrap();
    assert_eq!(refusal(&link, &request(1, false)).kind(), ErrorKind::AlreadyExists);
    assert!(!folder.path().join("elsewhere").exists());
}

#[test]
fn a_target_in_a_missing_folder_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(refusal(&folder.path().join("no/file"), &request(1, false)).kind(), ErrorKind::NotFound);
}

#[test]
fn a_target_that_cannot_be_that_large_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge");
    let error = refusal(&path, &request(i64::MAX as u64, false));
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(!path.exists());
}

#[test]
fn zeroing_makes_holes_and_spares_the_neighbours() {
    for folder in folders() {
        let path = folder.path().join("zeroed");
        fs::write(&path, vec![7; 8 << 20]).unwrap();
        let target = target(&path, &request(8 << 20, true)).unwrap();
        target.zero_range(ByteRange::between(5, (8 << 20) - 5)).unwrap();
        target.flush().unwrap();
        let mut expected = vec![0; 8 << 20];
        expected[..5].fill(7);
        expected[(8 << 20) - 5..].fill(7);
        assert!(fs::read(&path).unwrap() == expected);
        let allocated_bytes = fs::metadata(&path).unwrap().blocks() * 512;
        assert!(allocated_bytes < 4 << 20, "{allocated_bytes} bytes are still allocated");
    }
}

#[test]
fn windows_of_writes_are_pushed_out_and_nothing_is_lost() {
    for folder in folders() {
        let path = folder.path().join("windows");
        let target = target(&path, &request(40 << 20, false)).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let target = &target;
                scope.spawn(move || {
                    for number in (u64::from(thread)..640).step_by(4) {
                        target.write_at(number << 16, &[u8::try_from(number % 255).unwrap() + 1; 1 << 16]).unwrap();
                    }
                });
            }
        });
        target.flush().unwrap();
        let bytes = fs::read(&path).unwrap();
        for (number, piece) in bytes.chunks(1 << 16).enumerate() {
            assert!(piece.iter().all(|byte| usize::from(*byte) == number % 255 + 1), "piece {number}");
        }
    }
}
