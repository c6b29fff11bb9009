//! A place of its own for each test, and the built program in it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A folder with a configuration, and the program with nothing else around it.
pub struct Place {
    pub folder: tempfile::TempDir,
}

/// What a run of the program gave.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    /// Makes a place whose repository does not exist yet.
    pub fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        place.configure("");
        let passphrase = place.write("passphrase", b"open sesame\n");
        std::fs::set_permissions(passphrase, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        place
    }

    /// Makes a place with a repository.
    pub fn with_repository() -> Place {
        let place = Place::new();
        place.ok(&["init"]);
        place
    }

    /// Writes the configuration with `more` lines.
    pub fn configure(&self, more: &str) {
        let path = |name: &str| self.path(name).display().to_string();
        let text = format!(
            "repository = {:?}\nstate_dir = {:?}\npassphrase_file = {:?}\nargon_memory_mib = 8\nargon_passes = 1\n{more}",
            path("repository"),
            path("state"),
            path("passphrase")
        );
        self.write("backy2.toml", text.as_bytes());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Returns the program with only `-c` and what `arguments` say, in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare(self.folder.path());
        command.args(["-c", "backy2.toml"]).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        finish(self.command(arguments))
    }

    /// Runs the program, which must succeed, and returns what it prints.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {run:#?}");
        run.stdout
    }

    /// Runs the program, which must end with `code`, and returns what it says on standard error.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {run:#?}");
        assert!(run.stderr.contains("error: ") || run.stderr.contains("warning: "), "{run:#?}");
        assert!(!run.stderr.contains("open sesame"), "{run:#?}");
        run.stderr
    }

    /// Backs `source` up and returns the uid.
    pub fn backup(&self, more: &[&str]) -> String {
        let mut arguments = vec!["-m", "backup"];
        arguments.extend(more);
        self.ok(&arguments).trim().to_owned()
    }

    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Returns all files below a folder.
    pub fn files(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path(name)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }
}

/// Returns the program in `folder`, with an environment that a test can rely on.
pub fn bare(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backy2"));
    command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC").stdin(Stdio::null());
    command
}

pub fn finish(mut command: Command) -> Run {
    run_of(command.output().unwrap())
}

pub fn run_of(output: Output) -> Run {
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Returns random bytes, the same for each seed.
pub fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}
