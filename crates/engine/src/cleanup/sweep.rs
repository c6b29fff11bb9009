//! Deletes packs of which nobody needs anything, and writes others anew without what nobody needs.

use std::collections::{BTreeMap, BTreeSet};

use backy_core::ids::SlotNumber;
use backy_core::names::{ObjectName, PackName};
use backy_core::slots::SlotSet;
use backy_core::{ErrorKind, Result};
use tracing::warn;

use super::CleanupReport;
use super::deletion::{AT_ONCE, delete_all};
use super::mark::Marked;
use super::pass::Pass;
use super::survey::Work;
use crate::repository::packs::is_about_content;
use crate::repository::rewrite::RewriteOutcome;

/// Sweeps; says whether it came to the end.
pub(super) fn run(pass: &Pass<'_>, work: Vec<Work>, marked: &Marked, report: &mut CleanupReport) -> Result<bool> {
    pass.progress.total_bytes.set(work.iter().map(Work::bytes).sum());
    pass.progress.done_bytes.set(0);
    // What makes room first: to write a pack anew takes some.
    let (dead, rest): (Vec<Work>, Vec<Work>) = work.into_iter().partition(|pack| is_dead(pack, marked));
    for packs in dead.chunks(AT_ONCE) {
        pass.cancel.check()?;
        delete_packs(pass, packs, report)?;
    }
    for pack in rest {
        pass.cancel.check()?;
        if (pass.is_over)() {
            report.is_unfinished = true;
            return Ok(false);
        }
        let bytes = pack.bytes();
        rewrite_pack(pass, pack, report)?;
        pass.progress.done_bytes.add(bytes);
    }
    Ok(true)
}

/// Says whether nobody needs anything of a pack, and all that it ever had may go.
fn is_dead(work: &Work, marked: &Marked) -> bool {
    let all = work.slot_count.and_then(SlotSet::below).unwrap_or(SlotSet::whole());
    marked.needed(work.pack).is_none() && work.sweep.as_ref().is_some_and(|sweep| sweep.covers(&all))
}

fn rewrite_pack(pass: &Pass<'_>, work: Work, report: &mut CleanupReport) -> Result<()> {
    let pack = work.pack;
    let outcome = if is_worth_it(pass, &work)? { rewrite(pass, &work) } else { return Ok(()) };
    match outcome {
        Ok(RewriteOutcome::Rewritten(done)) => {
            report.rewritten_packs += 1;
            report.read_bytes += done.read_bytes;
            report.written_bytes += done.written_bytes;
            report.freed_bytes += done.deleted_bytes.saturating_sub(done.written_bytes);
            pass.progress.written_bytes.add(done.written_bytes);
        }
        Ok(RewriteOutcome::Stopped(obstacles)) => {
            let damaged = obstacles.damaged.len();
            let problem = format!("{damaged} of its slots are damaged; `scrub` says in which versions");
            report.skipped_packs.push((pack, problem));
        }
        Ok(RewriteOutcome::Absent | RewriteOutcome::Unchanged) => {}
        Err(error) if matches!(error.kind(), ErrorKind::Refused | ErrorKind::PermissionDenied) => {
            warn!("pack {pack} stays for now: {error}");
            report.undeletable += 1;
        }
        // Another rewriter is at it, or it is damaged in a way that only a scrub can tell more of.
        Err(error) if error.kind() == ErrorKind::Busy || is_about_content(&error) => {
            report.skipped_packs.push((pack, error.to_string()));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn rewrite(pass: &Pass<'_>, work: &Work) -> Result<RewriteOutcome> {
    let drop: BTreeSet<SlotNumber> = work.sweep.iter().flat_map(SlotSet::slots).collect();
    pass.repository.rewrite_pack(work.pack, &drop, &BTreeMap::new(), pass.lease.id())
}

/// Says whether so little of a pack is needed that writing it anew pays; several generations always are one too many.
fn is_worth_it(pass: &Pass<'_>, work: &Work) -> Result<bool> {
    if work.generations.len() > 1 {
        return Ok(true);
    }
    let (Some(sweep), Some(slot_count)) = (&work.sweep, work.slot_count) else { return Ok(false) };
    let is_below = |kept: usize, of: usize| {
        let percent = 100.0 * kept as f64 / (of as f64).max(1.0);
        kept < of && percent < pass.request.compact_below_percent
    };
    if !is_below(slot_count.saturating_sub(sweep.count()), slot_count) {
        return Ok(false);
    }
    // A pack that was written anew before does not have all slots any more.
    let is_first = work.generations.iter().all(|(name, _)| name.generation.0 == 0);
    if is_first {
        return Ok(true);
    }
    let directory = match pass.repository.directory(work.pack) {
        Err(error) if is_about_content(&error) => return Ok(false),
        directory => directory?,
    };
    let (mut there, mut kept) = (0, 0);
    for (slot, _) in directory.slots() {
        there += 1;
        kept += usize::from(!sweep.contains(slot));
    }
    Ok(is_below(kept, there))
}

fn delete_packs(pass: &Pass<'_>, dead: &[Work], report: &mut CleanupReport) -> Result<()> {
    let names: Vec<ObjectName> =
        dead.iter().flat_map(|work| &work.generations).map(|(name, _)| name.object_name()).collect();
    let kept = delete_all(pass.repository, &names, report, pass.cancel)?;
    for work in dead {
        let is_kept = |(name, _): &&(PackName, u64)| kept.contains(&name.object_name());
        let kept_bytes: u64 = work.generations.iter().filter(is_kept).map(|(_, bytes)| bytes).sum();
        report.freed_bytes += work.bytes() - kept_bytes;
        pass.progress.done_bytes.add(work.bytes());
        if work.generations.iter().any(|generation| is_kept(&generation)) {
            continue;
        }
        report.deleted_packs.insert(work.pack);
        pass.repository.forget_directory(work.pack);
        if let Err(error) = pass.repository.catalog().forget_pack(work.pack) {
            warn!("the catalog did not forget pack {}: {error}", work.pack);
        }
    }
    Ok(())
}
