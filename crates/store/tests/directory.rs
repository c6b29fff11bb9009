//! What a directory store does beyond what every store does: leftovers, foreign files, links, full disks, the cache.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use backy_core::ErrorKind;
use backy_core::environment::Timestamp;
use backy_core::names::ObjectName;
use backy_store::object_store::list_all;
use backy_store::{DirectoryStore, ObjectRange, ObjectStore};
use rustix::fs::{Advice, fadvise};

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn fresh() -> (tempfile::TempDir, PathBuf, DirectoryStore) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("store");
    let store = DirectoryStore::create(&path).unwrap();
    (folder, path, store)
}

fn listed(store: &dyn ObjectStore) -> Vec<String> {
    list_all(store, "").unwrap().into_iter().map(|object| object.name.to_string()).collect()
}

fn temporaries(path: &Path) -> usize {
    fs::read_dir(path.join(".tmp")).unwrap().count()
}

#[test]
fn opening_a_directory_that_is_not_there_hints_at_the_mount() {
    let (_folder, path, _) = fresh();
    let error = DirectoryStore::open(&path.join("none")).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("not mounted"), "{error}");
    let file = path.join("file");
    fs::write(&file, b"").unwrap();
    assert_eq!(DirectoryStore::open(&file).map(|_| ()).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn creating_refuses_a_directory_that_holds_something_or_has_no_parent() {
    let (_folder, path, _) = fresh();
    fs::create_dir(path.join("lost+found")).unwrap();
    DirectoryStore::create(&path).unwrap();
    fs::write(path.join("letter.txt"), b"dear").unwrap();
    let error = DirectoryStore::create(&path).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("letter.txt"), "{error}");
    let error = DirectoryStore::create(&path.join("a/b")).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn opening_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    DirectoryStore::open(folder.path()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_a_killed_put_leaves_is_invisible_and_removed_when_it_is_old() {
    let (_folder, path, store) = fresh();
    store.put(&name("packs/1/a"), b"x").unwrap();
    // A put that was killed in the middle has written a part of its temporary file, and nothing else.
    for leftover in ["1-0", "999-0"] {
        fs::write(path.join(".tmp").join(leftover), [0; 1000]).unwrap();
    }
    // The next process gets the same number, as it does in a container, and must not touch what is not its own.
    fs::write(path.join(".tmp").join(format!("{}-{}", std::process::id(), u64::MAX)), b"").unwrap();
    store.put(&name("packs/1/b"), b"y").unwrap();
    assert_eq!(listed(&store), ["packs/1/a", "packs/1/b"]);
    assert_eq!(temporaries(&path), 3);

    assert_eq!(store.remove_stale_temporaries(Timestamp { milliseconds: 1_000_000_000_000 }).unwrap(), 0);
    let old = fs::File::options().write(true).open(path.join(".tmp/1-0")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000)).unwrap();
    assert_eq!(store.remove_stale_temporaries(Timestamp { milliseconds: 1_000_000_000_000 }).unwrap(), 1);
    assert_eq!(store.remove_stale_temporaries(Timestamp { milliseconds: u64::MAX }).unwrap(), 2);
    assert_eq!(listed(&store), ["packs/1/a", "packs/1/b"]);
}

#[test]
fn names_of_leftovers_are_not_taken_twice() {
    let (_folder, path, store) = fresh();
    let process = std::process::id();
    for number in 0..200 {
        let _ = fs::File::create_new(path.join(format!(".tmp/{process}-{number}"))).unwrap().set_len(7);
    }
    store.put(&name("a"), b"x").unwrap();
    assert_eq!(temporaries(&path), 200);
    assert_eq!(store.get(&name("a"), 1).unwrap(), b"x");
}

#[test]
fn a_put_that_fails_leaves_nothing() {
    let (_folder, path, store) = fresh();
    // A folder is where the object should be.
    fs::create_dir_all(path.join("packs/1/x")).unwrap();
    let error = store.put(&name("packs/1"), b"x").unwrap_err();
    assert!(error.to_string().contains("packs/1"), "{error}");
    assert_eq!(temporaries(&path), 0);
    // A file is where a folder should be.
    store.put(&name("file"), b"x").unwrap();
    assert_eq!(store.put(&name("file/a"), b"x").unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(temporaries(&path), 0);
    assert_eq!(listed(&store), ["file"]);
}

#[test]
fn foreign_files_are_passed_over() {
    let (_folder, path, store) = fresh();
    store.put(&name("packs/1/a"), b"x").unwrap();
    for foreign in [".nfs0001", "README", "packs/.DS_Store", "packs/a b", "packs/1/ä", "packs/1/a~"] {
        fs::write(path.join(foreign), b"?").unwrap();
    }
    for foreign in [".snapshot/packs", "lost+found", "packs/.hidden", "packs/Foreign"] {
        fs::create_dir_all(path.join(foreign)).unwrap();
        fs::write(path.join(foreign).join("a"), b"?").unwrap();
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, path.join("packs/fifo"), rustix::fs::Mode::RWXU).unwrap();
    fs::write(path.join("packs").join(std::ffi::OsString::from("a".repeat(199))), b"too long with its folder").unwrap();
    assert_eq!(listed(&store), ["packs/1/a"]);
    assert_eq!(store.get(&name("packs/fifo"), 1).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn links_inside_the_repository_are_refused_and_never_followed() {
    let (folder, path, store) = fresh();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a"), b"secret").unwrap();
    symlink(&outside, path.join("packs")).unwrap();
    symlink(outside.join("a"), path.join("link")).unwrap();
    for text in ["packs/a", "link"] {
        assert_eq!(store.get(&name(text), 10).unwrap_err().kind(), ErrorKind::Unsupported, "{text}");
    }
    assert_eq!(store.put(&name("packs/b"), b"x").unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(store.delete(&name("packs/a")).unwrap_err().kind(), ErrorKind::Unsupported);
    // A listing that passed over the link would say that there are no packs.
    assert_eq!(list_all(&store, "packs/").unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(list_all(&store, "versions/").unwrap().is_empty());
    // An object may be put in the place of a link; the file behind stays as it is.
    store.put(&name("link"), b"x").unwrap();
    assert_eq!(fs::read(outside.join("a")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn the_root_may_be_a_link() {
    let (folder, path, _) = fresh();
    symlink(&path, folder.path().join("root")).unwrap();
    let store = DirectoryStore::open(&folder.path().join("root")).unwrap();
    store.put(&name("a/b"), b"x").unwrap();
    assert!(path.join("a/b").is_file());
}

#[test]
fn only_the_owner_may_read() {
    let (_folder, path, store) = fresh();
    store.put(&name("packs/1/a"), b"x").unwrap();
    for (place, mode) in [("", 0o700), ("packs", 0o700), ("packs/1", 0o700), ("packs/1/a", 0o600), (".tmp", 0o700)] {
        let found = fs::metadata(path.join(place)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found & !mode, 0, "{place}: {found:o}");
    }
}

#[test]
fn empty_folders_are_removed_but_not_those_at_the_top() {
    let (_folder, path, store) = fresh();
    store.put(&name("packs/1/a"), b"x").unwrap();
    store.put(&name("packs/1/b"), b"x").unwrap();
    store.delete(&name("packs/1/a")).unwrap();
    assert!(path.join("packs/1").is_dir());
    store.delete(&name("packs/1/b")).unwrap();
    assert!(!path.join("packs/1").exists());
    assert!(path.join("packs").is_dir());
}

#[test]
fn a_repository_that_was_removed_is_not_an_empty_one() {
    let (_folder, path, store) = fresh();
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(list_all(&store, "").unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(store.put(&name("a"), b"x").unwrap_err().kind(), ErrorKind::Unavailable);
}

/// Returns how many bytes of a file are in the page cache; `None` if there is nothing to ask (util-linux).
fn cached_bytes(path: &Path) -> Option<u64> {
    let output =
        Command::new("fincore").args(["--bytes", "--noheadings", "--output", "RES"]).arg(path).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

#[test]
fn packs_leave_the_page_cache_as_it_was() {
    let (_folder, path, store) = fresh();
    let body: Vec<u8> = (0..3 * 1024 * 1024_u32 + 123).map(|i| i.to_le_bytes()[1]).collect();
    let pack = name("packs/1/a");
    store.put(&pack, &body).unwrap();
    let path = path.join("packs/1/a");
    match cached_bytes(&path) {
        Some(cached) => assert_eq!(cached, 0, "after a put"),
        None => {
            eprintln!("skipped: needs the command fincore to see what is cached");
            return;
        }
    }
    let mut buffer = Vec::new();
    let mut read_everywhere = || {
        assert!(store.get(&pack, u64::MAX).unwrap() == body);
        for (offset, length) in [(1 << 20, 100_000), ((1 << 20) - 100, 20_000), (5000, 10)] {
            let range = ObjectRange::Exact { offset_bytes: offset as u64, length_bytes: length as u64 };
            store.get_range(&pack, range, &mut buffer).unwrap();
            assert!(buffer == body[offset..offset + length]);
        }
    };
    read_everywhere();
    assert_eq!(cached_bytes(&path), Some(0), "after reads");

    let file = fs::File::open(&path).unwrap();
    fadvise(&file, 0, None, Advice::Random).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut [0; 8192], 1 << 20).unwrap();
    let cached = cached_bytes(&path);
    assert!(cached >= Some(8192), "what others read is cached: {cached:?}");
    read_everywhere();
    assert_eq!(cached_bytes(&path), cached, "after reads of what was cached");
}

/// A small tmpfs that is unmounted at the end; none if this user may not mount.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(options: &str) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk(folder));
        }
        eprintln!("skipped: needs root to mount a tmpfs");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_no_space_and_leaves_nothing_half_written() {
    let Some(disk) = SmallDisk::mount("size=1m") else { return };
    let path = disk.0.path().join("store");
    let store = DirectoryStore::create(&path).unwrap();
    store.put(&name("packs/1/a"), &[1; 500_000]).unwrap();
    for size in [600_000, 2 << 20] {
        let error = store.put(&name("packs/1/b"), &vec![2; size]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error:?}");
        assert!(error.to_string().contains("packs/1/b"), "{error}");
    }
    // Small objects are written another way.
    let outcome = (0..20).map(|i| store.put(&name(&format!("packs/2/{i}")), &[3; 60_000])).find(Result::is_err);
    assert_eq!(outcome.unwrap().unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(temporaries(&path), 0);
    for object in list_all(&store, "").unwrap() {
        let expected = if object.name.as_str() == "packs/1/a" { 500_000 } else { 60_000 };
        assert_eq!(object.size_bytes, expected, "{}", object.name);
    }
    assert!(!listed(&store).contains(&"packs/1/b".to_owned()));
    // With room again, all is well.
    store.delete(&name("packs/1/a")).unwrap();
    store.put(&name("packs/1/b"), &[2; 400_000]).unwrap();
}

#[test]
fn a_disk_without_inodes_is_no_space() {
    let Some(disk) = SmallDisk::mount("size=1m,nr_inodes=12") else { return };
    let store = DirectoryStore::create(&disk.0.path().join("store")).unwrap();
    let error = (0..20).find_map(|i| store.put(&name(&format!("packs/{i}")), b"x").err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.to_string().contains("packs/"), "{error}");
}

#[test]
fn a_disk_mounted_read_only_can_be_read() {
    let Some(disk) = SmallDisk::mount("size=1m") else { return };
    let path = disk.0.path().join("store");
    DirectoryStore::create(&path).unwrap().put(&name("packs/a"), b"x").unwrap();
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.0.path()).status().unwrap();
    assert!(remounted.success());
    let store = DirectoryStore::open(&path).unwrap();
    assert_eq!(store.get(&name("packs/a"), 1).unwrap(), b"x");
    assert_eq!(listed(&store), ["packs/a"]);
    assert_eq!(store.put(&name("b"), b"x").unwrap_err().kind(), ErrorKind::PermissionDenied);
}
