//! `backy2 fuse` with the tools of operators: loop devices, fsck, fio, signals.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod disks;
mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::{Place, random};

/// Says why nothing can be mounted here, if so.
fn is_impossible(tools: &[&str]) -> bool {
    let problem = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Err(error) => Some(format!("/dev/fuse: {error}")),
        Ok(_) if !rustix::process::geteuid().is_root() => Some("only root may mount here".to_owned()),
        Ok(_) => tools.iter().find(|tool| !is_there(tool)).map(|tool| format!("{tool} is not installed")),
    };
    if let Some(problem) = &problem {
        println!("skipped: {problem}");
    }
    problem.is_some()
}

fn is_there(tool: &str) -> bool {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|folder| Path::new(folder).join(tool).exists())
}

/// A program that has mounted the versions of a place at its folder `mnt`.
struct Mounted {
    program: Child,
    path: PathBuf,
}

impl Mounted {
    fn new(place: &Place, more: &[&str]) -> Mounted {
        let path = place.path("mnt");
        fs::create_dir_all(&path).unwrap();
        let mut command = place.command(&["-m", "fuse"]);
        let mut program = command.args(more).arg(&path).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(Path::new(line.trim_end()), path);
        Mounted { program, path }
    }

    fn data(&self, uid: &str) -> PathBuf {
        self.path.join("by_version_uid").join(uid).join("data")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.program), signal).unwrap();
    }

    /// Waits for the end, which must be a good one.
    fn end(mut self) {
        assert!(self.program.wait().unwrap().success());
        assert_eq!(fs::read_dir(&self.path).unwrap().count(), 0, "it is not unmounted");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.path).stderr(Stdio::null()).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

#[test]
fn a_file_system_in_a_version_is_mounted_written_and_the_version_stays() {
    if is_impossible(&["mkfs.ext4", "e2fsck", "mount"]) {
        return;
    }
    let place = Place::with_repository();
    let image = place.path("image");
    File::create(&image).unwrap().set_len(64 << 20).unwrap();
    run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
    match disks::Mount::image(&image, &place.path("filled")) {
        Ok(mount) => {
            fs::write(place.path("filled/before"), random(1, 5_000_000)).unwrap();
            drop(mount);
        }
        Err(error) => return println!("skipped: {error}"),
    }
    let original = fs::read(&image).unwrap();
    let uid = place.backup(&["image", "disk"]);

    let mounted = Mounted::new(&place, &[]);
    let data = mounted.data(&uid);
    let check = || run("e2fsck", &["-f", "-n", data.to_str().unwrap()]);
    check();
    let inside = disks::Mount::image(&data, &place.path("inside")).unwrap();
    assert!(fs::read(place.path("inside/before")).unwrap() == random(1, 5_000_000));
    fs::write(place.path("inside/after"), random(2, 5_000_000)).unwrap();
    fs::remove_file(place.path("inside/before")).unwrap();
    run("fstrim", &[place.path("inside").to_str().unwrap()]);
    drop(inside);
    check();
    let again = disks::Mount::image(&data, &place.path("again")).unwrap();
    assert!(fs::read(place.path("again/after")).unwrap() == random(2, 5_000_000));
    assert!(!place.path("again/before").exists());
    drop(again);
    mounted.signal(Signal::TERM);
    mounted.end();

    place.ok(&["restore", &uid, "restored"]);
    assert!(place.read("restored") == original, "the version has changed");
}

#[test]
fn fio_finds_again_what_it_has_written() {
    if is_impossible(&["fio"]) {
        return;
    }
    let place = Place::with_repository();
    place.write("image", &random(3, 24 << 20));
    let uid = place.backup(&["image", "disk"]);
    let mounted = Mounted::new(&place, &[]);
    let data = mounted.data(&uid);
    for (engine, direct) in [("psync", "0"), ("libaio", "1"), ("mmap", "0")] {
        run(
            "fio",
            &[
                "--name=verify",
                &format!("--filename={}", data.display()),
                "--size=24m",
                "--io_size=16m",
                "--allow_file_create=0",
                "--fallocate=none",
                "--rw=randrw",
                "--bsrange=4k-256k",
                "--iodepth=8",
                &format!("--ioengine={engine}"),
                &format!("--direct={direct}"),
                "--verify=crc32c",
                "--verify_fatal=1",
                "--verify_state_save=0",
                "--fsync=64",
            ],
        );
    }
    run("umount", &[mounted.path.to_str().unwrap()]);
    mounted.end();
    place.ok(&["restore", &uid, "restored"]);
    assert!(place.read("restored") == random(3, 24 << 20), "the version has changed");
}

#[test]
fn a_signal_unmounts_and_what_is_open_is_served_until_it_is_closed() {
    if is_impossible(&[]) {
        return;
    }
    let place = Place::with_repository();
    place.write("image", &random(4, 1 << 20));
    let uid = place.backup(&["image", "disk"]);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mounted = Mounted::new(&place, &[]);
        mounted.signal(signal);
        mounted.end();
    }
    let mut mounted = Mounted::new(&place, &[]);
    let file = File::open(mounted.data(&uid)).unwrap();
    mounted.signal(Signal::TERM);
    while mounted.path.join("by_name").exists() {
        std::thread::yield_now();
    }
    let mut read = vec![0; 1 << 20];
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read == random(4, 1 << 20));
    assert!(mounted.program.try_wait().unwrap().is_none());
    drop(file);
    mounted.end();
}

