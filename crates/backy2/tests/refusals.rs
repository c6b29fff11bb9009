//! What goes wrong ends with the documented code, says what was wrong, and leaves alone what is there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod support;

use support::{Place, bare, finish, random};

fn with_version() -> (Place, String) {
    let place = Place::with_repository();
    place.write("disk", &random(1, 200_000));
    let uid = place.backup(&["disk", "vm1"]);
    (place, uid)
}

#[test]
fn wrong_passphrases_open_nothing() {
    let (place, _) = with_version();
    place.write("passphrase", b"wrong\n");
    assert!(place.fails(6, &["ls"]).contains("opens none"));
    place.fails(6, &["backup", "disk", "vm1"]);
    place.write("passphrase", b"\n");
    assert!(place.fails(2, &["ls"]).contains("empty"));
    std::fs::remove_file(place.path("passphrase")).unwrap();
    place.fails(2, &["ls"]);
}

#[test]
fn without_a_passphrase_and_a_terminal_the_ways_are_named() {
    let (place, _) = with_version();
    place.write("backy2.toml", format!("repository = {:?}", place.path("repository")).as_bytes());
    let message = place.fails(6, &["ls"]);
    for way in ["BACKY2_PASSPHRASE_FILE", "BACKY2_PASSPHRASE_COMMAND", "BACKY2_KEY_FILE"] {
        assert!(message.contains(way), "{message}");
    }
}

#[test]
fn what_is_no_repository_is_said_to_be_none() {
    let place = Place::new();
    assert!(place.fails(4, &["ls"]).contains("backy2 init"));
    std::fs::create_dir(place.path("repository")).unwrap();
    assert!(place.fails(4, &["ls"]).contains("not a backy2 repository"));
    place.write("repository/some.file", b"");
    assert!(place.fails(3, &["init"]).contains("not empty"));
    place.fails(1, &["--repository", "s3://bucket", "ls"]);
    place.write("backy2.toml", b"");
    assert!(place.fails(2, &["ls"]).contains("--repository"));
}

#[test]
fn a_repository_is_not_made_twice() {
    let (place, _) = with_version();
    let before = place.files("repository");
    place.fails(3, &["init"]);
    assert_eq!(place.files("repository"), before);
}

#[test]
fn a_newer_format_is_left_alone() {
    let (place, _) = with_version();
    let path = place.path("repository/repository.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"format\":1", "\"format\":2");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&path, text).unwrap();
    assert!(place.fails(1, &["ls"]).contains("format 2"));
}

#[test]
fn sources_and_names_are_checked() {
    let (place, _) = with_version();
    assert!(place.fails(4, &["backup", "nowhere", "vm1"]).contains("nowhere"));
    place.fails(2, &["backup", "disk", ""]);
    place.fails(2, &["backup", "disk", "a\nb"]);
    place.fails(2, &["backup", "-t", "a b,c\td", "disk", "vm1"]);
    place.fails(2, &["backup", "-e", "soon", "disk", "vm1"]);
    place.fails(2, &["backup", "-b", "3K", "disk", "vm1"]);
    place.fails(1, &["backup", "rbd://pool/image", "vm1"]);
    place.fails(4, &["backup", "-f", "ffffffff", "disk", "vm1"]);
    place.fails(4, &["backup", "--continue", "disk", "vm1"]);
    place.fails(2, &["backup", "-c", "vm1@latest", "disk", "vm1"]);
    assert_eq!(place.ok(&["-ms", "ls"]).lines().count(), 1);
}

#[test]
fn garbage_hints_publish_nothing() {
    let (place, _) = with_version();
    for hints in ["", "[", "garbage", "[{\"offset\":0}]", "[{\"offset\":199999,\"length\":2,\"exists\":true}]"] {
        place.write("hints", hints.as_bytes());
        place.fails(1, &["backup", "-r", "hints", "disk", "vm1"]);
    }
    place.fails(4, &["backup", "-r", "nowhere", "disk", "vm1"]);
    assert_eq!(place.ok(&["-ms", "ls"]).lines().count(), 1);
}

