//! `backy2 leases`: who is at work.

use backy_core::{Error, ErrorKind};
use backy_engine::Repository;
use backy_engine::repository::leases::LeaseEntry;

use crate::app::App;
use crate::args::upkeep::Leases;
use crate::exit::{Exit, Failure};
use crate::output::{self, Cell, Column, Format, select};

const COLUMNS: &[Column<LeaseEntry>] = &[
    Column { name: "lease", value: |entry| Cell::Uid(entry.id.to_string()) },
    Column { name: "job", value: |entry| of(entry, |record| Cell::Text(record.kind.word().to_owned())) },
    Column { name: "host", value: |entry| of(entry, |record| Cell::Text(record.holder.host.clone())) },
    Column { name: "process", value: |entry| of(entry, |record| Cell::Number(u64::from(record.holder.process))) },
    Column { name: "since", value: |entry| of(entry, |record| Cell::Moment(record.started)) },
    Column { name: "renewed", value: |entry| of(entry, |record| Cell::Moment(record.renewed)) },
    Column {
        name: "versions",
        value: |entry| of(entry, |record| Cell::List(record.versions.iter().map(ToString::to_string).collect())),
    },
];
const DEFAULTS: &[&str] = &["lease", "job", "host", "process", "since", "renewed", "versions"];

pub(super) fn run(app: &App, arguments: &Leases) -> Result<Exit, Failure> {
    let chosen = select(COLUMNS, arguments.fields.as_deref(), DEFAULTS)?;
    let repository = app.repository()?;
    let held = repository.held_leases()?;
    let Some(part) = &arguments.give_up else {
        app.output.rows(COLUMNS, &chosen, &held)?;
        return Ok(Exit::Success);
    };
    give_up(app, &repository, held, part)
}

fn give_up(app: &App, repository: &Repository, held: Vec<LeaseEntry>, part: &str) -> Result<Exit, Failure> {
    let part = part.to_lowercase();
    let is_meant = |entry: &LeaseEntry| {
        let id = entry.id.to_string();
        part.len() >= 4 && (id.starts_with(&part) || id.ends_with(&part))
    };
    let mut meant = held.into_iter().filter(is_meant);
    let (Some(entry), None) = (meant.next(), meant.next()) else {
        let error = Error::new(ErrorKind::NotFound, format!("there is not exactly one lease {part:?}"));
        return Err(Failure::from(error).hint("`backy2 leases` lists them; give 4 digits or more"));
    };
    repository.revoke_lease(entry.id, "given up by the operator")?;
    match app.output.format {
        Format::Table => output::line(&format!("Gave up the lease {} of {}", entry.id, entry.described()))?,
        Format::Machine => output::line(&entry.id.to_string())?,
        Format::Json => app.output.json(&output::object(COLUMNS, &entry))?,
    }
    Ok(Exit::Success)
}

fn of(entry: &LeaseEntry, cell: impl FnOnce(&backy_core::records::lease::LeaseRecord) -> Cell) -> Cell {
    entry.record.as_ref().map_or(Cell::Nothing, cell)
}