#[test]
fn the_second_signal_ends_at_once_and_leaves_no_mount() {
    if is_impossible(&[]) {
        return;
    }
    let place = Place::with_repository();
    place.write("image", &random(5, 1 << 20));
    let uid = place.backup(&["image", "disk"]);
    let mut mounted = Mounted::new(&place, &[]);
    let file = File::open(mounted.data(&uid)).unwrap();
    mounted.signal(Signal::TERM);
    while mounted.path.join("by_name").exists() {
        std::thread::yield_now();
    }
    // What comes at once counts as the same wish.
    while mounted.program.try_wait().unwrap().is_none() {
        mounted.signal(Signal::TERM);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(mounted.program.wait().unwrap().code(), Some(130));
    assert!(file.read_exact_at(&mut [0; 10], 500_000).is_err());
    assert_eq!(fs::read_dir(&mounted.path).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_mounted_on_is_said_clearly() {
    if is_impossible(&[]) {
        return;
    }
    let place = Place::with_repository();
    place.write("file", b"");
    assert!(place.fails(4, &["fuse", "absent"]).contains("absent"));
    assert!(place.fails(2, &["fuse", "file"]).contains("no folder"));
    assert!(place.fails(3, &["fuse", "repository"]).contains("not empty"));
    assert!(place.fails(4, &["fuse", "--daemon", "absent"]).contains("absent"));
    place.write("image", &random(6, 100_000));
    let uid = place.backup(&["image", "disk"]);
    let mut first = Mounted::new(&place, &[]);
    assert!(place.fails(3, &["fuse", "mnt"]).contains("not empty"));
    // The program dies without a chance to unmount.
    first.program.kill().unwrap();
    first.program.wait().unwrap();
    assert!(place.fails(7, &["fuse", "mnt"]).contains("fusermount3 -u"));
    run("umount", &[first.path.to_str().unwrap()]);
    let second = Mounted::new(&place, &[]);
    assert!(fs::read(second.data(&uid)).unwrap() == random(6, 100_000));
    second.signal(Signal::TERM);
    second.end();
}

#[test]
fn who_may_not_mount_is_told_so() {
    if is_impossible(&["setpriv", "chown"]) {
        return;
    }
    let mode = fs::metadata("/dev/fuse").map(|device| std::os::unix::fs::MetadataExt::mode(&device)).unwrap();
    if mode & 0o006 != 0 {
        return println!("skipped: everybody may use /dev/fuse here");
    }
    let place = Place::with_repository();
    fs::create_dir(place.path("mnt")).unwrap();
    run("chown", &["-R", "65534:65534", place.folder.path().to_str().unwrap()]);
    let program = place.command(&["fuse", "mnt"]);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program.get_program());
    let output = command.args(program.get_args()).current_dir(place.folder.path()).env_clear().output();
    let run = support::run_of(output.unwrap());
    if run.code == 127 || run.stderr.contains("setpriv") {
        return println!("skipped: {}", run.stderr);
    }
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("mount on") && run.stderr.contains("/dev/fuse"), "{run:?}");
}

#[test]
fn others_see_nothing_unless_they_are_allowed() {
    if is_impossible(&["setpriv"]) {
        return;
    }
    let place = Place::with_repository();
    place.write("image", &random(8, 100_000));
    let uid = place.backup(&["image", "disk"]);
    fs::set_permissions(place.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let as_nobody = |script: &str, path: &Path| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script, "sh"]).arg(path);
        command.stderr(Stdio::null()).status().unwrap().success()
    };
    let mounted = Mounted::new(&place, &[]);
    assert!(!as_nobody("head -c 1 $1", &mounted.data(&uid)));
    mounted.signal(Signal::TERM);
    mounted.end();
    let mounted = Mounted::new(&place, &["--allow-other"]);
    let data = mounted.data(&uid);
    assert!(as_nobody("head -c 1 $1", &data));
    assert!(as_nobody("printf new 1<> $1", &data) && fs::read(&data).unwrap()[..3] == *b"new");
    assert!(!as_nobody("echo 1 > $1", &data.with_file_name("protected")));
    mounted.signal(Signal::TERM);
    mounted.end();
}

#[test]
fn a_daemon_returns_when_it_is_mounted_and_ends_with_the_mount() {
    if is_impossible(&[]) {
        return;
    }
    let place = Place::with_repository();
    place.write("image", &random(7, 100_000));
    let uid = place.backup(&["image", "disk"]);
    fs::create_dir(place.path("mnt")).unwrap();
    let run_daemon = place.run(&["fuse", "--daemon", "mnt"]);
    assert_eq!(run_daemon.code, 0, "{run_daemon:?}");
    assert!(run_daemon.stderr.contains("Mounted at mnt."), "{run_daemon:?}");
    let data = place.path("mnt/by_version_uid").join(&uid).join("data");
    OpenOptions::new().write(true).open(&data).unwrap().write_all_at(b"new", 0).unwrap();
    assert!(fs::read(&data).unwrap()[..3] == *b"new");
    run("umount", &[place.path("mnt").to_str().unwrap()]);
    while is_running(place.folder.path()) {
        std::thread::yield_now();
    }
}

/// Says whether a daemon runs that holds files below a folder.
fn is_running(folder: &Path) -> bool {
    let holds = |process: &Path| {
        let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        files.map(|file| file.path()).any(|file| fs::read_link(file).is_ok_and(|target| target.starts_with(folder)))
    };
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes.filter(|process| !process.ends_with(&own)).any(|process| holds(&process))
}
