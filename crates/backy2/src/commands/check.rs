//! `backy2 check`: is everything there, and does it fit together?

use backy_core::units::ByteRange;
use backy_engine::check::{self, CheckReport, CheckRequest, Finding, Orphans, Weight};
use serde_json::{Value, json};

use crate::app::App;
use crate::args::check::Check;
use crate::exit::{Exit, Failure};
use crate::output::{self, Cell, Column, Format, select};
use crate::progress::{Job, watch};
use crate::{console, signals, size};

/// One line for each finding.
const COLUMNS: &[Column<Finding>] = &[
    Column { name: "weight", value: |finding| Cell::Text(word(finding).to_owned()) },
    Column { name: "object", value: |finding| Cell::Text(finding.object.clone()) },
    Column { name: "uid", value: |finding| finding.version.map_or(Cell::Nothing, |uid| Cell::Uid(uid.to_string())) },
    Column { name: "lost_bytes", value: |finding| Cell::Number(lost_bytes(finding)) },
    Column { name: "problem", value: |finding| Cell::Text(finding.problem.clone()) },
    Column { name: "remedy", value: |finding| Cell::Text(finding.remedy.clone().unwrap_or_default()) },
];
const DEFAULTS: &[&str] = &["weight", "object", "uid", "lost_bytes", "problem", "remedy"];

/// How many ranges of a version people are shown.
const RANGES_MAX: usize = 20;

pub(super) fn run(app: &App, arguments: &Check) -> Result<Exit, Failure> {
    let mut repository = app.repository()?;
    let request = CheckRequest { repairs: arguments.repair };
    let cancel = signals::watch()?;
    let report = watch(app, Job::Check, "check", |progress| check::run(&mut repository, &request, progress, &cancel))?;
    match app.output.format {
        Format::Table => show(&report)?,
        Format::Machine => {
            let chosen = select(COLUMNS, None, DEFAULTS)?;
            app.output.rows(COLUMNS, &chosen, &report.findings)?;
        }
        Format::Json => app.output.json(&whole(&report))?,
    }
    for finding in report.findings.iter().filter(|finding| finding.weight == Weight::Damage) {
        tell(finding);
    }
    Ok(if report.is_damaged() { Exit::Blemished } else { Exit::Success })
}

/// What people read, on standard output.
fn show(report: &CheckReport) -> Result<(), Failure> {
    let counted = |count: u64, what: &str| size::counted(count, what);
    output::line(&format!(
        "Looked at {} and {} incomplete, {} with {} and {} that versions need, and {} besides.",
        counted(report.version_count, "version"),
        report.incomplete_count,
        counted(report.pack_count, "pack"),
        size::human(report.pack_bytes),
        counted(report.needed_slots, "slot"),
        counted(report.object_count, "small object"),
    ))?;
    for repaired in &report.repaired {
        output::line(repaired)?;
    }
    for finding in report.findings.iter().filter(|finding| finding.weight == Weight::Harmless) {
        output::line(&format!("Note: {}: {}; {}.", finding.object, finding.problem, finding.meaning))?;
    }
    let rest = left_over(report);
    if !rest.is_empty() {
        output::line(&format!("Left over, and freed by `backy2 cleanup`: {}.", rest.join(", ")))?;
    }
    if report.orphan_labels > 0 {
        let labels = counted(report.orphan_labels, "label");
        output::line(&format!("{labels} of versions that were deleted; `backy2 check --repair` drops them."))?;
    }
    if report.unread_count > 0 {
        let versions = counted(report.unread_count, "version");
        output::line(&format!(
            "{versions} with blocks that the source could not give: `backy2 ls` calls them invalid."
        ))?;
    }
    let damaged = report.findings.iter().filter(|finding| finding.weight == Weight::Damage).count() as u64;
    if damaged == 0 {
        output::line("Everything is there, and fits together. Whether all blocks are good, `backy2 scrub` says.")?;
    } else {
        output::line(&format!("{} of damage; `backy2 scrub --all` marks the versions:", counted(damaged, "finding")))?;
    }
    Ok(())
}

fn left_over(report: &CheckReport) -> Vec<String> {
    let mut parts = Vec::new();
    let slots = |orphans: &Orphans| format!("{}, {}", size::counted(orphans.slots, "slot"), size::human(orphans.bytes));
    if report.orphans.packs > 0 {
        parts.push(format!("{} ({})", size::counted(report.orphans.packs, "pack"), slots(&report.orphans)));
    }
    if report.unused.packs > 0 {
        let packs = size::counted(report.unused.packs, "pack");
        parts.push(format!("a part of {packs} ({})", slots(&report.unused)));
    }
    for (count, what) in [
        (report.several_generations, "pack of several generations"),
        (report.removed_count, "removed version"),
        (report.orphan_damage_records, "damage record"),
        (report.orphan_index_records, "index record"),
    ] {
        match (count, what.split_once(" of ")) {
            (0, _) => {}
            (_, Some((noun, rest))) => parts.push(format!("{} of {rest}", size::counted(count, noun))),
            (_, None) => parts.push(size::counted(count, what)),
        }
    }
    parts
}

fn whole(report: &CheckReport) -> Value {
    let orphans = |orphans: &Orphans| json!({"packs": orphans.packs, "slots": orphans.slots, "bytes": orphans.bytes});
    let range = |range: &ByteRange| json!({"offset_bytes": range.offset_bytes, "length_bytes": range.length_bytes});
    let finding = |finding: &Finding| {
        json!({
            "weight": word(finding),
            "object": finding.object,
            "version": finding.version.map(|uid| uid.to_string()),
            "extents": finding.extents.iter().map(range).collect::<Vec<_>>(),
            "problem": finding.problem,
            "meaning": finding.meaning,
            "remedy": finding.remedy,
        })
    };
    json!({
        "is_damaged": report.is_damaged(),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "versions": report.version_count,
        "incomplete_versions": report.incomplete_count,
        "removed_versions": report.removed_count,
        "versions_with_unread_blocks": report.unread_count,
        "packs": report.pack_count,
        "pack_objects": report.pack_object_count,
        "pack_bytes": report.pack_bytes,
        "needed_slots": report.needed_slots,
        "packs_of_several_generations": report.several_generations,
        "orphans": orphans(&report.orphans),
        "unused": orphans(&report.unused),
        "orphan_labels": report.orphan_labels,
        "orphan_damage_records": report.orphan_damage_records,
        "orphan_index_records": report.orphan_index_records,
        "foreign_objects": report.foreign_objects,
        "small_objects": report.object_count,
        "repaired": report.repaired,
    })
}

/// What people read on standard error, whatever the format.
fn tell(finding: &Finding) {
    let version = finding.version.map(|uid| format!("version {uid}: ")).unwrap_or_default();
    console::message(&format!("warning: {version}{}: {}", finding.object, finding.problem));
    for range in finding.extents.iter().take(RANGES_MAX) {
        console::message(&format!("  offset {}, {} bytes", range.offset_bytes, range.length_bytes));
    }
    if finding.extents.len() > RANGES_MAX {
        console::message(&format!("  ... and {} more; --json lists all.", finding.extents.len() - RANGES_MAX));
    }
    console::message(&format!("  {}", finding.meaning));
    if let Some(remedy) = &finding.remedy {
        console::message(&format!("hint: {remedy}"));
    }
}

fn word(finding: &Finding) -> &'static str {
    match finding.weight {
        Weight::Damage => "damage",
        Weight::Harmless => "note",
    }
}

fn lost_bytes(finding: &Finding) -> u64 {
    finding.extents.iter().map(|range| range.length_bytes).sum()
}
