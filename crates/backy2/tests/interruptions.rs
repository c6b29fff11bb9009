//! Ctrl-C and a full store leave what can be continued, and say by which command.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod support;

use std::path::Path;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};
use support::{Place, Run, bare, finish, random, run_of};

const IMAGE_BYTES: usize = 72 << 20;

/// Interrupts the program as soon as `has_begun` says so; twice, as `timeout` does, which signals the process and its group.
fn interrupt(mut child: Child, has_begun: impl Fn() -> bool) -> Run {
    while !has_begun() {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early: {:#?}", child.wait_with_output());
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    run_of(child.wait_with_output().unwrap())
}

/// Runs the command that a message names, in the folder of the place.
fn run_named(place: &Place, message: &str, before: &str) -> Run {
    let (_, command) = message.split_once(before).unwrap_or_else(|| panic!("{message}"));
    let command = command.lines().next().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_backy2"));
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(command).current_dir(place.folder.path()).env_clear().env("TZ", "UTC");
    shell.env("PATH", format!("{}:/usr/bin:/bin", program.parent().unwrap().display()));
    finish(shell)
}

#[test]
fn an_interrupted_backup_and_restore_go_on() {
    let place = Place::with_repository();
    place.write("disk", &random(1, IMAGE_BYTES));
    place.configure("bandwidth_write = \"24MiB\"\n");
    let child = place.spawn(&["backup", "-t", "kept", "disk", "vm1"]);
    let run = interrupt(child, || !place.files("repository/packs").is_empty());
    assert_eq!(run.code, 130, "{run:#?}");
    assert!(run.stderr.contains("press again to stop at once"), "{run:#?}");
    assert_eq!(place.ok(&["-ms", "ls", "-f", "state,tags"]), "incomplete|kept\n");
    let refused = place.fails(3, &["restore", place.ok(&["-ms", "ls", "-f", "uid"]).trim(), "out"]);
    assert!(refused.contains("finish the backup first"), "{refused}");
    place.configure("");
    let run = run_named(&place, &run.stderr, "to continue, run: ");
    assert_eq!(run.code, 0, "{run:#?}");
    assert_eq!(place.ok(&["-ms", "ls", "-f", "state,tags"]), "valid|kept\n");

    place.configure("bandwidth_read = \"24MiB\"\n");
    let child = place.spawn(&["restore", "vm1@latest", "out"]);
    let run = interrupt(child, || place.path("out").exists());
    assert_eq!(run.code, 130, "{run:#?}");
    place.configure("");
    place.fails(3, &["restore", "vm1@latest", "out"]);
    let run = run_named(&place, &run.stderr, "to continue, run: ");
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(place.read("out") == place.read("disk"));
}

#[test]
fn a_full_store_publishes_nothing_and_can_be_continued() {
    let place = Place::with_repository();
    place.write("disk", &random(1, IMAGE_BYTES));
    // Files that may not grow beyond 16 MiB: no pack fits, as on a disk that is full.
    let mut shell = bare(place.folder.path());
    let program = shell.get_program().to_owned();
    shell = std::process::Command::new("bash");
    shell.current_dir(place.folder.path()).env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 16384; exec \"$0\" -c backy2.toml backup disk vm1"]).arg(program);
    let run = finish(shell);
    assert_eq!(run.code, 7, "{run:#?}");
    assert!(place.files("repository/versions").iter().all(|path| !path.ends_with("manifest")));
    let uid = place.backup(&["disk", "vm1"]);
    place.ok(&["restore", &uid, "out"]);
    assert!(place.read("out") == place.read("disk"));
}
