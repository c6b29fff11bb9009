//! Which of the blocks that hints call unchanged are read all the same.
//!
//! Hints lie now and then. Each hinted backup reads some of what its hints leave out, half of it from a window that goes
//! round the volume, half in runs of up to 4 MiB at random, shorter ones where that would be few: a lie about a third of
//! the volume is found in one of 16 places nearly always. How much: 0.5 % of the volume, but at most the larger of 256 MiB
//! and a tenth of the changed bytes, and never less than 4 MiB if there is anything to audit.

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::policy::hints::{subtract, union};
use crate::units::{BlockCount, BlockIndex, BlockRange, BlockSize};

/// The length of the longest audited run at random in bytes, 4 MiB.
pub const RUN_BYTES: u64 = 4 << 20;
/// At least so many runs at random, unless they would be shorter than a block.
const RUNS_MIN: u64 = 16;

/// How much a hinted backup audits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AuditSettings {
    /// Percent of the volume; 0 turns the audit off, 100 reads everything.
    pub percent_of_volume: f64,
    /// The audit may always be this large, in bytes.
    pub bytes_max: u64,
    /// It may be this much larger if much has changed: percent of the changed bytes.
    pub percent_of_changed: f64,
}

impl Default for AuditSettings {
    fn default() -> AuditSettings {
        AuditSettings { percent_of_volume: 0.5, bytes_max: 256 << 20, percent_of_changed: 10.0 }
    }
}

/// Where the audit's window stands: kept in the manifest for the next backup of the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditWindow {
    /// The next window begins at this byte of the volume.
    pub next_offset_bytes: u64,
}

/// The runs to audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPlan {
    /// What to read and compare: ascending, without overlaps.
    pub runs: Vec<BlockRange>,
    /// Where the next audit's window begins.
    pub window: AuditWindow,
    /// After how many backups like this one the window has been everywhere; 0 if it never will.
    pub backups_to_full_coverage: u64,
}

/// Chooses the runs to audit among `unchanged`, the blocks that hints leave out (ascending, without overlaps).
pub fn plan_audit(
    settings: AuditSettings,
    block_size: BlockSize,
    volume_bytes: u64,
    unchanged: &[BlockRange],
    window: AuditWindow,
    environment: &Environment,
) -> AuditPlan {
    let unchanged_blocks: u64 = unchanged.iter().map(|range| range.count.0).sum();
    let changed_bytes = volume_bytes.saturating_sub(unchanged_blocks.saturating_mul(block_size.bytes_u64()));
    let budget_bytes = budget(settings, volume_bytes, changed_bytes);
    if budget_bytes == 0 || unchanged_blocks == 0 {
        return AuditPlan { window, ..AuditPlan::default() };
    }
    let run_blocks = (RUN_BYTES / block_size.bytes_u64()).max(1);
    let budget_blocks = budget_bytes.div_ceil(block_size.bytes_u64()).max(run_blocks);
    if budget_blocks >= unchanged_blocks {
        return AuditPlan { runs: unchanged.to_vec(), window: AuditWindow::default(), backups_to_full_coverage: 1 };
    }

    let total_blocks = block_size.count(volume_bytes);
    let start = BlockIndex(block_size.index_of(window.next_offset_bytes).0 % total_blocks.0.max(1));
    let (mut runs, next) = rotating_window(unchanged, start, budget_blocks / 2);
    let random_blocks = budget_blocks - budget_blocks / 2;
    let random_run_blocks = (random_blocks / RUNS_MIN).clamp(1, run_blocks);
    for _ in 0..random_blocks.div_ceil(random_run_blocks) {
        let position = environment.random_below(unchanged_blocks);
        runs.extend(run_at(unchanged, position, random_run_blocks));
    }
    let window_blocks = (budget_blocks / 2).max(1);
    AuditPlan {
        runs: union(runs),
        window: AuditWindow { next_offset_bytes: block_size.offset_bytes(next) },
        backups_to_full_coverage: unchanged_blocks.div_ceil(window_blocks),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of bytes need not be exact"
)]
fn budget(settings: AuditSettings, volume_bytes: u64, changed_bytes: u64) -> u64 {
    let share = |bytes: u64, percent: f64| (bytes as f64 * percent.clamp(0.0, 100.0) / 100.0) as u64;
    let wanted_bytes = share(volume_bytes, settings.percent_of_volume);
    let is_everything = settings.percent_of_volume >= 100.0;
    let limit_bytes = settings.bytes_max.max(share(changed_bytes, settings.percent_of_changed));
    match (settings.percent_of_volume > 0.0, is_everything) {
        (false, _) => 0,
        (true, true) => volume_bytes,
        (true, false) => wanted_bytes.min(limit_bytes).max(1),
    }
}

