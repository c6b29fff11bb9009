//! How much memory a job takes at most, whatever the volume: a bound that operators of small backup hosts rely on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod disks;
mod support;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use backy_device::null::Pattern;
use disks::{Mount, fast_folder, place_in, write_pattern};
use support::{Place, run_of};

const PEAK_BYTES_MAX: u64 = 300 << 20;

/// Where data lies on the huge sparse volume.
const ISLANDS: [u64; 4] = [0, (100 << 40) + 12_345, 150 << 40, (200 << 40) - 70_000];
const ISLAND_BYTES: usize = 70_000;

/// Runs a job, and returns the peak of its resident memory; it must end well and stay below the bound.
fn peak_of(place: &Place, arguments: &[&str]) -> String {
    let mut child = place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak_bytes = 0;
    while child.try_wait().unwrap().is_none() {
        // The kernel keeps the peak; only what happens after the last look is missed.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak_bytes = peak_bytes.max(kib.unwrap_or(0) * 1024);
        std::thread::sleep(Duration::from_millis(1));
    }
    let run = run_of(child.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{arguments:?}: {run:#?}");
    println!("{arguments:?}: {} MiB", peak_bytes >> 20);
    assert!(peak_bytes > 1 << 20, "the peak was not seen");
    assert!(peak_bytes < PEAK_BYTES_MAX, "{arguments:?} took {} MiB", peak_bytes >> 20);
    run.stdout.trim().to_owned()
}

#[test]
fn a_backup_and_a_restore_of_incompressible_data_stay_below_the_bound() {
    let place = place_in(&fast_folder(5 << 30));
    write_pattern(&place.path("disk"), Pattern::Random, 1, 1 << 30);
    let uid = peak_of(&place, &["-m", "backup", "disk", "vm"]);
    std::fs::remove_file(place.path("disk")).unwrap();
    peak_of(&place, &["restore", &uid, "out"]);
}

/// Makes a sparse file of 200 TB.
fn huge_file(path: &Path) -> std::io::Result<()> {
    File::create(path)?.set_len(200 << 40)
}

/// Finds a folder where a file may be so large; a mount that is needed for it comes along.
fn folder_for_huge_files(place: &Place) -> Result<(PathBuf, Option<Mount>), String> {
    for folder in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
        let found = tempfile::NamedTempFile::new_in(&folder).is_ok_and(|file| huge_file(file.path()).is_ok());
        if found {
            return Ok((folder, None));
        }
    }
    let image = place.path("xfs");
    File::create(&image).and_then(|file| file.set_len(1 << 30)).map_err(|error| error.to_string())?;
    let made = Command::new("mkfs.xfs").arg("-q").arg(&image).status();
    if !made.is_ok_and(|status| status.success()) {
        return Err("no file system here takes such a file, and mkfs.xfs does not work".to_owned());
    }
    let folder = place.path("mounted");
    let mount = Mount::image(&image, &folder).map_err(|reason| format!("needs root to mount XFS: {reason}"))?;
    Ok((folder, Some(mount)))
}

#[test]
fn a_sparse_volume_of_200_tb_stays_below_the_bound_and_comes_back() {
    let place = Place::with_repository();
    let (folder, _mount) = match folder_for_huge_files(&place) {
        Ok(found) => found,
        Err(reason) => {
            println!("skipped: a file of 200 TB cannot be made: {reason}");
            return;
        }
    };
    let folder = tempfile::tempdir_in(folder).unwrap();
    let disk = folder.path().join("disk");
    let out = folder.path().join("out");
    huge_file(&disk).unwrap();
    let islands = ISLANDS.map(|offset| (offset, support::random(offset, ISLAND_BYTES)));
    let file = OpenOptions::new().write(true).open(&disk).unwrap();
    for (offset, bytes) in &islands {
        file.write_all_at(bytes, *offset).unwrap();
    }
    let uid = peak_of(&place, &["-m", "backup", disk.to_str().unwrap(), "vm"]);
    // The change of one island is a small backup too, with hints.
    place.write("hints", format!("[{{\"offset\":{},\"length\":512,\"exists\":true}}]", 150_u64 << 40).as_bytes());
    peak_of(&place, &["-m", "backup", "-r", "hints", "--audit", "0", disk.to_str().unwrap(), "vm"]);
    assert_eq!(place.ok(&["-ms", "ls", "-f", "size_bytes"]), format!("{0}\n{0}\n", 200_u64 << 40));

    peak_of(&place, &["restore", &uid, out.to_str().unwrap()]);
    let restored = File::open(&out).unwrap();
    assert_eq!(restored.metadata().unwrap().len(), 200 << 40);
    for (offset, bytes) in &islands {
        let mut found = vec![0; ISLAND_BYTES];
        restored.read_exact_at(&mut found, *offset).unwrap();
        assert!(found == *bytes, "the data at {offset} differ");
    }
    let stored_bytes = restored.metadata().unwrap().blocks() * 512;
    assert!(stored_bytes < 4 << 20, "the holes were filled: {stored_bytes} bytes");
}
