//! Where passphrases and keys come from: a file, a command, a key file, or the terminal.
//!
//! Never from the command line or an environment variable itself, which others can read. What is read is wiped after use.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backy_core::keys::slot::{KEY_FILE_BYTES_MAX, KEY_FILE_BYTES_MIN, PASSPHRASE_BYTES_MAX};
use backy_core::{Error, ErrorKind, Result};
use backy_engine::repository::unlock::{Secret, SecretSource};
use tracing::warn;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::exit::Failure;

/// The most that is read from a file or command: a passphrase, and room to see that there is too much.
const READ_BYTES_MAX: usize = PASSPHRASE_BYTES_MAX + 4096;

/// Where the secret of a repository comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// The only line of a file.
    PassphraseFile(PathBuf),
    /// The first line that a command prints.
    PassphraseCommand(String),
    /// The content of a file.
    KeyFile(PathBuf),
    /// The terminal: the passphrase of what is named here.
    Terminal(String),
}

impl Secrets {
    /// Chooses what the configuration says; the terminal if it says nothing.
    ///
    /// A source that is set more strongly (the environment before a file, say) hides the others.
    pub fn of_config(config: &Config) -> Result<Secrets, Failure> {
        let values = &config.values;
        let sources = [
            ("passphrase_file", values.passphrase_file.clone().map(Secrets::PassphraseFile)),
            ("passphrase_command", values.passphrase_command.clone().map(Secrets::PassphraseCommand)),
            ("key_file", values.key_file.clone().map(Secrets::KeyFile)),
        ];
        let set =
            || sources.iter().filter_map(|(key, source)| Some((config.origin(key).strength(), *key, source.as_ref()?)));
        let strongest = set().map(|(strength, ..)| strength).max();
        let chosen: Vec<_> = set().filter(|(strength, ..)| Some(*strength) == strongest).collect();
        match chosen.as_slice() {
            [] => Ok(Secrets::Terminal(format!(
                "Passphrase of {}: ",
                values.repository.as_deref().unwrap_or("the repository")
            ))),
            [(_, _, source)] => Ok((*source).clone()),
            several => {
                let keys: Vec<&str> = several.iter().map(|(_, key, _)| *key).collect();
                Err(Failure::usage(format!("{} are set at the same place; one of them is enough", keys.join(" and "))))
            }
        }
    }

    /// Returns a secret that a new key slot shall have; a passphrase from the terminal is asked twice.
    pub fn new_secret(&self) -> Result<Secret> {
        let Secrets::Terminal(prompt) = self else { return self.secret() };
        let first = ask(&format!("New {}", prompt.trim_start_matches("New ").replacen('P', "p", 1)))?;
        let second = ask("Once more: ")?;
        if first != second {
            return Err(Error::invalid("the two passphrases differ; nothing was done"));
        }
        Ok(Secret::Passphrase(first))
    }
}

impl SecretSource for Secrets {
    fn is_configured(&self) -> bool {
        !matches!(self, Secrets::Terminal(_))
    }

    fn secret(&self) -> Result<Secret> {
        match self {
            Secrets::PassphraseFile(path) => passphrase_of_file(path).map(Secret::Passphrase),
            Secrets::PassphraseCommand(command) => passphrase_of_command(command).map(Secret::Passphrase),
            Secrets::KeyFile(path) => key_of_file(path).map(Secret::KeyFile),
            Secrets::Terminal(prompt) => ask(prompt).map(Secret::Passphrase),
        }
    }
}

type Bytes = Zeroizing<Vec<u8>>;

fn ask(prompt: &str) -> Result<Bytes> {
    // The prompt goes to the terminal of the process; without one on either side nobody sits there.
    if !std::io::stdin().is_terminal() && !std::io::stderr().is_terminal() {
        return Err(Error::new(
            ErrorKind::WrongKey,
            "a passphrase is needed, and there is no terminal to ask on: name one by BACKY2_PASSPHRASE_FILE, \
             BACKY2_PASSPHRASE_COMMAND or BACKY2_KEY_FILE, or in the configuration",
        ));
    }
    let text = rpassword::prompt_password(prompt).map_err(|error| Error::io("ask for the passphrase", error))?;
    checked(Zeroizing::new(text.into_bytes()), "the passphrase")
}

