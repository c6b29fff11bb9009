//! `backy2 scrub`: check what is stored.

use backy_core::Error;
use backy_core::ids::VersionUid;
use backy_core::records::manifest::Manifest;
use backy_core::units::{BlockRange, ByteRange};
use backy_device::{DeviceOptions, open_source};
use backy_engine::scrub::{
    self, SampleOrder, ScrubReport, ScrubRequest, ScrubSample, ScrubScope, ScrubVersions, find_versions,
};
use serde_json::{Value, json};

use super::device::absolute;
use super::ls::report_unreadable;
use crate::app::App;
use crate::args::scrub::Scrub;
use crate::exit::{Exit, Failure};
use crate::output::{self, Cell, Column, Format};
use crate::progress::{Job, watch};
use crate::{console, signals, size, version_spec};

/// How many ranges of a version people see; JSON and machine output have all.
const RANGES_MAX: usize = 20;

/// A range of a version that is not as it should be.
struct Finding {
    uid: VersionUid,
    name: String,
    what: &'static str,
    range: ByteRange,
}

const COLUMNS: &[Column<Finding>] = &[
    Column { name: "uid", value: |finding| Cell::Uid(finding.uid.to_string()) },
    Column { name: "name", value: |finding| Cell::Text(finding.name.clone()) },
    Column { name: "what", value: |finding| Cell::Text(finding.what.to_owned()) },
    Column { name: "offset bytes", value: |finding| Cell::Number(finding.range.offset_bytes) },
    Column { name: "length bytes", value: |finding| Cell::Number(finding.range.length_bytes) },
];

pub(super) fn run(app: &App, arguments: &Scrub) -> Result<Exit, Failure> {
    let scope = scope(app, arguments)?;
    if arguments.source.is_some() && arguments.versions.len() != 1 {
        return Err(Failure::usage("a source is compared with one version only"));
    }
    if arguments.percent.is_some_and(|percent| percent <= 0.0) {
        return Err(Failure::usage("a share of 0 percent is nothing to scrub"));
    }
    let url = arguments.source.as_deref().map(absolute).transpose()?;
    let source = url.map(|url| {
        open_source(&url, &DeviceOptions::default())
            .map_err(|error| Failure::of_request(error.context("open the source")))
    });
    let source = source.transpose()?;
    let repository = app.repository()?;
    let cancel = signals::watch()?;
    let ScrubVersions { versions, unreadable } = find_versions(&repository, &scope).map_err(Failure::of_version)?;
    let order = if arguments.since_last { SampleOrder::OldestFirst } else { SampleOrder::Random };
    let sample = arguments.percent.map(|percent| ScrubSample { percent, order });
    let request = ScrubRequest { versions, sample, source: source.as_deref() };
    let name = title(arguments);
    let report = watch(app, Job::Scrub, &name, |progress| scrub::run(&repository, &request, progress, &cancel));
    let report = report.map_err(|error| Failure::of_request(error.context(format!("scrub {name}"))))?;
    let is_listed = report_unreadable(&unreadable) == Exit::Success;
    show(app, &request, &report, &unreadable)?;
    Ok(if report.is_clean() && is_listed { Exit::Success } else { Exit::Blemished })
}

fn scope(app: &App, arguments: &Scrub) -> Result<ScrubScope, Failure> {
    if let Some(name) = &arguments.name {
        return Ok(ScrubScope::Name(name.clone()));
    }
    if arguments.all {
        return Ok(ScrubScope::All);
    }
    let specs = arguments.versions.iter().map(|version| version_spec::parse(version, &app.output.zone));
    Ok(ScrubScope::Versions(specs.collect::<Result<_, _>>()?))
}

fn title(arguments: &Scrub) -> String {
    match &arguments.name {
        Some(name) => name.clone(),
        None if arguments.all => "all versions".to_owned(),
        None => arguments.versions.join(" "),
    }
}

fn show(
    app: &App,
    request: &ScrubRequest<'_>,
    report: &ScrubReport,
    unreadable: &[(VersionUid, Error)],
) -> Result<(), Failure> {
    let findings = findings(request, report);
    match app.output.format {
        Format::Machine => {
            let all: Vec<&Column<Finding>> = COLUMNS.iter().collect();
            app.output.rows(COLUMNS, &all, &findings)?;
        }
        Format::Json => {
            let unreadable: Vec<Value> = unreadable
                .iter()
                .map(|(uid, error)| json!({"uid": uid.to_string(), "problem": error.to_string()}))
                .collect();
            app.output.json(&as_json(request, report, &findings, unreadable))?;
        }
        Format::Table => {}
    }
    warn(app, request, report, &findings);
    if app.output.is_for_people() {
        output::line(&summary(request, report))?;
    }
    Ok(())
}

