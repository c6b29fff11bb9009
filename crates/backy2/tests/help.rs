//! The help texts, as they are read at 100 columns. After a deliberate change:
//! `UPDATE=1 cargo test -p backy2 --test help`, and read the difference aloud.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod support;

use std::path::Path;

use support::{bare, finish};

const COMMANDS: &[&str] = &[
    "",
    "init",
    "backup",
    "restore",
    "scrub",
    "fuse",
    "nbd",
    "ls",
    "stats",
    "rm",
    "check",
    "cleanup",
    "leases",
    "protect",
    "unprotect",
    "add-tag",
    "remove-tag",
    "expire",
    "key",
    "key add",
    "key list",
    "key remove",
    "config",
    "config show",
    "version",
    "completion",
];

#[test]
fn help_texts_are_the_golden_ones() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help");
    let mut different = Vec::new();
    for command in COMMANDS {
        let mut program = bare(Path::new("/"));
        program.args(command.split_whitespace()).arg("--help");
        let run = finish(program);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{command}");
        let name = if command.is_empty() { "backy2".to_owned() } else { command.replace(' ', "-") };
        let path = golden.join(format!("{name}.txt"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &run.stdout).unwrap();
        } else if std::fs::read_to_string(&path).ok().as_deref() != Some(&run.stdout) {
            different.push(format!("{}:\n{}", path.display(), run.stdout));
        }
    }
    assert!(different.is_empty(), "set UPDATE=1 to take these over:\n{}", different.join("\n"));
}

#[test]
fn no_command_is_a_usage_error() {
    let run = finish(bare(Path::new("/")));
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("Usage: backy2"), "{run:#?}");
}
