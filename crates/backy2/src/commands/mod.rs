//! The commands, one file each: from what was typed to a call of the engine, and from its report to what is shown.

mod backup;
mod check;
mod cleanup;
mod completion;
mod config;
mod device;
mod fuse;
mod init;
mod key;
mod label;
mod leases;
mod ls;
mod nbd;
mod restore;
mod rm;
mod scrub;
mod stats;
mod version;

use crate::app::App;
use crate::args::{Arguments, Command};
use crate::exit::{Exit, Failure};

/// Runs the command that was typed.
pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let Arguments { global, command } = arguments;
    // These two work whatever the configuration says.
    match command {
        Command::Version => return version::run(&global),
        Command::Completion { shell } => return completion::run(shell),
        _ => {}
    }
    let app = App::new(global)?;
    match command {
        Command::Init(arguments) => init::run(app, arguments),
        Command::Backup(arguments) => backup::run(&app, &arguments),
        Command::Restore(arguments) => restore::run(&app, &arguments),
        Command::Scrub(arguments) => scrub::run(&app, &arguments),
        Command::Fuse(arguments) => fuse::run(&app, &arguments),
        Command::Nbd(arguments) => nbd::run(&app, &arguments),
        Command::Ls(arguments) => ls::run(&app, &arguments),
        Command::Stats(arguments) => stats::run(&app, &arguments),
        Command::Rm(arguments) => rm::run(&app, &arguments),
        Command::Check(arguments) => check::run(&app, &arguments),
        Command::Cleanup(arguments) => cleanup::run(&app, &arguments),
        Command::Leases(arguments) => leases::run(&app, &arguments),
        Command::Protect(arguments) => label::protect(&app, &arguments.version, true),
        Command::Unprotect(arguments) => label::protect(&app, &arguments.version, false),
        Command::AddTag(arguments) => label::add_tags(&app, &arguments),
        Command::RemoveTag(arguments) => label::remove_tags(&app, &arguments),
        Command::Expire(arguments) => label::expire(&app, &arguments),
        Command::Key(arguments) => key::run(&app, &arguments),
        Command::Config(_) => config::run(&app),
        Command::Version | Command::Completion { .. } => Ok(Exit::Success),
    }
}
