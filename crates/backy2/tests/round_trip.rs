//! The way of a disk through the program, from `init` to a restore that is compared byte by byte.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod support;

use support::{Place, finish, random};

const MIB: usize = 1 << 20;

/// An image with data, a hole and zeros.
fn image() -> Vec<u8> {
    let mut image = random(1, 3 * MIB);
    image.extend(vec![0; MIB + 4096]);
    image.extend(random(2, 12_345));
    image
}

#[test]
fn a_disk_comes_back_bit_for_bit() {
    let place = Place::new();
    let made = place.ok(&["init"]);
    assert!(made.starts_with("New repository: "), "{made}");

    let mut image = image();
    place.write("disk", &image);
    let first = place.run(&["backup", "-t", "a,b", "disk", "vm1"]);
    assert_eq!(first.code, 0);
    assert!(first.stdout.starts_with("New version: ") && first.stdout.ends_with(" (Tags: [a,b])\n"), "{first:?}");

    image[5] ^= 1;
    image.truncate(4 * MIB);
    place.write("disk", &image);
    place.write("hints", br#"[{"offset":0,"length":6,"exists":true}]"#);
    let second = place.run(&["backup", "-r", "hints", "--verify", "100", "disk", "vm1"]);
    assert_eq!(second.code, 0, "{second:#?}");
    assert!(second.stderr.contains("Base: version "), "{second:#?}");
    assert!(second.stderr.contains("0 blocks differ"), "{second:#?}");

    for (name, target) in [("vm1@latest", "new"), ("vm1@latest", "again")] {
        place.ok(&["restore", name, target]);
        assert!(place.read(target) == image);
    }
    let equal = place.ok(&["restore", "-f", "--delta", "vm1@latest", "new"]);
    assert!(equal.contains("0 B written"), "{equal}");
    place.ok(&["restore", "vm1@latest", "null://"]);
    assert!(place.files("state").iter().all(|path| !path.display().to_string().contains("restore-")));
}

#[test]
fn hints_come_from_standard_input_too() {
    let place = Place::with_repository();
    let mut image = image();
    place.write("disk", &image);
    place.backup(&["disk", "vm1"]);
    image[7] ^= 1;
    place.write("disk", &image);
    place.write("hints", b"[{\"offset\":4,\n\"length\":4,\n\"exists\":\"true\"}]\n");
    let mut command = place.command(&["backup", "-r", "-", "disk", "vm1"]);
    command.stdin(std::fs::File::open(place.path("hints")).unwrap());
    let run = finish(command);
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.stderr.contains("16.0 KiB read"), "{run:#?}");
    place.ok(&["restore", "vm1@latest", "out"]);
    assert!(place.read("out") == image);
}