fn passphrase_of_file(path: &Path) -> Result<Bytes> {
    let what = format!("the passphrase in {}", path.display());
    let mut content = read_secret_file(path)?;
    if content.last() == Some(&b'\n') {
        content.pop();
    }
    if content.last() == Some(&b'\r') {
        content.pop();
    }
    if content.contains(&b'\n') {
        return Err(Error::invalid(format!("{what} has more than one line")));
    }
    checked(content, &what)
}

fn passphrase_of_command(command: &str) -> Result<Bytes> {
    let what = "what passphrase_command prints";
    let doing = "run passphrase_command";
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Error::io(doing, error))?;
    let printed = match child.stdout.take() {
        Some(stdout) => read_bounded(stdout).map_err(|error| Error::io(doing, error))?,
        None => Bytes::default(),
    };
    let status = child.wait().map_err(|error| Error::io(doing, error))?;
    if !status.success() {
        return Err(Error::new(ErrorKind::WrongKey, format!("{doing}: it ended with {status}")));
    }
    let end = printed.iter().position(|byte| *byte == b'\n').unwrap_or(printed.len());
    let line = printed.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    checked(Zeroizing::new(line.to_vec()), what)
}

/// Reads a key file, and checks its length.
fn key_of_file(path: &Path) -> Result<Bytes> {
    let content = read_secret_file(path)?;
    if (KEY_FILE_BYTES_MIN..=KEY_FILE_BYTES_MAX).contains(&content.len()) {
        return Ok(content);
    }
    Err(Error::invalid(format!(
        "the key file {} has {} bytes; it must have {KEY_FILE_BYTES_MIN} to {KEY_FILE_BYTES_MAX}, and random ones",
        path.display(),
        content.len()
    )))
}

fn checked(passphrase: Bytes, what: &str) -> Result<Bytes> {
    match passphrase.len() {
        0 => Err(Error::invalid(format!("{what} is empty"))),
        length if length > PASSPHRASE_BYTES_MAX => {
            Err(Error::invalid(format!("{what} is longer than {PASSPHRASE_BYTES_MAX} bytes")))
        }
        _ => Ok(passphrase),
    }
}

fn read_secret_file(path: &Path) -> Result<Bytes> {
    let doing = || format!("read {}", path.display());
    // A file that is named and not there is a mistake in the configuration.
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::io(doing(), error).with_kind(ErrorKind::InvalidInput),
        _ => Error::io(doing(), error),
    })?;
    if let Ok(metadata) = file.metadata()
        && metadata.is_file()
        && metadata.permissions().mode() & 0o077 != 0
    {
        warn!("other users can read {}; run: chmod 400 {0}", path.display());
    }
    read_bounded(file).map_err(|error| Error::io(doing(), error))
}

/// Reads a little more than any secret has. The memory is taken at once, so that no copy is left behind by growing.
fn read_bounded(input: impl Read) -> std::io::Result<Bytes> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(READ_BYTES_MAX + 1));
    input.take(READ_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(source: &Secrets) -> Result<Vec<u8>> {
        match source.secret()? {
            Secret::Passphrase(bytes) | Secret::KeyFile(bytes) => Ok(bytes.to_vec()),
        }
    }

    fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn a_passphrase_file_has_one_line() {
        for content in ["a b", "a b\n", "a b\r\n"] {
            let (_folder, path) = file(content.as_bytes());
            assert_eq!(passphrase(&Secrets::PassphraseFile(path)).unwrap(), b"a b");
        }
        for content in ["", "\n", "a\nb\n", &"x".repeat(5000)] {
            let (_folder, path) = file(content.as_bytes());
            assert!(passphrase(&Secrets::PassphraseFile(path)).is_err(), "{content:?}");
        }
        let missing = passphrase(&Secrets::PassphraseFile("/nowhere/at/all".into())).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_command_gives_its_first_line_and_must_succeed() {
        let of = |command: &str| passphrase(&Secrets::PassphraseCommand(command.to_owned()));
        assert_eq!(of("printf 'open sesame\\nlogin: me\\n'").unwrap(), b"open sesame");
        assert_eq!(of("echo x; exit 3").unwrap_err().kind(), ErrorKind::WrongKey);
        assert!(of("true").is_err());
    }

    #[test]
    fn key_files_have_their_bounds() {
        for (length, is_good) in [(31, false), (32, true), (4096, true), (4097, false)] {
            let (_folder, path) = file(&vec![b'\n'; length]);
            assert_eq!(passphrase(&Secrets::KeyFile(path)).is_ok(), is_good, "{length}");
        }
    }
}
