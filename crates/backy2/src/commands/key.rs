//! `backy2 key`: what opens the repository.

use backy_core::keys::slot::KeySlotKind;
use backy_engine::key::{self, KeySlotInfo};
use backy_store::OpenHow;
use serde_json::json;

use crate::app::App;
use crate::args::key::{Key, KeyAdd, KeyList, KeyRemove};
use crate::exit::{Exit, Failure};
use crate::output::{self, Cell, Column, Format, select};
use crate::secrets::Secrets;

const COLUMNS: &[Column<KeySlotInfo>] = &[
    Column { name: "id", value: |slot| Cell::Uid(slot.id.to_string()) },
    Column { name: "kind", value: |slot| Cell::Text(kind(slot.kind).to_owned()) },
    Column { name: "created", value: |slot| Cell::Moment(slot.created) },
    Column { name: "label", value: |slot| Cell::Text(slot.label.clone()) },
];
const DEFAULTS: &[&str] = &["id", "kind", "created", "label"];

pub(super) fn run(app: &App, command: &Key) -> Result<Exit, Failure> {
    match command {
        Key::Add(arguments) => add(app, arguments),
        Key::List(arguments) => list(app, arguments),
        Key::Remove(arguments) => remove(app, arguments),
    }
}

fn kind(kind: KeySlotKind) -> &'static str {
    match kind {
        KeySlotKind::Passphrase => "passphrase",
        KeySlotKind::KeyFile => "key file",
        KeySlotKind::Unprotected => "none (not encrypted)",
    }
}

fn list(app: &App, arguments: &KeyList) -> Result<Exit, Failure> {
    let chosen = select(COLUMNS, arguments.fields.as_deref(), DEFAULTS)?;
    let slots = key::list(app.store(OpenHow::Existing)?.as_ref())?;
    app.output.rows(COLUMNS, &chosen, &slots)?;
    Ok(Exit::Success)
}

fn add(app: &App, arguments: &KeyAdd) -> Result<Exit, Failure> {
    let store = app.store(OpenHow::Existing)?;
    let current = Secrets::of_config(&app.config)?;
    let new = match (&arguments.new_key_file, &arguments.new_passphrase_file) {
        (Some(path), _) => Secrets::KeyFile(path.clone()),
        (None, Some(path)) => Secrets::PassphraseFile(path.clone()),
        (None, None) => Secrets::Terminal("New passphrase to add: ".to_owned()),
    };
    let secret = new.new_secret().map_err(Failure::of_request)?;
    let id = key::add(&store, &current, &secret, app.argon_cost()?, &arguments.label, &app.environment)
        .map_err(Failure::of_request)?;
    show(app, "New key:", &id.to_string())
}

fn remove(app: &App, arguments: &KeyRemove) -> Result<Exit, Failure> {
    let store = app.store(OpenHow::Existing)?;
    let part: String = arguments.id.to_ascii_lowercase().chars().filter(|letter| *letter != '-').collect();
    if part.len() < 4 {
        return Err(Failure::usage(format!("{part:?} is too short: give 4 digits of the id or more")));
    }
    let id = key::remove(&store, &Secrets::of_config(&app.config)?, &part).map_err(|error| {
        let is_refused = error.kind() == backy_core::ErrorKind::Refused;
        let failure = Failure::of_request(error);
        let hint = "to remove the key that you hold, add another one first and open the repository with that";
        if is_refused { failure.hint(hint) } else { failure }
    })?;
    show(app, "Removed key:", &id.to_string())
}

fn show(app: &App, what: &str, id: &str) -> Result<Exit, Failure> {
    match app.output.format {
        Format::Table => output::line(&format!("{what} {id}"))?,
        Format::Machine => output::line(id)?,
        Format::Json => app.output.json(&json!({"id": id}))?,
    }
    Ok(Exit::Success)
}
