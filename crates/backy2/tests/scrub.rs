//! `scrub` through the command line: what is printed, for whom, and the exit code.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod support;

use support::{Place, random};

/// A repository with two versions of one image, and one of another.
fn place() -> (Place, [String; 3]) {
    let place = Place::with_repository();
    let bytes = random(1, 1 << 20);
    place.write("image", &bytes);
    place.write("other", &random(2, 300_000));
    let uids = [&["image", "vm"], &["image", "vm"], &["other", "other"]].map(|arguments| place.backup(arguments));
    (place, uids)
}

/// Breaks the middle of the largest pack: of the first version, and of the second that shares its blocks.
fn break_pack(place: &Place) {
    let packs = place.files("repository/packs");
    let pack = packs.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(pack, bytes).unwrap();
}

#[test]
fn a_good_repository_is_said_to_be_good() {
    let (place, [first, ..]) = place();
    let printed = place.ok(&["scrub", "vm@latest"]);
    assert!(printed.starts_with("Scrubbed 1 version: ") && printed.trim_end().ends_with(": all good"), "{printed}");
    assert!(place.ok(&["scrub", "--all", "-p", "16", "--since-last"]).contains("1 of "));
    assert!(place.ok(&["scrub", "--name", "vm"]).starts_with("Scrubbed 2 versions"));
    assert!(place.ok(&["scrub", "-s", "image", &first]).contains("1.0 MiB compared with file:///"));
    assert_eq!(place.ok(&["-m", "scrub", &first]), "uid|name|what|offset bytes|length bytes\n");
    assert_eq!(place.ok(&["-ms", "scrub", &first]), "");
}

#[test]
fn damage_has_its_exit_code_its_ranges_and_its_mark_on_every_version() {
    let (place, [first, second, _]) = place();
    break_pack(&place);
    let said = place.fails(20, &["scrub", "--all"]);
    for uid in [&first, &second] {
        assert!(said.contains(&format!("16.0 KiB in 1 range of version {uid} (vm) are damaged")), "{said}");
    }
    assert!(said.contains("1 stored block found damaged"), "{said}");
    let listed = place.ok(&["-ms", "ls", "-f", "uid,state"]);
    assert_eq!(listed.matches("|invalid").count() + listed.matches("|INVALID").count(), 2, "{listed}");
    let run = place.run(&["-ms", "scrub", &first]);
    assert_eq!((run.code, run.stdout.lines().count()), (20, 2), "{run:#?}");
    assert!(run.stdout.lines().all(|line| line.contains("|vm|damaged|") && line.ends_with("|16384")));
    let run = place.run(&["--json", "scrub", &first]);
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, &json["is_clean"], &json["damaged_slots"]), (20, &false.into(), &1.into()));
    assert_eq!(json["findings"].as_array().unwrap().len(), 2);
    // The source has it still.
    let run = place.run(&["scrub", "-s", "image", &first]);
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.stderr.contains("warning: 1 stored block found damaged, and healed from the source."), "{run:#?}");
    assert!(place.ok(&["scrub", "--all"]).contains("all good"));
    place.ok(&["restore", &second, "restored"]);
    assert!(place.read("restored") == place.read("image"));
}

#[test]
fn a_source_that_differs_is_said_with_its_ranges() {
    let (place, [first, ..]) = place();
    let mut bytes = place.read("image");
    bytes[100_000] ^= 1;
    place.write("image", &bytes);
    let said = place.fails(20, &["scrub", "-s", "image", &first]);
    assert!(said.contains("differ from the source:\n  offset 98304, 16384 bytes"), "{said}");
    assert!(place.ok(&["scrub", "--all"]).contains("all good"), "the store is not damaged");
    place.write("short", &bytes[1..]);
    assert!(place.fails(2, &["scrub", "-s", "short", &first]).contains("it is not what was backed up"));
}

#[test]
fn contradictions_are_usage_errors() {
    let (place, [first, second, _]) = place();
    for wrong in [
        &["scrub"][..],
        &["scrub", "--all", "--name", "vm"],
        &["scrub", "--all", &first],
        &["scrub", "--all", "-s", "image"],
        &["scrub", "-s", "image", &first, &second],
        &["scrub", "--since-last", &first],
        &["scrub", "-p", "101", &first],
        &["scrub", "-p", "0", &first],
    ] {
        assert_eq!(place.run(wrong).code, 2, "{wrong:?}");
    }
    place.fails(4, &["scrub", "--name", "nobody"]);
    place.fails(4, &["scrub", "00000000"]);
}
