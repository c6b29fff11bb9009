//! `backy2 cleanup`: free the space of what no version needs.

use backy_core::ErrorKind;
use backy_engine::cleanup::{self, CleanupReport, CleanupRequest};
use serde_json::json;

use crate::app::App;
use crate::args::upkeep::Cleanup;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::progress::{Job, watch};
use crate::{console, signals, size};

pub(super) fn run(app: &App, arguments: &Cleanup) -> Result<Exit, Failure> {
    let repository = app.repository()?;
    let request = CleanupRequest {
        is_dry_run: arguments.dry_run,
        compact_below_percent: arguments.compact_below,
        time_max: arguments.max_time,
    };
    let cancel = signals::watch()?;
    let done = watch(app, Job::Cleanup, "cleanup", |progress| cleanup::run(&repository, &request, progress, &cancel));
    let report = done.map_err(|error| {
        let kind = error.kind();
        let failure = Failure::from(error);
        match kind {
            ErrorKind::Damaged => failure.hint(
                "nothing was deleted; `backy2 check` says what is damaged, `backy2 rm -f UID` gives up a version that \
                 cannot be read",
            ),
            ErrorKind::Busy => failure.hint("`backy2 leases` says who is at work"),
            _ => failure,
        }
    })?;
    show(app, arguments, &report)?;
    let is_blemished = !report.skipped_packs.is_empty() || !report.failed_rechecks.is_empty();
    Ok(if is_blemished { Exit::Blemished } else { Exit::Success })
}

fn show(app: &App, arguments: &Cleanup, report: &CleanupReport) -> Result<(), Failure> {
    match app.output.format {
        Format::Table => {
            for line in sentences(arguments, report) {
                output::line(&line)?;
            }
        }
        Format::Machine => output::line(&report.freed_bytes.to_string())?,
        Format::Json => app.output.json(&json!({
            "is_dry_run": arguments.dry_run,
            "freed_bytes": report.freed_bytes,
            "read_bytes": report.read_bytes,
            "written_bytes": report.written_bytes,
            "waiting_bytes": report.waiting_bytes,
            "waiting_for": report.waiting_for,
            "unused_bytes": report.unused_bytes,
            "versions": report.version_count,
            "packs": report.pack_count,
            "deleted_versions": report.deleted_versions.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "deleted_packs": report.deleted_packs.len(),
            "rewritten_packs": report.rewritten_packs,
            "revoked_leases": report.revoked,
            "passed_rechecks": report.passed_rechecks.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "failed_rechecks": report.failed_rechecks.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "skipped_packs": report.skipped_packs.iter().map(|(pack, _)| pack.to_string()).collect::<Vec<_>>(),
            "undeletable": report.undeletable,
            "is_unfinished": report.is_unfinished,
        }))?,
    }
    for (pack, problem) in &report.skipped_packs {
        console::message(&format!("warning: pack {pack} was left as it is: {problem}"));
    }
    for uid in &report.failed_rechecks {
        let why = "it was written by a job that others thought dead, and some of its blocks were deleted meanwhile";
        console::message(&format!("warning: version {uid} is INVALID: {why}; back up again, or remove it"));
    }
    Ok(())
}

/// What people read.
fn sentences(arguments: &Cleanup, report: &CleanupReport) -> Vec<String> {
    let mut lines = Vec::new();
    let unused = size::human(report.unused_bytes);
    if arguments.dry_run {
        let free = size::human(report.waiting_bytes);
        lines.push(format!("About {free} of {} can be freed; nothing was changed.", size::human(report.pack_bytes)));
    } else {
        let mut parts = Vec::new();
        for (count, thing, done) in [
            (report.deleted_versions.len() as u64, "version", "deleted"),
            (report.deleted_packs.len() as u64, "pack", "deleted"),
            (report.rewritten_packs, "pack", "written anew"),
        ] {
            if count > 0 {
                parts.push(format!("{} {done}", size::counted(count, thing)));
            }
        }
        let what = if parts.is_empty() { "there was nothing to delete".to_owned() } else { parts.join(", ") };
        lines.push(format!("Freed {}: {what}.", size::human(report.freed_bytes)));
    }
    for described in &report.revoked {
        lines.push(format!("Gave up the lease of {described}, which is not at work any more."));
    }
    if !report.waiting_for.is_empty() && report.waiting_bytes > 0 && !arguments.dry_run {
        let waiting = size::human(report.waiting_bytes);
        lines.push(format!(
            "About {waiting} more can be freed when these have ended: {}.",
            report.waiting_for.join("; ")
        ));
    }
    if report.unused_bytes > 0 && !arguments.dry_run {
        lines.push(format!("About {unused} lie unused in packs that are mostly needed (--compact-below)."));
    }
    if report.undeletable > 0 {
        let objects = size::counted(report.undeletable, "object");
        lines.push(format!("The store does not delete {objects} for now; the next cleanup tries again."));
    }
    if report.is_unfinished {
        lines.push("The time was over before all was done; the next cleanup goes on.".to_owned());
    }
    lines
}
