//! `backy2 init`: make a new repository.

use backy_core::ErrorKind;
use backy_engine::repository::init::{Protection, init};
use backy_engine::repository::unlock::SecretSource;
use backy_store::OpenHow;
use serde_json::json;

use crate::app::App;
use crate::args::jobs::{Encryption, Init};
use crate::console;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::secrets::Secrets;

pub(super) fn run(mut app: App, arguments: Init) -> Result<Exit, Failure> {
    match (&arguments.url, &app.global.repository) {
        (Some(url), Some(option)) if url != option => {
            return Err(Failure::usage(format!(
                "--repository says {option}, the command says {url}; give one of them"
            )));
        }
        (Some(url), _) => app.config.set_repository(url)?,
        (None, _) => {}
    }
    let store = app.store(OpenHow::Create).map_err(not_empty_hint)?;
    let protection = protection(&app, &arguments)?;
    let id = init(store.as_ref(), &protection, &app.environment).map_err(|error| not_empty_hint(error.into()))?;

    let is_encrypted = matches!(protection, Protection::Encrypted { .. });
    match app.output.format {
        Format::Table => output::line(&format!("New repository: {id} ({})", store.url()))?,
        Format::Machine => output::line(&id.to_string())?,
        Format::Json => {
            app.output.json(&json!({"id": id.to_string(), "url": store.url(), "is_encrypted": is_encrypted}))?
        }
    }
    if app.output.is_for_people() {
        console::message(if is_encrypted {
            "Keep the passphrase or key file safe, and apart from this machine: without it nobody can read the backups, and \
             there is no way round. `backy2 key add` adds a second one."
        } else {
            "This repository is not encrypted: who can read it can read the backups."
        });
    }
    Ok(Exit::Success)
}

fn protection(app: &App, arguments: &Init) -> Result<Protection, Failure> {
    let configured = Secrets::of_config(&app.config)?;
    let chosen = arguments.key_file.clone().map(Secrets::KeyFile);
    if arguments.encryption == Encryption::None {
        if chosen.is_some() || configured.is_configured() {
            let message = "without encryption there is nothing to open, but a passphrase or key is configured";
            return Err(Failure::usage(message).hint("`backy2 config show` says where"));
        }
        return Ok(Protection::Unencrypted);
    }
    let secret = chosen.unwrap_or(configured).new_secret().map_err(Failure::of_request)?;
    Ok(Protection::Encrypted { secret, cost: app.argon_cost()? })
}

fn not_empty_hint(failure: Failure) -> Failure {
    match failure.kind() {
        ErrorKind::AlreadyExists => failure.hint("a repository wants an empty folder of its own; nothing was changed"),
        _ => failure,
    }
}
