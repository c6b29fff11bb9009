//! `check` as it is typed: codes, messages, and what scripts read.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod support;

use support::{Place, random};

#[test]
fn a_check_says_what_is_missing_and_its_code_too() {
    let place = Place::with_repository();
    place.write("disk", &random(1, 300_000));
    let uid = place.backup(&["disk", "vm"]);
    let text = place.ok(&["check"]);
    assert!(text.contains("1 version ") && text.contains("Everything is there, and fits together."), "{text}");
    assert_eq!(place.ok(&["-ms", "check"]), "");
    assert!(place.ok(&["check", "--repair"]).contains("The catalog of this host was made anew."));

    let pack = place.files("repository/packs").remove(0);
    let whole = std::fs::read(&pack).unwrap();
    std::fs::remove_file(&pack).unwrap();
    let run = place.run(&["check"]);
    assert_eq!(run.code, 20, "{run:#?}");
    assert!(run.stderr.contains(&format!("warning: version {uid}: ")), "{run:#?}");
    assert!(run.stderr.contains("  offset 0, 300000 bytes\n"), "{run:#?}");
    let run = place.run(&["-ms", "check"]);
    let line = run.stdout.lines().find(|line| line.contains(&uid)).unwrap();
    assert!(line.starts_with(&format!("damage|versions/{uid}/manifest|{uid}|300000|")), "{line}");
    let run = place.run(&["--json", "check"]);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, report["is_damaged"].as_bool()), (20, Some(true)));

    std::fs::write(&pack, whole).unwrap();
    place.ok(&["check"]);
    place.ok(&["rm", "-f", &uid]);
    let text = place.ok(&["check"]);
    assert!(text.contains("Left over, and freed by `backy2 cleanup`: 1 pack ("), "{text}");
    place.ok(&["cleanup"]);
    assert!(!place.ok(&["check"]).contains("Left over"));
}

#[test]
fn a_manifest_that_cannot_be_read_comes_with_what_to_do() {
    let place = Place::with_repository();
    place.write("disk", &random(1, 100_000));
    let uid = place.backup(&["disk", "vm"]);
    place.write(&format!("repository/versions/{uid}/manifest"), b"nothing");
    let run = place.run(&["check"]);
    assert_eq!(run.code, 20, "{run:#?}");
    assert!(run.stderr.contains(&format!("`backy2 rm -f {uid}`")), "{run:#?}");
}
