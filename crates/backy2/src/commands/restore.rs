//! `backy2 restore`: from a version to a target.

use std::path::PathBuf;

use backy_core::records::manifest::Manifest;
use backy_core::units::{BlockIndex, ByteRange};
use backy_core::{Error, ErrorKind};
use backy_device::{DeviceOptions, Target, TargetRequest, open_target};
use backy_engine::Repository;
use backy_engine::repository::versions::{VersionEntry, VersionState};
use backy_engine::restore::{self, RestoreReport, RestoreRequest, RestoreStart};
use serde_json::json;

use super::device::absolute;
use crate::app::{App, quoted};
use crate::args::jobs::Restore;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::progress::{Job, watch};
use crate::{console, signals, size, version_spec};

/// How many damaged ranges people see; JSON has all.
const RANGES_MAX: usize = 20;

pub(super) fn run(app: &App, arguments: &Restore) -> Result<Exit, Failure> {
    let spec = version_spec::parse(&arguments.version, &app.output.zone)?;
    let url = absolute(&arguments.target)?;
    let repository = app.repository()?;
    let cancel = signals::watch()?;
    let entry = repository.find_version(&spec).map_err(Failure::of_version)?;
    refuse_incomplete(app, &entry)?;
    let version = entry.manifest;
    let journal = journal(app, &repository, &version, &url);
    let start = start(arguments, &version, journal.as_ref())?;
    let target = open(arguments, &url, version.size_bytes).map_err(|failure| {
        let was_begun =
            failure.kind() == ErrorKind::AlreadyExists && journal.as_ref().is_some_and(|path| path.is_file());
        let hint = "a restore of this version to this target was begun: --continue goes on with it";
        if was_begun { failure.hint(hint) } else { failure }
    })?;
    let skips_zeros = arguments.sparse || arguments.target_is_zeroed;
    if arguments.sparse && !arguments.target_is_zeroed && !target.is_known_zero() {
        let message =
            format!("{url} is there already, and --sparse would leave its old bytes where the version has zeros");
        let refused = Failure::from(Error::new(ErrorKind::Refused, message));
        return Err(
            refused.hint("leave --sparse away, or say --target-is-zeroed if you have zeroed it (blkdiscard -z)")
        );
    }
    forget_others(journal.as_ref(), &url);
    let name = version.name.clone();
    let request = RestoreRequest {
        version,
        target: target.as_ref(),
        skips_zeros,
        writes_differences_only: arguments.delta,
        start,
        journal,
    };
    let result = watch(app, Job::Restore, &name, |progress| restore::run(&repository, &request, progress, &cancel));
    match result {
        Ok(report) => show(app, &request, &report),
        Err(failure) => {
            let kind = failure.error.kind();
            let message =
                Failure::from(failure.error.context(format!("restore version {} to {url}", request.version.uid)));
            // A target that is full is not a store that is full: trying again does not help.
            let message = if kind == ErrorKind::NoSpace { message.with_exit(Exit::Other) } else { message };
            Err(if request.journal.is_some() {
                message
                    .hint(format!("the target is not complete; to continue, run: {}", again(app, arguments, &request)))
            } else {
                message
            })
        }
    }
}

fn refuse_incomplete(app: &App, entry: &VersionEntry) -> Result<(), Failure> {
    if entry.state != VersionState::Incomplete {
        return Ok(());
    }
    let manifest = &entry.manifest;
    let message = format!("version {} is incomplete: its backup did not end, so it cannot be restored", manifest.uid);
    let again = format!(
        "{} backup --continue-version {} {} {}",
        app.program(),
        manifest.uid,
        quoted(&manifest.origin.source_url),
        quoted(&manifest.name)
    );
    Err(Failure::from(Error::new(ErrorKind::Refused, message)).hint(format!("finish the backup first: {again}")))
}

fn start(arguments: &Restore, version: &Manifest, journal: Option<&PathBuf>) -> Result<RestoreStart, Failure> {
    let end = version.map.blocks.0;
    match arguments.continue_from {
        Some(block) if block > end => {
            Err(Failure::usage(format!("the version has {end} blocks; the restore cannot go on at block {block}")))
        }
        Some(block) => Ok(RestoreStart::Block(BlockIndex(block))),
        None if !arguments.continues => Ok(RestoreStart::Beginning),
        None if journal.is_some_and(|path| path.is_file()) => Ok(RestoreStart::Journal),
        None => {
            let message = format!("nothing is noted of a restore of version {} to this target", version.uid);
            let failure = Failure::from(Error::new(ErrorKind::NotFound, message));
            Err(failure.hint("leave --continue away, and say -f --delta if the target has some of it already"))
        }
    }
}