#[test]
fn wrong_hints_cost_a_full_read_or_the_version() {
    let (place, _) = with_version();
    let changed = random(2, 200_000);
    place.write("disk", &changed);
    place.write("hints", b"[]");
    place.fails(5, &["backup", "-r", "hints", "--on-mismatch", "fail", "disk", "vm1"]);
    assert_eq!(place.ok(&["-ms", "ls"]).lines().count(), 1);
    let message = place.fails(5, &["backup", "-r", "hints", "disk", "vm1"]);
    assert!(message.contains("the hints were wrong"), "{message}");
    place.ok(&["restore", "vm1@latest", "out"]);
    assert!(place.read("out") == changed);
}

#[test]
fn empty_hints_without_a_base_need_a_word() {
    let place = Place::with_repository();
    place.write("disk", &[0; 20_000]);
    place.write("hints", b"[]");
    assert!(place.fails(3, &["backup", "-r", "hints", "disk", "vm1"]).contains("--empty-hints-ok"));
    place.backup(&["-r", "hints", "--empty-hints-ok", "disk", "vm1"]);
    place.fails(3, &["backup", "-f", "none", "-r", "hints", "disk", "vm1"]);
}

#[test]
fn a_source_written_to_during_the_backup_shows_in_verify() {
    let (place, _) = with_version();
    // The hints hide a change, and the audit is off: only the comparison sees it.
    place.write("disk", &random(2, 200_000));
    place.write("hints", b"[]");
    let message = place.fails(20, &["backup", "-r", "hints", "--audit", "0", "--verify", "100", "disk", "vm1"]);
    assert!(message.contains("differ from the source"), "{message}");
}

#[test]
fn targets_are_not_overwritten_by_accident() {
    let (place, _) = with_version();
    place.write("out", &[7; 200_000]);
    assert!(place.fails(3, &["restore", "vm1@latest", "out"]).contains("--force"));
    assert!(place.fails(3, &["restore", "-f", "-s", "vm1@latest", "out"]).contains("--target-is-zeroed"));
    place.fails(4, &["restore", "--continue", "vm1@latest", "out"]);
    assert!(place.read("out") == [7; 200_000]);
    place.write("small", &[7; 199_999]);
    assert!(place.fails(1, &["restore", "-f", "vm1@latest", "small"]).contains("too small"));
    assert!(place.read("small") == [7; 199_999]);
    place.fails(2, &["restore", "-c", "14", "vm1@latest", "new"]);
    assert!(!place.path("new").exists());
    place.ok(&["restore", "-f", "vm1@latest", "out"]);
    assert!(place.read("out") == place.read("disk"));
    place.ok(&["restore", "-s", "vm1@latest", "sparse"]);
    assert!(place.read("sparse") == place.read("disk"));
}

#[test]
fn versions_that_are_not_there_are_not_changed() {
    let (place, uid) = with_version();
    for arguments in [
        &["protect", "ffffffff"][..],
        &["unprotect", "ffffffff"],
        &["add-tag", "ffffffff", "a"],
        &["remove-tag", "vm9@latest", "a"],
        &["expire", "ffffffff", "2030-01-01"],
        &["rm", "ffffffff"],
        &["restore", "ffffffff", "out"],
        &["key", "remove", "ffffffff"],
    ] {
        place.fails(4, arguments);
    }
    let some = place.run(&["-m", "rm", "-f", "ffffffff", &uid]);
    assert_eq!((some.code, some.stdout.trim()), (4, uid.as_str()), "what can be removed is");
}

/// Flips a bit of one block of the largest pack.
fn damage_a_pack(place: &Place) {
    let packs = place.files("repository/packs");
    let largest = packs.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::set_permissions(largest, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(largest, bytes).unwrap();
}

#[test]
fn verify_reads_what_is_stored_and_not_what_is_remembered() {
    let place = Place::with_repository();
    place.write("disk", &random(1, 1 << 20));
    place.backup(&["--verify", "100", "disk", "vm1"]);
    damage_a_pack(&place);
    let message = place.fails(20, &["backup", "--verify", "100", "disk", "vm1"]);
    assert!(message.contains("1 block of the version cannot be read or differ"), "{message}");
    assert!(place.ok(&["ls"]).contains("INVALID"), "the damage was not noted");
    // The way that the message names: back up again.
    place.backup(&["--verify", "100", "disk", "vm1"]);
}

#[test]
fn a_version_that_may_be_newer_is_named_before_an_older_one_is_restored() {
    let (place, _) = with_version();
    let newest = place.backup(&["disk", "vm1"]);
    let path = place.path(&format!("repository/versions/{newest}/manifest"));
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&path, b"garbage").unwrap();
    std::fs::remove_dir_all(place.path("state")).unwrap();
    let run = place.run(&["-m", "restore", "vm1@latest", "out"]);
    assert!(run.code == 0 && run.stderr.contains(&newest), "{run:#?}");
}