/// Takes `budget_blocks` of `unchanged` from `start` on, going round the end; returns them and where it stopped.
fn rotating_window(unchanged: &[BlockRange], start: BlockIndex, budget_blocks: u64) -> (Vec<BlockRange>, BlockIndex) {
    let before = [BlockRange::between(BlockIndex(0), start)];
    let ahead = subtract(unchanged, &before);
    let behind = subtract(unchanged, &ahead);
    let mut runs = Vec::new();
    let mut rest = budget_blocks;
    let mut next = start;
    for range in ahead.into_iter().chain(behind) {
        let count = range.count.0.min(rest);
        runs.push(BlockRange { start: range.start, count: BlockCount(count) });
        rest -= count;
        next = range.start + BlockCount(count);
        if rest == 0 {
            break;
        }
    }
    (runs, next)
}

/// Returns up to `run_blocks` of `unchanged`, from its block number `position` on, within one range.
fn run_at(unchanged: &[BlockRange], mut position: u64, run_blocks: u64) -> Option<BlockRange> {
    for range in unchanged {
        if position < range.count.0 {
            let count = run_blocks.min(range.count.0 - position);
            return Some(BlockRange { start: range.start + BlockCount(position), count: BlockCount(count) });
        }
        position -= range.count.0;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::environment::{Clock, Random, Timestamp};

    struct Counting(AtomicU64);

    impl Random for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            for byte in bytes {
                let count = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
                *byte = count.to_be_bytes()[0];
            }
        }
    }

    impl Clock for Counting {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }
        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
        fn sleep(&self, _: Duration) {}
    }

    fn environment() -> Environment {
        let counting = Arc::new(Counting(AtomicU64::new(1)));
        Environment { clock: counting.clone(), random: counting }
    }

    fn all(blocks: u64) -> Vec<BlockRange> {
        vec![BlockRange::between(BlockIndex(0), BlockIndex(blocks))]
    }

    #[test]
    fn small_volumes_are_audited_whatever_the_number_of_blocks() {
        for blocks in 1..10 {
            let plan = plan_audit(
                AuditSettings::default(),
                BlockSize::MIN,
                blocks * 4096,
                &all(blocks),
                AuditWindow::default(),
                &environment(),
            );
            assert_eq!(plan.runs, all(blocks), "all of {blocks} blocks fit one run");
        }
        let none =
            plan_audit(AuditSettings::default(), BlockSize::MIN, 4096, &[], AuditWindow::default(), &environment());
        assert!(none.runs.is_empty());
    }

    #[test]
    fn a_small_volume_is_audited_in_many_places() {
        let blocks = BlockSize::DEFAULT.count(200 << 20).0;
        let (settings, size) = (AuditSettings::default(), BlockSize::DEFAULT);
        let mut window = AuditWindow::default();
        // Of 100 hinted backups, those that find a lie about the last third of the volume.
        let environment = environment();
        let mut found = 0;
        for _ in 0..100 {
            let plan = plan_audit(settings, size, 200 << 20, &all(blocks), window, &environment);
            window = plan.window;
            found += u32::from(plan.runs.iter().any(|run| run.end().0 > blocks * 2 / 3));
        }
        assert!(found >= 98, "{found}");
    }

    #[test]
    fn the_window_goes_round_the_whole_volume() {
        let volume_bytes = 64u64 << 30;
        let blocks = BlockSize::DEFAULT.count(volume_bytes).0;
        let mut window = AuditWindow::default();
        let mut seen = Vec::new();
        let first = plan_audit(
            AuditSettings::default(),
            BlockSize::DEFAULT,
            volume_bytes,
            &all(blocks),
            window,
            &environment(),
        );
        for _ in 0..first.backups_to_full_coverage {
            let plan = plan_audit(
                AuditSettings::default(),
                BlockSize::DEFAULT,
                volume_bytes,
                &all(blocks),
                window,
                &environment(),
            );
            let audited_bytes: u64 = plan.runs.iter().map(|run| run.count.0 * 16384).sum();
            assert!(audited_bytes <= (256 << 20) + RUN_BYTES, "{audited_bytes}");
            seen.extend(plan.runs);
            window = plan.window;
        }
        assert_eq!(union(seen), all(blocks));
    }

    #[test]
    fn off_is_off_and_all_is_all() {
        let settings = |percent| AuditSettings { percent_of_volume: percent, ..AuditSettings::default() };
        let plan = |percent| {
            plan_audit(
                settings(percent),
                BlockSize::MIN,
                1 << 40,
                &all(1 << 28),
                AuditWindow::default(),
                &environment(),
            )
        };
        assert!(plan(0.0).runs.is_empty());
        assert_eq!(plan(100.0).runs, all(1 << 28));
    }
}
