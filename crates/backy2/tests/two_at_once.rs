//! Two backups into one repository at the same time, of images that have much in common: both restore right.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod disks;
mod support;

use std::process::Stdio;

use backy_device::null::Pattern;
use disks::{is_long, listed, place_in, working_folder};
use support::{Place, run_of};

const IMAGE_BYTES: usize = 48 << 20;

/// Returns an image whose first half is the same for all `own`.
fn image(round: u64, own: u64) -> Vec<u8> {
    let mut image = vec![0; IMAGE_BYTES];
    let (common, rest) = image.split_at_mut(IMAGE_BYTES / 2);
    Pattern::Half.fill(1000 + round, 0, common);
    Pattern::Half.fill(own, IMAGE_BYTES as u64 / 2, rest);
    image
}

/// Backs up two images at once, once with each of the configurations, and lists all the while.
fn at_once(place: &Place, configurations: [&str; 2]) {
    for round in 0..if is_long() { 30 } else { 3 } {
        let names = ["disk1", "disk2"];
        let images = [image(round, 10 + 2 * round), image(round, 11 + 2 * round)];
        let mut children = Vec::new();
        for ((name, image), configuration) in names.iter().zip(&images).zip(configurations) {
            place.write(name, image);
            let mut command = support::bare(place.folder.path());
            command.args(["-c", configuration, "-m", "backup", name, name]);
            children.push(command);
        }
        let mut children: Vec<_> = children
            .into_iter()
            .map(|mut command| command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
            .collect();
        while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
            listed(place);
        }
        for ((child, name), image) in children.into_iter().zip(names).zip(&images) {
            let run = run_of(child.wait_with_output().unwrap());
            assert_eq!((run.code, run.stderr.as_str()), (0, ""), "round {round}: {run:#?}");
            for configuration in configurations {
                let mut command = support::bare(place.folder.path());
                command.args(["-c", configuration, "-m", "restore", "-f", run.stdout.trim(), "out"]);
                place.write("out", &vec![0xee; IMAGE_BYTES]);
                let restore = support::finish(command);
                assert_eq!(restore.code, 0, "round {round}: {restore:#?}");
                assert!(place.read("out") == *image, "round {round}: {name} differs");
            }
        }
        // What is common stays for the next ones when both are removed.
        let versions = listed(place);
        assert!(versions.len() == 2 && versions.iter().all(|(_, state)| state == "valid"), "{versions:?}");
        for (uid, _) in versions {
            place.ok(&["rm", "-f", &uid]);
        }
    }
}

#[test]
fn two_backups_share_a_state_folder() {
    let place = place_in(&working_folder(1 << 30));
    at_once(&place, ["backy2.toml", "backy2.toml"]);
}

#[test]
fn two_backups_with_a_state_folder_each() {
    let place = place_in(&working_folder(1 << 30));
    let text = String::from_utf8(place.read("backy2.toml")).unwrap();
    let state = place.path("state").display().to_string();
    assert!(text.contains(&state), "{text}");
    place.write("other.toml", text.replace(&state, &format!("{state}-2")).as_bytes());
    at_once(&place, ["backy2.toml", "other.toml"]);
    assert!(place.path("state-2").exists());
}
