//! `backy2 stats`: what backups read, found and stored.

use backy_core::records::manifest::Statistics;
use backy_engine::repository::versions::{VersionEntry, VersionState};

use super::ls::report_unreadable;
use crate::app::App;
use crate::args::versions::Stats;
use crate::exit::{Exit, Failure};
use crate::output::{Cell, Column, select};
use crate::version_spec;

/// All fields.
pub(super) const COLUMNS: &[Column<VersionEntry>] = &[
    Column { name: "date", value: |entry| Cell::Moment(entry.manifest.created) },
    Column { name: "uid", value: |entry| Cell::Uid(entry.manifest.uid.to_string()) },
    Column { name: "name", value: |entry| Cell::Text(entry.manifest.name.clone()) },
    Column { name: "size bytes", value: |entry| Cell::Bytes(entry.manifest.size_bytes) },
    Column { name: "size blocks", value: |entry| Cell::Number(entry.manifest.map.blocks.0) },
    Column { name: "bytes read", value: |entry| Cell::Bytes(of(entry).read_bytes) },
    Column { name: "bytes unread", value: |entry| Cell::Bytes(of(entry).unread_bytes) },
    Column { name: "bytes dedup", value: |entry| Cell::Bytes(of(entry).deduplicated_bytes) },
    Column { name: "bytes sparse", value: |entry| Cell::Bytes(sparse_bytes(of(entry))) },
    Column { name: "bytes new", value: |entry| Cell::Bytes(of(entry).new_bytes) },
    Column { name: "bytes missing", value: |entry| Cell::Bytes(of(entry).missing_bytes) },
    Column { name: "bytes audited", value: |entry| Cell::Bytes(of(entry).audited_bytes) },
    Column { name: "bytes stored", value: |entry| Cell::Bytes(of(entry).stored_bytes) },
    Column { name: "packs", value: |entry| Cell::Number(of(entry).packs) },
    Column { name: "duration (s)", value: |entry| Cell::Seconds(of(entry).duration_milliseconds) },
];

const DEFAULTS: &[&str] = &[
    "date",
    "uid",
    "name",
    "size bytes",
    "bytes read",
    "bytes unread",
    "bytes dedup",
    "bytes sparse",
    "bytes new",
    "bytes stored",
    "duration (s)",
];

pub(super) fn run(app: &App, arguments: &Stats) -> Result<Exit, Failure> {
    let chosen = select(COLUMNS, arguments.fields.as_deref(), DEFAULTS)?;
    let spec = arguments.version.as_ref().map(|version| version_spec::parse(version, &app.output.zone)).transpose()?;
    let repository = app.repository()?;
    let (mut versions, exit) = match spec {
        Some(spec) => (vec![repository.find_version(&spec).map_err(Failure::of_version)?], Exit::Success),
        None => {
            let listing = repository.versions()?;
            let exit = report_unreadable(&listing.unreadable);
            let is_complete = |entry: &VersionEntry| entry.state != VersionState::Incomplete;
            (listing.versions.into_iter().filter(is_complete).collect(), exit)
        }
    };
    let limit = arguments.limit.unwrap_or(usize::MAX);
    versions.drain(..versions.len().saturating_sub(limit));
    app.output.rows(COLUMNS, &chosen, &versions)?;
    Ok(exit)
}

fn of(entry: &VersionEntry) -> Statistics {
    entry.manifest.statistics
}

fn sparse_bytes(statistics: Statistics) -> u64 {
    statistics.hole_bytes.saturating_add(statistics.zero_bytes)
}
