//! `backy2 rm`: remove versions.

use std::collections::BTreeSet;
use std::time::Duration;

use backy_core::{Error, ErrorKind};
use backy_engine::Repository;
use backy_engine::remove::{self, RemoveRequest};
use backy_engine::repository::versions::VersionSpec;
use serde_json::json;

use crate::app::App;
use crate::args::versions::Rm;
use crate::console;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::version_spec;

pub(super) fn run(app: &App, arguments: &Rm) -> Result<Exit, Failure> {
    let parse = |version: &String| version_spec::parse(version, &app.output.zone);
    let specs = arguments.versions.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let repository = app.repository()?;
    let days = app.config.values.disallow_rm_when_younger_than_days;
    let young = Duration::from_secs_f64(days * 86_400.0);

    let mut removed = Vec::new();
    let mut failed = None;
    for version in named(&repository, &specs) {
        let remove = |version| remove::run(&repository, &RemoveRequest { version, young, is_forced: arguments.force });
        match version.and_then(remove) {
            Ok(removed_version) => {
                let uid = removed_version.uid.to_string();
                let name = removed_version.name.as_deref().unwrap_or("unreadable");
                match app.output.format {
                    Format::Table => output::line(&format!("Removed version {uid} ({name})"))?,
                    Format::Machine => output::line(&uid)?,
                    Format::Json => {}
                }
                removed.push(json!({"uid": uid, "name": removed_version.name}));
            }
            Err(error) => {
                let is_refused = error.kind() == ErrorKind::Refused;
                let failure = Failure::of_version(error);
                let failure = if is_refused { failure.hint(refusal_hint(arguments.force)) } else { failure };
                // The last one is told at the end of the program, with its code; the others here.
                if let Some(earlier) = failed.replace(failure) {
                    Failure::print(&earlier, app.global.is_debugging);
                }
            }
        }
    }
    if app.output.format == Format::Json {
        app.output.json(&json!(removed))?;
    }
    if app.output.is_for_people() && !removed.is_empty() {
        console::message("`backy2 cleanup` frees the space.");
    }
    failed.map_or(Ok(Exit::Success), Err)
}

/// Returns the versions that are meant, each one once, before any is removed: afterwards `NAME@latest` is another one.
fn named(repository: &Repository, specs: &[VersionSpec]) -> Vec<Result<VersionSpec, Error>> {
    let mut seen = BTreeSet::new();
    let find = |spec: &VersionSpec| match (repository.find_version(spec), spec) {
        (Ok(entry), _) => Ok(entry.manifest.uid.to_string()),
        // One that cannot be read may be removed all the same.
        (Err(error), VersionSpec::Uid(part)) if error.kind() == ErrorKind::Damaged => Ok(part.clone()),
        (Err(error), _) => Err(error),
    };
    let mut is_new = |uid: &Result<String, Error>| uid.as_ref().map_or(true, |uid| seen.insert(uid.clone()));
    specs.iter().map(find).filter(|uid| is_new(uid)).map(|uid| uid.map(VersionSpec::Uid)).collect()
}

fn refusal_hint(is_forced: bool) -> &'static str {
    if is_forced {
        "a protected version stays, forced or not: `backy2 unprotect VERSION` first; one in use stays until its job has \
         ended: `backy2 leases`"
    } else {
        "`backy2 rm -f` removes a young version (disallow_rm_when_younger_than_days) and one that cannot be read, `backy2 \
         unprotect` lifts a protection, `backy2 leases` says who is at work"
    }
}
