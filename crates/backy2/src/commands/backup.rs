//! `backy2 backup`: from a source to a new version.

mod report;

use std::fs::File;
use std::path::Path;

use backy_core::hint::Hint;
use backy_core::policy::audit::AuditSettings;
use backy_core::records::label::LabelChange;
use backy_core::records::manifest::{check_name, check_name_length};
use backy_core::{Error, ErrorKind};
use backy_device::hints::rbd_diff;
use backy_device::{DeviceOptions, Source, open_source};
use backy_engine::Repository;
use backy_engine::backup::{self, BackupFailure, BackupRequest, BaseChoice, OnMismatch};
use backy_engine::repository::versions::{VersionEntry, VersionSpec, VersionState};

use self::report::Report;
use super::device::absolute;
use super::label::{parse_expiry, parse_tags};
use super::version::RELEASE;
use crate::app::{App, quoted};
use crate::args::jobs::{Backup, Mismatch};
use crate::exit::{Exit, Failure};
use crate::progress::{Job, watch};
use crate::{signals, version_spec};

pub(super) fn run(app: &App, arguments: &Backup) -> Result<Exit, Failure> {
    check_name(&arguments.name)
        .and_then(|()| check_name_length(&arguments.snapshot_name))
        .map_err(Failure::of_request)?;
    let label = label(app, arguments)?;
    let base = base(app, arguments)?;
    let named = arguments.continue_version.as_ref();
    let named = named.map(|version| version_spec::parse(version, &app.output.zone)).transpose()?;

    let source = open_source(&absolute(&arguments.source)?, &DeviceOptions::default())
        .map_err(|error| Failure::of_request(error.context("open the source")))?;
    let hints = arguments.rbd.as_ref().map(|path| read_hints(path, source.size_bytes())).transpose()?;
    let repository = app.repository()?;
    let cancel = signals::watch()?;
    let continued = match named {
        None if arguments.continues => Some(newest_incomplete(app, &repository, &arguments.name, source.as_ref())?),
        named => named,
    };
    let values = &app.config.values;
    let request = BackupRequest {
        source: source.as_ref(),
        name: arguments.name.clone(),
        snapshot_name: arguments.snapshot_name.clone(),
        block_size: arguments.block_size,
        block_size_default: values.block_size,
        base,
        continued,
        hints,
        may_be_empty: arguments.empty_hints_ok,
        label,
        audit: AuditSettings {
            percent_of_volume: arguments.audit.unwrap_or(values.audit_percent),
            bytes_max: values.audit_bytes_max,
            ..AuditSettings::default()
        },
        on_mismatch: match arguments.on_mismatch {
            Mismatch::Full => OnMismatch::ReadEverything,
            Mismatch::Fail => OnMismatch::Fail,
        },
        verify_percent: arguments.verify,
        host: crate::host::host_name(),
        program: format!("backy2 {RELEASE}"),
    };
    let result =
        watch(app, Job::Backup, &arguments.name, |progress| backup::run(&repository, &request, progress, &cancel));
    match result {
        Ok(report) => Report { app, request: &request, report: &report }.show(),
        Err(failure) => Err(explain(app, arguments, failure)),
    }
}

fn label(app: &App, arguments: &Backup) -> Result<LabelChange, Failure> {
    // Python users write `-t ''` for no tags.
    let tags = arguments.tags.as_deref().filter(|tags| !tags.is_empty());
    let label = LabelChange {
        add_tags: tags.map(parse_tags).transpose()?.unwrap_or_default(),
        protected: arguments.protect.then_some(true),
        expire: arguments.expire.as_deref().map(|date| parse_expiry(date, &app.output.zone)).transpose()?,
        note: arguments.note.clone(),
        ..LabelChange::default()
    };
    label.check().map_err(Failure::of_request)?;
    Ok(label)
}

fn base(app: &App, arguments: &Backup) -> Result<BaseChoice, Failure> {
    match arguments.from_version.as_deref() {
        None => Ok(BaseChoice::Newest),
        Some("none") => Ok(BaseChoice::None),
        Some(version) => version_spec::parse(version, &app.output.zone).map(BaseChoice::Version),
    }
}

fn read_hints(path: &Path, volume_bytes: u64) -> Result<Vec<Hint>, Failure> {
    let hints = if path == Path::new("-") {
        rbd_diff::parse(std::io::stdin().lock(), Some(volume_bytes))
    } else {
        let file = File::open(path).map_err(|error| Error::io(format!("open the hints {}", path.display()), error))?;
        rbd_diff::parse(file, Some(volume_bytes))
    };
    hints.map_err(|error| {
        let is_wrong = error.kind() == ErrorKind::InvalidInput;
        let failure = Failure::from(error.context(format!("the hints {}", path.display())));
        let hint =
            "nothing was done; the hints must be what `rbd diff --format=json` writes, whole, of this very source";
        if is_wrong { failure.hint(hint) } else { failure }
    })
}

fn newest_incomplete(
    app: &App,
    repository: &Repository,
    name: &str,
    source: &dyn Source,
) -> Result<VersionSpec, Failure> {
    let listing = repository.versions()?;
    let url = source.url();
    let is_meant = |entry: &&VersionEntry| {
        let manifest = &entry.manifest;
        entry.state == VersionState::Incomplete && manifest.name == name && manifest.origin.source_url == url
    };
    match listing.versions.iter().rev().find(is_meant) {
        Some(entry) => Ok(VersionSpec::Uid(entry.manifest.uid.to_string())),
        None => {
            let message = format!("there is no incomplete version of {name:?} from {url}");
            let failure = Failure::from(Error::new(ErrorKind::NotFound, message));
            Err(failure.hint(format!(
                "begin a new one: the same command without --continue; `{} ls` lists all",
                app.program()
            )))
        }
    }
}

/// Says what can be done after a backup that did not end.
fn explain(app: &App, arguments: &Backup, failure: BackupFailure) -> Failure {
    let BackupFailure { error, incomplete, are_hints_wrong } = failure;
    let kind = error.kind();
    let mut failure = Failure::of_version(error);
    if are_hints_wrong {
        failure = failure.with_exit(Exit::WrongHints).hint("do not trust what made these hints until you know why");
        failure = failure
            .hint("were they made against the base of this backup? -f names another one; without -r all is read");
    }
    match (kind, incomplete) {
        // Somebody has removed the version: there is nothing to continue.
        (ErrorKind::Refused, Some(_)) => failure.hint("back up again; what was stored is not stored twice"),
        (ErrorKind::Refused, None) if arguments.rbd.is_some() => {
            failure.hint("if the source is all zero, say --empty-hints-ok")
        }
        (_, Some(uid)) => {
            let again = format!("{} backup --continue-version {uid}{}", app.program(), again(arguments));
            let first = if kind == ErrorKind::NoSpace { "make room, then run" } else { "to continue, run" };
            failure.hint(format!("{first}: {again}"))
        }
        (ErrorKind::Cancelled, None) => failure.hint("nothing was stored that could be continued"),
        _ => failure,
    }
}

/// Returns the part of the command line that must be given again.
fn again(arguments: &Backup) -> String {
    let hints =
        arguments.rbd.as_ref().map_or_else(String::new, |path| format!(" -r {}", quoted(&path.display().to_string())));
    format!("{hints} {} {}", quoted(&arguments.source), quoted(&arguments.name))
}