fn open(arguments: &Restore, url: &str, size_bytes: u64) -> Result<Box<dyn Target>, Failure> {
    let may_overwrite = arguments.force || arguments.continues;
    let request = TargetRequest { size_bytes, may_overwrite, options: DeviceOptions::default() };
    open_target(url, &request).map_err(|error| {
        let kind = error.kind();
        let error = error.context("open the target");
        let failure = if kind == ErrorKind::Busy { Failure::without_hint(error) } else { Failure::from(error) };
        match kind {
            ErrorKind::NotFound => failure.hint("the folder of the target must be there"),
            ErrorKind::AlreadyExists => failure.hint("--force overwrites it, --delta --force only where it differs"),
            ErrorKind::NoSpace => failure.with_exit(Exit::Other),
            _ => failure,
        }
    })
}

/// Returns where a restore of this version to this target notes how far it has come.
fn journal(app: &App, repository: &Repository, version: &Manifest, url: &str) -> Option<PathBuf> {
    let is_kept = !url.starts_with("null://");
    let folder = app.config.values.state_dir.join(repository.id().to_string());
    is_kept.then(|| folder.join(format!("restore-{}-{:016x}.json", version.uid, fnv1a(url.as_bytes()))))
}

/// Removes the notes of other versions about the same target: what they say is overwritten now.
fn forget_others(journal: Option<&PathBuf>, url: &str) {
    let Some(journal) = journal else { return };
    let end = format!("-{:016x}.json", fnv1a(url.as_bytes()));
    let Some(files) = journal.parent().and_then(|folder| std::fs::read_dir(folder).ok()) else { return };
    for file in files.flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        if name.starts_with("restore-") && name.ends_with(&end) && file.path() != *journal {
            // What cannot be removed belongs to somebody else.
            let _ = std::fs::remove_file(file.path());
        }
    }
}

/// The hash FNV-1a (draft-eastlake-fnv): short, and the same in every release. What is in the journal is checked.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn again(app: &App, arguments: &Restore, request: &RestoreRequest<'_>) -> String {
    let zeroed = if request.skips_zeros && arguments.target_is_zeroed { " --target-is-zeroed" } else { "" };
    let delta = if request.writes_differences_only { " --delta" } else { "" };
    format!(
        "{} restore --continue{zeroed}{delta} {} {}",
        app.program(),
        request.version.uid,
        quoted(&request.target.url())
    )
}

fn show(app: &App, request: &RestoreRequest<'_>, report: &RestoreReport) -> Result<Exit, Failure> {
    let version = &request.version;
    let range_of = |blocks| version.block_size.byte_range(blocks, version.size_bytes);
    let lost: Vec<(ByteRange, &str)> =
        report.lost.iter().map(|lost| (range_of(lost.blocks), lost.problem.as_str())).collect();
    let lost_bytes: u64 = lost.iter().map(|(range, _)| range.length_bytes).sum();
    if app.output.format == Format::Json {
        let range = |(range, problem): &(ByteRange, &str)| json!({"offset_bytes": range.offset_bytes, "length_bytes": range.length_bytes, "problem": problem});
        app.output.json(&json!({
            "uid": version.uid.to_string(),
            "name": version.name,
            "target": request.target.url(),
            "size_bytes": version.size_bytes,
            "started_at_block": report.started_at.0,
            "written_bytes": report.written_bytes,
            "equal_bytes": report.equal_bytes,
            "zero_bytes": report.zero_bytes,
            "damaged_bytes": lost_bytes,
            "damaged": lost.iter().map(range).collect::<Vec<_>>(),
        }))?;
    }
    if !lost.is_empty() {
        let bytes = size::human(lost_bytes);
        console::message(&format!(
            "error: {bytes} in {} could not be restored, and are zeros on the target:",
            size::counted(lost.len() as u64, "range")
        ));
        for (range, problem) in lost.iter().take(RANGES_MAX) {
            let ByteRange { offset_bytes, length_bytes } = range;
            console::message(&format!("  offset {offset_bytes}, {length_bytes} bytes: {problem}"));
        }
        if lost.len() > RANGES_MAX {
            console::message(&format!("  ... and {} more; --json lists all.", lost.len() - RANGES_MAX));
        }
        console::message(
            "hint: all else is restored. An older version may have these ranges: restore it to another place.",
        );
    }
    if app.output.is_for_people() {
        output::line(&format!(
            "Restored version {} ({}) to {}: {} written, {} zeros, {} equal already",
            version.uid,
            version.name,
            request.target.url(),
            size::human(report.written_bytes),
            size::human(report.zero_bytes),
            size::human(report.equal_bytes)
        ))?;
    }
    Ok(if lost.is_empty() { Exit::Success } else { Exit::Blemished })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