#[test]
fn a_version_that_is_named_twice_is_removed_once() {
    let (place, oldest) = with_version();
    let newest = place.backup(&["disk", "vm1"]);
    let removed = place.ok(&["-m", "rm", "-f", "vm1@latest", "vm1@latest", &newest]);
    assert_eq!((removed.trim(), place.ok(&["-ms", "ls", "-f", "uid"]).trim()), (newest.as_str(), oldest.as_str()));
}

#[test]
fn an_option_behind_its_command_is_told_where_it_stands() {
    let place = Place::with_repository();
    let message = place.fails(2, &["ls", "--json"]);
    assert!(message.contains("--json stands before the command"), "{message}");
    assert!(!place.fails(2, &["ls", "--nothing"]).contains("before the command"));
}

#[test]
fn damage_is_named_and_the_rest_restored() {
    let place = Place::with_repository();
    let image = random(1, 1 << 20);
    place.write("disk", &image);
    place.backup(&["disk", "vm1"]);
    damage_a_pack(&place);

    let message = place.fails(20, &["restore", "vm1@latest", "out"]);
    assert!(message.contains("16.0 KiB in 1 range could not be restored"), "{message}");
    let run = place.run(&["--json", "restore", "vm1@latest", "other"]);
    assert_eq!(run.code, 20);
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(json["damaged_bytes"], 16384);
    let offset = usize::try_from(json["damaged"][0]["offset_bytes"].as_u64().unwrap()).unwrap();
    let mut expected = image;
    expected[offset..offset + 16384].fill(0);
    assert!(place.read("out") == expected && place.read("other") == expected);
    assert_eq!(place.ok(&["-ms", "ls", "-f", "state,valid"]), "INVALID|0\n");
    // The next backup reads what is damaged again.
    place.write("hints", b"[]");
    place.backup(&["-r", "hints", "disk", "vm1"]);
    place.ok(&["restore", "vm1@latest", "good"]);
    assert!(place.read("good") == place.read("disk"));
}

#[test]
fn a_damaged_manifest_is_reported_and_the_others_are_listed() {
    let (place, uid) = with_version();
    let other = place.backup(&["disk", "vm2"]);
    let path = place.path(&format!("repository/versions/{uid}/manifest"));
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&path, b"garbage").unwrap();
    std::fs::remove_dir_all(place.path("state")).unwrap();
    let run = place.run(&["-ms", "ls", "-f", "uid"]);
    assert_eq!((run.code, run.stdout.trim()), (20, other.as_str()), "{run:#?}");
    assert!(run.stderr.contains(&uid), "{run:#?}");
}

#[test]
fn configurations_that_are_wrong_stop_everything() {
    let place = Place::new();
    place.configure("worker = 3\n");
    let message = place.fails(2, &["ls"]);
    assert!(message.contains("backy2.toml:6") && message.contains("did you mean workers?"), "{message}");
    let run = finish({
        let mut command = bare(place.folder.path());
        command.args(["-c", "nowhere.toml", "config", "show"]);
        command
    });
    assert_eq!(run.code, 2);
    // What needs no configuration works all the same.
    place.ok(&["version"]);
    assert!(place.ok(&["completion", "bash"]).contains("complete"));
}

#[test]
fn the_configuration_shows_origins_and_no_secrets() {
    let place = Place::new();
    place.write("backy2.toml", b"workers = 3\npassphrase_command = \"echo open sesame\"\n");
    let mut command = place.command(&["-ms", "config", "show"]);
    command.env("BACKY2_REPOSITORY", "/of/environment").env("HOME", "/home/u");
    let run = finish(command);
    assert_eq!(run.code, 0);
    assert!(run.stdout.contains("repository|/of/environment|environment BACKY2_REPOSITORY\n"), "{run:#?}");
    assert!(run.stdout.contains("workers|3|backy2.toml:1\n"), "{run:#?}");
    assert!(run.stdout.contains("block_size|16KiB|default\n"), "{run:#?}");
    assert!(!run.stdout.contains("sesame"), "{run:#?}");
}