fn findings(request: &ScrubRequest<'_>, report: &ScrubReport) -> Vec<Finding> {
    let of = |version: &Manifest, what, blocks: &[BlockRange]| {
        let range = |blocks: &BlockRange| version.block_size.byte_range(*blocks, version.size_bytes);
        let finding = |blocks| Finding { uid: version.uid, name: version.name.clone(), what, range: range(blocks) };
        blocks.iter().map(finding).collect::<Vec<_>>()
    };
    let mut findings: Vec<Finding> =
        report.affected.iter().flat_map(|affected| of(&affected.manifest, "damaged", &affected.blocks)).collect();
    if let Some(version) = request.versions.first() {
        findings.extend(of(version, "differs", &report.different));
        findings.extend(of(version, "source unreadable", &report.unreadable));
    }
    findings
}

fn as_json(request: &ScrubRequest<'_>, report: &ScrubReport, findings: &[Finding], unreadable: Vec<Value>) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "uid": finding.uid.to_string(),
            "name": finding.name,
            "what": finding.what,
            "offset_bytes": finding.range.offset_bytes,
            "length_bytes": finding.range.length_bytes,
        })
    };
    json!({
        "versions": request.versions.iter().map(|version| version.uid.to_string()).collect::<Vec<_>>(),
        "unreadable_versions": unreadable,
        "is_clean": report.is_clean(),
        "packs": report.packs,
        "all_packs": report.all_packs,
        "slots": report.slots,
        "read_bytes": report.read_bytes,
        "plain_bytes": report.plain_bytes,
        "compared_bytes": report.compared_bytes,
        "damaged_slots": report.damaged_slots,
        "healed_slots": report.healed_slots,
        "good_again_slots": report.good_again_slots,
        "packs_without_fingerprints": report.without_fingerprints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

/// What must be seen, by scripts and people.
fn warn(app: &App, request: &ScrubRequest<'_>, report: &ScrubReport, findings: &[Finding]) {
    for of_version in findings.chunk_by(|left, right| left.uid == right.uid && left.what == right.what) {
        warn_of_version(of_version);
    }
    if report.damaged_slots > 0 {
        let slots = size::counted(report.damaged_slots, "stored block");
        console::message(&format!("error: {slots} found damaged; the versions that have them are marked invalid."));
        console::message(&format!(
            "hint: look at the disks of the store. A backup that sees the same content again heals it, and so does: {} scrub -s SOURCE VERSION",
            app.program()
        ));
    }
    if report.healed_slots > 0 {
        let slots = size::counted(report.healed_slots, "stored block");
        console::message(&format!("warning: {slots} found damaged, and healed from the source."));
    }
    if report.good_again_slots > 0 {
        let slots = size::counted(report.good_again_slots, "stored block");
        console::message(&format!("warning: {slots} noted as damaged before, and found good now."));
    }
    for pack in &report.without_fingerprints {
        console::message(&format!(
            "error: the fingerprints of pack {pack} cannot be read; its blocks are good, but could not be healed if they break."
        ));
    }
    if !report.different.is_empty() && request.source.is_some() {
        console::message("hint: is it the snapshot that was backed up? If so, keep an older version and back up anew.");
    }
}

fn warn_of_version(findings: &[Finding]) {
    let Some(first) = findings.first() else { return };
    let bytes: u64 = findings.iter().map(|finding| finding.range.length_bytes).sum();
    let count = size::counted(findings.len() as u64, "range");
    let what = match first.what {
        "damaged" => "are damaged",
        "differs" => "differ from the source",
        _ => "could not be compared, for the source is unreadable there",
    };
    console::message(&format!(
        "error: {} in {count} of version {} ({}) {what}:",
        size::human(bytes),
        first.uid,
        first.name
    ));
    for finding in findings.iter().take(RANGES_MAX) {
        let ByteRange { offset_bytes, length_bytes } = finding.range;
        console::message(&format!("  offset {offset_bytes}, {length_bytes} bytes"));
    }
    if findings.len() > RANGES_MAX {
        console::message(&format!("  ... and {} more; -m and --json list all.", findings.len() - RANGES_MAX));
    }
}

fn summary(request: &ScrubRequest<'_>, report: &ScrubReport) -> String {
    let versions = size::counted(request.versions.len() as u64, "version");
    let packs = match request.sample {
        Some(_) => format!("{} of {}", report.packs, size::counted(report.all_packs, "pack")),
        None => size::counted(report.packs, "pack"),
    };
    let compared = match request.source {
        Some(source) => format!(", {} compared with {}", size::human(report.compared_bytes), source.url()),
        None => String::new(),
    };
    let result = if report.is_clean() { "all good" } else { "NOT all good" };
    format!(
        "Scrubbed {versions}: {packs}, {} read, {} checked{compared}: {result}",
        size::human(report.read_bytes),
        size::human(report.plain_bytes)
    )
}
