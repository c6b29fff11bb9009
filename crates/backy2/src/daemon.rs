//! Commands that go on in the background.
//!
//! ```text
//!  start   the program, as it was typed: starts itself again, and waits for a word
//!            |
//!          the daemon: asks for the passphrase if it must, sets everything up
//!  say_ready |  says the word, and leaves the terminal
//! ```
//!
//! What goes wrong before the word is told by the daemon itself, on the terminal, and `start` ends with its code. After it,
//! messages go to standard error if that is a file, and else nowhere.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use backy_core::{Error, ErrorKind};
use rustix::fs::FileType;

use crate::exit::{Exit, Failure};

/// Tells the program that it is the daemon.
const VARIABLE: &str = "BACKY2_IS_DAEMON";
/// The word.
const READY: &str = "ready";

/// Says whether this is the daemon, or the program that was typed.
pub fn is_daemon() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Starts this command again in the background, and returns when it is ready.
pub fn start() -> Result<Exit, Failure> {
    let program = std::env::current_exe().map_err(|error| Error::io("find this program", error))?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).env(VARIABLE, "1").stdout(Stdio::piped());
    let mut daemon = command.spawn().map_err(|error| Error::io("start in the background", error))?;
    let mut word = String::new();
    if let Some(output) = daemon.stdout.take() {
        BufReader::new(output).read_line(&mut word).map_err(|error| Error::io("listen to the daemon", error))?;
    }
    if word.trim_end() == READY {
        return Ok(Exit::Success);
    }
    let status = daemon.wait().map_err(|error| Error::io("wait for the daemon", error))?;
    match status.code() {
        // It has said why.
        Some(code) if code != 0 => std::process::exit(code),
        _ => Err(Error::new(ErrorKind::Io, format!("the daemon has ended before it was ready: {status}")).into()),
    }
}

/// Says that all is set up, and leaves the terminal and the folder in which the program was started.
pub fn say_ready() -> Result<(), Failure> {
    let failed = |error: rustix::io::Errno| Error::io("leave the terminal", error.into());
    rustix::process::setsid().map_err(failed)?;
    std::env::set_current_dir("/").map_err(|error| Error::io("leave the folder", error))?;
    let null = std::fs::File::options().read(true).write(true).open(Path::new("/dev/null"));
    let null = null.map_err(|error| Error::io("open /dev/null", error))?;
    let mut output = std::io::stdout();
    let told = writeln!(output, "{READY}").and_then(|()| output.flush());
    told.map_err(|error| Error::io("say that all is set up", error))?;
    rustix::stdio::dup2_stdin(&null).map_err(failed)?;
    rustix::stdio::dup2_stdout(&null).map_err(failed)?;
    let is_file = rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::RegularFile);
    if !is_file {
        rustix::stdio::dup2_stderr(&null).map_err(failed)?;
    }
    Ok(())
}