#[test]
fn machines_get_the_uid_once_and_json_whole() {
    let place = Place::with_repository();
    place.write("disk", &image());
    let uid = place.backup(&["disk", "vm1"]);
    assert_eq!(uid.len(), 32, "{uid}");
    let json: serde_json::Value =
        serde_json::from_str(&place.ok(&["--json", "backup", "-t", "x", "disk", "vm1"])).unwrap();
    assert_eq!(json["tags"], serde_json::json!(["x"]));
    assert_eq!(json["bytes_new"], 0);
    assert_eq!(json["base"], uid.as_str());
    let quiet = place.run(&["-m", "backup", "disk", "vm1"]);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn lists_are_for_people_scripts_and_programs() {
    let place = Place::with_repository();
    place.write("disk", &random(3, 20_000));
    let uid = place.backup(&["-s", "snap", "--note", "a|b\\", "-e", "2020-01-01", "--protect", "disk", "vm1"]);
    place.backup(&["-t", "daily", "disk", "vm2"]);

    let table = place.ok(&["ls"]);
    assert!(table.starts_with("date "), "{table}");
    assert!(table.contains(&uid[24..]) && !table.contains(&uid), "{table}");
    assert!(table.contains("valid") && table.contains("yes"), "{table}");
    assert_eq!(
        place.ok(&["-m", "ls", "vm1"]).lines().next(),
        Some("date|name|snapshot_name|size|size_bytes|uid|valid|protected|tags|expire")
    );
    let line =
        place.ok(&["-ms", "ls", "vm1", "-f", "name,snapshot_name,size,size_bytes,uid,valid,protected,expire,note"]);
    assert_eq!(line, format!("vm1|snap|2|20000|{uid}|1|1|2020-01-01 00:00:00|a\\|b\\\\\n"));
    assert_eq!(place.ok(&["-ms", "-r", "ls", "-f", "size_bytes", "vm1"]), "19.5 KiB\n");
    assert_eq!(place.ok(&["-ms", "ls", "-e", "-f", "name"]), "vm1\n");
    assert_eq!(place.ok(&["-ms", "ls", "-t", "daily", "-f", "name"]), "vm2\n");
    assert_eq!(place.ok(&["-ms", "ls", "-s", "snap", "-f", "name"]), "vm1\n");
    assert_eq!(place.ok(&["-ms", "ls", "nobody"]), "");
    let json: serde_json::Value = serde_json::from_str(&place.ok(&["--json", "ls"])).unwrap();
    assert_eq!(json[0]["note"], "a|b\\");
    assert_eq!(json[0]["expire"], "2020-01-01T00:00:00Z");

    let stats = place.ok(&["-ms", "stats", "-f", "name,bytes new,bytes dedup"]);
    assert_eq!(stats, "vm1|20000|0\nvm2|0|20000\n");
    assert_eq!(place.ok(&["-ms", "stats", "-l", "1", "-f", "name"]), "vm2\n");
    assert_eq!(place.ok(&["-ms", "stats", &uid, "-f", "size bytes"]), "20000\n");
}

#[test]
fn labels_change_and_protection_holds() {
    let place = Place::with_repository();
    place.write("disk", &random(3, 20_000));
    let uid = place.backup(&["-t", "a", "disk", "vm1"]);
    place.ok(&["add-tag", &uid, "b,c"]);
    place.ok(&["remove-tag", "vm1@latest", "a,none"]);
    place.ok(&["expire", &uid, "2031-05-06 07:08"]);
    place.ok(&["protect", &uid[20..]]);
    assert_eq!(place.ok(&["-ms", "ls", "-f", "tags,expire,protected"]), "b,c|2031-05-06 07:08:00|1\n");
    place.fails(3, &["rm", "-f", &uid]);
    place.ok(&["unprotect", &uid]);
    place.ok(&["expire", &uid, ""]);
    assert_eq!(place.ok(&["-ms", "ls", "-f", "tags,expire,protected"]), "b,c||0\n");
    let young = place.fails(3, &["rm", &uid]);
    assert!(young.contains("younger than 6 days"), "{young}");
    assert!(place.ok(&["rm", "-f", &uid]).contains(&uid));
    assert_eq!(place.ok(&["-ms", "ls"]), "");
}

#[test]
fn versions_are_found_by_uid_name_and_date() {
    let place = Place::with_repository();
    place.write("disk", &random(3, 5000));
    let uid = place.backup(&["disk", "root@vm1"]);
    let other = place.backup(&["disk", "vm2"]);
    let date = place.ok(&["-ms", "ls", "root@vm1", "-f", "date"]);
    let (day, time) = date.trim().split_once(' ').unwrap();
    let hyphens = format!("{}-{}", uid[..8].to_uppercase(), &uid[8..]);
    for name in
        [&uid, &uid[22..], &hyphens, "root@vm1@latest", &format!("root@vm1@{day}"), &format!("root@vm1@{day}T{time}")]
    {
        assert_eq!(place.ok(&["-ms", "stats", name, "-f", "uid"]).trim(), uid, "{name}");
    }
    let both = place.fails(2, &["stats", &uid[..5]]);
    assert!(both.contains(&uid) && both.contains(&other), "{both}");
    place.fails(4, &["stats", "root@vm1@2001-01-01"]);
    place.fails(4, &["stats", "ffffffff"]);
    place.fails(2, &["stats", "vm2"]);
}

#[test]
fn what_opens_a_repository_can_be_changed() {
    let place = Place::with_repository();
    place.write("disk", &random(3, 5000));
    place.backup(&["disk", "vm1"]);
    place.write("key", &random(4, 64));
    place.write("second", b"another\n");
    let id = place.ok(&["-m", "key", "add", "--new-key-file", "key", "--label", "cron"]).trim().to_owned();
    place.ok(&["key", "add", "--new-passphrase-file", "second"]);
    let list = place.ok(&["-ms", "key", "list", "-f", "kind,label"]);
    assert_eq!(list, "passphrase|init\nkey file|cron\npassphrase|\n");

    // The key file of the environment is stronger than the passphrase of the configuration.
    let with_key = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("BACKY2_KEY_FILE", place.path("key"));
        finish(command)
    };
    assert_eq!(with_key(&["ls"]).code, 0);
    let own = with_key(&["key", "remove", &id]);
    assert_eq!(own.code, 3, "{own:#?}");
    place.ok(&["key", "remove", &id]);
    assert_eq!(with_key(&["ls"]).code, 6);
    let mut with_command = place.command(&["-ms", "ls", "-f", "name"]);
    with_command.env("BACKY2_PASSPHRASE_COMMAND", "echo another; echo and more");
    assert_eq!(finish(with_command).stdout, "vm1\n");
}

#[test]
fn a_repository_without_encryption_is_made_by_demand_only() {
    let place = Place::new();
    place.fails(2, &["init", "--encryption", "none"]);
    place.write("backy2.toml", format!("state_dir = {:?}", place.path("state")).as_bytes());
    let made = place.run(&["init", "--encryption", "none", "plain"]);
    assert!(made.code == 0 && made.stderr.contains("not encrypted"), "{made:#?}");
    place.write("disk", &random(3, 5000));
    place.ok(&["--repository", "plain", "backup", "disk", "vm1"]);
    place.ok(&["--repository", "plain", "restore", "vm1@latest", "out"]);
    assert_eq!(place.read("out"), place.read("disk"));
    // A passphrase for what has none: it may be another repository than the one that is meant.
    let mut command = place.command(&["--repository", "plain", "ls"]);
    command.env("BACKY2_PASSPHRASE_FILE", place.path("passphrase"));
    assert_eq!(finish(command).code, 6);
}
