//! Disks for the tests: what is on them, where they lie, and how much of a test is wanted.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use backy_device::null::Pattern;

use crate::support::{Place, Run, finish};

/// Says whether the long forms of the tests are wanted.
pub fn is_long() -> bool {
    std::env::var_os("BACKY2_TEST_LONG").is_some_and(|value| value == "1")
}

/// Chooses and prints the seed of a random test: `BACKY2_SEED`, or another one each time.
pub fn seed() -> u64 {
    let given = std::env::var("BACKY2_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into());
    println!("seed {seed}; BACKY2_SEED={seed} repeats it");
    seed
}

/// Returns the folder of the fastest file system with so much room: `/dev/shm`, or the one for temporary files.
pub fn fast_folder(needed_bytes: u64) -> PathBuf {
    let is_roomy = |path: &Path| {
        rustix::fs::statvfs(path).is_ok_and(|status| status.f_bavail.saturating_mul(status.f_frsize) > needed_bytes)
    };
    let memory = Path::new("/dev/shm");
    if is_roomy(memory) { memory.to_owned() } else { std::env::temp_dir() }
}

/// Returns where a test should work: fast in the short form, on a file system like those of operators in the long one.
pub fn working_folder(needed_bytes: u64) -> PathBuf {
    if is_long() { std::env::temp_dir() } else { fast_folder(needed_bytes) }
}

/// Makes a place below `folder`, with a repository.
pub fn place_in(folder: &Path) -> Place {
    let place = Place { folder: tempfile::tempdir_in(folder).unwrap() };
    place.configure("");
    let passphrase = place.write("passphrase", b"open sesame\n");
    std::fs::set_permissions(passphrase, PermissionsExt::from_mode(0o600)).unwrap();
    place.ok(&["init"]);
    place
}

/// Writes a file of `length_bytes` made-up bytes, a part at a time.
pub fn write_pattern(path: &Path, pattern: Pattern, seed: u64, length_bytes: u64) {
    let file = File::create(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut at_bytes = 0;
    while at_bytes < length_bytes {
        let part_bytes = (length_bytes - at_bytes).min(1 << 20);
        let part = &mut buffer[..usize::try_from(part_bytes).unwrap()];
        pattern.fill(seed, at_bytes, part);
        file.write_all_at(part, at_bytes).unwrap();
        at_bytes += part_bytes;
    }
}

/// Returns what the repository lists, by uid and state; it must list without a word of warning.
pub fn listed(place: &Place) -> Vec<(String, String)> {
    let run = place.run(&["-ms", "ls", "-f", "uid,state"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:#?}");
    let line = |line: &str| line.split_once('|').map(|(uid, state)| (uid.to_owned(), state.to_owned())).unwrap();
    run.stdout.lines().map(line).collect()
}

/// Runs the command that a message ends a line with, in the folder of the place, as an operator would paste it.
pub fn run_named(place: &Place, message: &str, before: &str) -> Run {
    let (_, command) = message.split_once(before).unwrap_or_else(|| panic!("no command in {message}"));
    let command = command.lines().next().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_backy2"));
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).current_dir(place.folder.path()).env_clear().env("TZ", "UTC");
    shell.env("PATH", format!("{}:/usr/bin:/bin", program.parent().unwrap().display()));
    finish(shell)
}

/// A mounted file system, which goes away with this value.
pub struct Mount {
    path: PathBuf,
}

impl Mount {
    /// Mounts an empty tmpfs of this size on a new folder.
    ///
    /// # Errors
    /// Why it cannot be done here.
    pub fn tmpfs(path: &Path, size_mib: u32) -> Result<Mount, String> {
        std::fs::create_dir(path).unwrap();
        mount(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size_mib}m,mode=755"), "tmpfs"]), path)
    }

    /// Mounts the file system that lies in `image` on a new folder.
    ///
    /// # Errors
    /// Why it cannot be done here.
    pub fn image(image: &Path, path: &Path) -> Result<Mount, String> {
        std::fs::create_dir(path).unwrap();
        mount(Command::new("mount").args(["-o", "loop"]).arg(image), path)
    }

    /// Gives a tmpfs another size.
    pub fn resize(&self, size_mib: u32) {
        let options = format!("remount,size={size_mib}m");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.path).status().unwrap().success());
    }
}

fn mount(command: &mut Command, path: &Path) -> Result<Mount, String> {
    match command.arg(path).output() {
        Ok(output) if output.status.success() => Ok(Mount { path: path.to_owned() }),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
