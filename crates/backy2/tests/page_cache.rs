//! A backup and a restore leave the page cache of a host as they found it: what others have cached stays, and nothing is
//! added to it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod disks;
mod support;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use backy_device::null::Pattern;
use disks::write_pattern;
use rustix::fs::{Advice, fadvise};
use support::Place;

const IMAGE_BYTES: u64 = 64 << 20;

/// What may be cached of a file that is not: its ends, which a program may look at.
const MARGIN_BYTES: u64 = 1 << 20;

/// Asks `fincore` of util-linux how much of a file is cached.
fn cached_bytes(path: &Path) -> Result<u64, String> {
    let output = Command::new("fincore").args(["--bytes", "--noheadings", "--output", "RES"]).arg(path).output();
    let output = output.map_err(|error| format!("needs fincore of util-linux: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.parse().map_err(|_| format!("fincore says {text:?} {}", String::from_utf8_lossy(&output.stderr)))
}

fn drop_cached(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

fn try_page_cache() -> Result<(), String> {
    let place = Place::with_repository();
    let disk = place.path("disk");
    write_pattern(&disk, Pattern::Random, 1, IMAGE_BYTES);
    drop_cached(&disk);
    if cached_bytes(&disk)? > 0 {
        return Err(format!("{} keeps everything in the page cache", place.folder.path().display()));
    }
    let cached = |path: &Path| cached_bytes(path).unwrap();

    let first = place.backup(&["disk", "vm"]);
    assert!(cached(&disk) <= MARGIN_BYTES, "a backup left {} bytes of its source in the cache", cached(&disk));
    let packs = place.files("repository/packs");
    let packs_cached: u64 = packs.iter().map(|path| cached(path)).sum();
    assert!(packs_cached <= MARGIN_BYTES, "a backup left {packs_cached} bytes of packs in the cache");

    place.ok(&["restore", &first, "out"]);
    let out = place.path("out");
    assert!(cached(&out) <= MARGIN_BYTES, "a restore left {} bytes of its target in the cache", cached(&out));
    let packs_cached: u64 = packs.iter().map(|path| cached(path)).sum();
    assert!(packs_cached <= MARGIN_BYTES, "a restore left {packs_cached} bytes of packs in the cache");
    assert!(place.read("out") == place.read("disk"));

    // All of the source was just read: it is cached now, and a backup does not change that.
    let before = cached(&disk);
    place.backup(&["--verify", "100", "disk", "vm"]);
    let after = cached(&disk);
    assert!(before > IMAGE_BYTES / 2, "the system itself does not cache: {before}");
    assert!(after >= before / 10 * 9, "a backup dropped what others had cached: {before} bytes before, {after} after");
    Ok(())
}

#[test]
fn backups_and_restores_leave_the_page_cache_as_it_was() {
    let folder: PathBuf = std::env::temp_dir();
    if let Err(reason) = try_page_cache() {
        println!("skipped: page cache in {}: {reason}", folder.display());
    }
}
