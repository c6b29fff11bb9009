//! The front door of backy2: command line, configuration, what people see.
//!
//! ```text
//!  args            what may be typed; its texts are the help
//!  app             clock, randomness, configuration, repository: put together here
//!  commands        one file per command
//!  config          files, environment, flags -> what is in force
//!  output          rows -> table, machine output, JSON
//!  console         messages, and the progress bar below them
//!  progress title  how far a job is
//!  secrets         passphrases and key files
//!  signals         Ctrl-C
//!  host            which process this is
//!  daemon          going on in the background
//!  version_spec dates size    how people write versions, moments, sizes
//!  exit            from an error to an exit code and hints
//! ```
//!
//! Nothing here knows how anything works; that is the engine's.

mod app;
mod args;
mod bucket;
mod commands;
mod config;
mod console;
mod daemon;
mod dates;
mod exit;
mod host;
mod output;
mod progress;
mod random;
mod secrets;
mod signals;
mod size;
mod title;
mod version_spec;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};

fn main() -> ExitCode {
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return show_usage(&error),
    };
    let shows_kinds = arguments.global.is_debugging;
    match commands::run(arguments) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.print(shows_kinds);
            failure.exit().into()
        }
    }
}

/// Shows help or what is wrong with the command line; an option that only stands behind its command is a common mistake.
fn show_usage(error: &clap::Error) -> ExitCode {
    // It fails if nobody reads it.
    let _ = error.print();
    if let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) {
        let command = args::Arguments::command();
        let is_meant = |argument: &clap::Arg| {
            argument.get_long().is_some_and(|long| *option == format!("--{long}"))
                || argument.get_short().is_some_and(|short| *option == format!("-{short}"))
        };
        if command.get_arguments().any(is_meant) {
            console::message(&format!("hint: {option} stands before the command: backy2 {option} COMMAND"));
        }
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}
