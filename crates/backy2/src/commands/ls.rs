//! `backy2 ls`: the versions.

use backy_core::ids::VersionUid;
use backy_engine::list::{self, ListFilter};
use backy_engine::repository::versions::{VersionEntry, VersionState};

use crate::app::App;
use crate::args::versions::Ls;
use crate::console;
use crate::exit::{Exit, Failure};
use crate::output::{Cell, Column, Format, select};

/// All fields of a version.
pub(super) const COLUMNS: &[Column<VersionEntry>] = &[
    Column { name: "date", value: |entry| Cell::Moment(entry.manifest.created) },
    Column { name: "name", value: |entry| Cell::Text(entry.manifest.name.clone()) },
    Column { name: "snapshot_name", value: |entry| Cell::Text(entry.manifest.snapshot_name.clone()) },
    Column { name: "size", value: |entry| Cell::Number(entry.manifest.map.blocks.0) },
    Column { name: "size_bytes", value: |entry| Cell::Bytes(entry.manifest.size_bytes) },
    Column { name: "uid", value: |entry| Cell::Uid(entry.manifest.uid.to_string()) },
    Column { name: "valid", value: |entry| Cell::Flag(entry.state == VersionState::Valid) },
    Column { name: "protected", value: |entry| Cell::Flag(entry.label.is_protected) },
    Column { name: "tags", value: |entry| Cell::List(entry.label.tags.iter().cloned().collect()) },
    Column { name: "expire", value: |entry| entry.label.expire.map_or(Cell::Nothing, Cell::Moment) },
    Column { name: "state", value: |entry| Cell::Text(state(entry.state).to_owned()) },
    Column { name: "note", value: |entry| Cell::Text(entry.label.note.clone()) },
    Column { name: "base", value: |entry| uid(entry.manifest.base) },
    Column { name: "source", value: |entry| Cell::Text(entry.manifest.origin.source_url.clone()) },
    Column { name: "host", value: |entry| Cell::Text(entry.manifest.origin.host.clone()) },
    Column { name: "block_size", value: |entry| Cell::Bytes(entry.manifest.block_size.bytes_u64()) },
    Column { name: "encryption", value: |entry| Cell::Number(u64::from(entry.manifest.encryption_version.0)) },
];

/// What people see if they do not choose.
const TABLE: &[&str] = &["date", "name", "snapshot_name", "size_bytes", "uid", "state", "protected", "tags", "expire"];
/// What scripts see if they do not choose: the fields of the Python version.
const MACHINE: &[&str] =
    &["date", "name", "snapshot_name", "size", "size_bytes", "uid", "valid", "protected", "tags", "expire"];

pub(super) fn run(app: &App, arguments: &Ls) -> Result<Exit, Failure> {
    let defaults = if app.output.format == Format::Table { TABLE } else { MACHINE };
    let chosen = select(COLUMNS, arguments.fields.as_deref(), defaults)?;
    let filter = ListFilter {
        name: arguments.name.clone(),
        snapshot_name: arguments.snapshot_name.clone(),
        tag: arguments.tag.clone(),
        expired_at: arguments.expired.then(|| app.now()),
    };
    let listing = list::run(&app.repository()?, &filter)?;
    app.output.rows(COLUMNS, &chosen, &listing.versions)?;
    Ok(report_unreadable(&listing.unreadable))
}

/// Says which versions are left out because they cannot be read.
pub(super) fn report_unreadable(unreadable: &[(VersionUid, backy_core::Error)]) -> Exit {
    for (uid, error) in unreadable {
        console::message(&format!("error: version {uid} cannot be read and is not listed: {error}"));
    }
    if unreadable.is_empty() { Exit::Success } else { Exit::Blemished }
}

/// What people call the state of a version; what needs an eye is in capitals.
pub(super) fn state(state: VersionState) -> &'static str {
    match state {
        VersionState::Valid => "valid",
        VersionState::Invalid => "INVALID",
        VersionState::Incomplete => "incomplete",
    }
}

fn uid(uid: Option<VersionUid>) -> Cell {
    uid.map_or(Cell::Nothing, |uid| Cell::Uid(uid.to_string()))
}
