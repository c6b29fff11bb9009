//! A full disk, under the store or under the target, is said so; nothing half is published, and after room is made the
//! printed command goes on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod disks;
mod support;

use backy_device::null::Pattern;
use disks::{Mount, listed, run_named, write_pattern};
use support::Place;

const IMAGE_BYTES: u64 = 100 << 20;

/// Mounts a tmpfs; if that cannot be done, says why the test is skipped.
fn small_disk(place: &Place, name: &str, size_mib: u32) -> Option<Mount> {
    match Mount::tmpfs(&place.path(name), size_mib) {
        Ok(mount) => Some(mount),
        Err(reason) => {
            println!("skipped: needs root to mount a tmpfs: {reason}");
            None
        }
    }
}

#[test]
fn a_backup_to_a_full_store_publishes_nothing_and_goes_on_when_there_is_room() {
    let place = Place::new();
    let Some(disk) = small_disk(&place, "repository", 70) else { return };
    place.ok(&["init"]);
    write_pattern(&place.path("small"), Pattern::Random, 1, 1 << 20);
    let before = place.backup(&["small", "vm"]);
    write_pattern(&place.path("disk"), Pattern::Random, 2, IMAGE_BYTES);

    let message = place.fails(7, &["backup", "disk", "vm"]);
    assert!(message.contains("No space left on device"), "{message}");
    assert!(message.contains("make room, then run: "), "{message}");
    let after = listed(&place);
    assert_eq!(after.len(), 2, "{after:?}");
    assert_eq!(after[0], (before.clone(), "valid".to_owned()));
    assert_eq!(after[1].1, "incomplete");
    place.fails(3, &["restore", &after[1].0, "half"]);
    assert!(!place.path("half").exists());
    // Without room it fails again, and says the same.
    let again = run_named(&place, &message, "make room, then run: ");
    assert_eq!(again.code, 7, "{again:#?}");
    let states: Vec<String> = listed(&place).into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["valid", "incomplete"]);
    // What was there is readable on the full disk.
    place.ok(&["restore", &before, "out-small"]);
    assert!(place.read("out-small") == place.read("small"));

    disk.resize(160);
    let run = run_named(&place, &again.stderr, "make room, then run: ");
    assert_eq!(run.code, 0, "{run:#?}");
    let states: Vec<String> = listed(&place).into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["valid", "valid"]);
    place.ok(&["restore", "vm@latest", "out"]);
    assert!(place.read("out") == place.read("disk"));
}

#[test]
fn a_store_without_any_room_is_refused_whole() {
    let place = Place::new();
    let Some(disk) = small_disk(&place, "repository", 4) else { return };
    place.ok(&["init"]);
    write_pattern(&place.path("disk"), Pattern::Random, 2, 10 << 20);
    let message = place.fails(7, &["backup", "disk", "vm"]);
    assert!(message.contains("No space left on device"), "{message}");
    assert_eq!(listed(&place), []);
    disk.resize(60);
    place.backup(&["disk", "vm"]);
    place.ok(&["restore", "vm@latest", "out"]);
    assert!(place.read("out") == place.read("disk"));
}

#[test]
fn a_restore_to_a_full_target_fails_and_goes_on_when_there_is_room() {
    let place = Place::with_repository();
    let Some(disk) = small_disk(&place, "target", 40) else { return };
    write_pattern(&place.path("disk"), Pattern::Random, 2, IMAGE_BYTES);
    place.backup(&["disk", "vm"]);

    let message = place.fails(1, &["restore", "vm@latest", "target/out"]);
    assert!(message.contains("No space left on device"), "{message}");
    let again = run_named(&place, &message, "to continue, run: ");
    assert_eq!(again.code, 1, "{again:#?}");

    disk.resize(160);
    let run = run_named(&place, &again.stderr, "to continue, run: ");
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(place.read("target/out") == place.read("disk"));
}
