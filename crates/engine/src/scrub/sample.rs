//! Which packs a scrub reads when it does not read all.

use backy_core::environment::Timestamp;
use backy_core::ids::PackId;

/// In which order packs are taken until the share is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SampleOrder {
    /// By chance.
    #[default]
    Random,
    /// Those that were verified longest ago, as far as this host knows; never is longest.
    OldestFirst,
}

/// A pack that may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The pack.
    pub pack: PackId,
    /// How much it counts: the slots that are referred to.
    pub slots: u64,
    /// When all of it was verified last.
    pub verified: Option<Timestamp>,
    /// A random number.
    pub chance: u64,
}

/// Returns as many packs as have at least `percent` of all slots, sorted by id: by the time they were written.
pub(super) fn sample(mut candidates: Vec<Candidate>, percent: f64, order: SampleOrder) -> Vec<PackId> {
    let total: u64 = candidates.iter().map(|candidate| candidate.slots).sum();
    candidates.sort_by_key(|candidate| {
        let verified = if order == SampleOrder::OldestFirst { candidate.verified } else { None };
        (verified, candidate.chance)
    });
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
    let goal = (total as f64 * percent.clamp(0.0, 100.0) / 100.0).ceil() as u64;
    let mut taken = 0;
    let mut packs: Vec<PackId> = candidates
        .into_iter()
        .take_while(|candidate| {
            let is_needed = taken < goal;
            taken += candidate.slots;
            is_needed
        })
        .map(|candidate| candidate.pack)
        .collect();
    packs.sort_unstable();
    packs
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn sixteen_percent_a_day_cover_a_week() {
        let mut verified: BTreeMap<u8, Timestamp> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for day in 1..=7 {
            let candidates = (0..100).map(|pack| Candidate {
                pack: PackId::from_bytes([pack; 16]),
                slots: 50 + u64::from(pack) % 7,
                verified: verified.get(&pack).copied(),
                chance: (u64::from(pack) * 7919 + day * 31) % 101,
            });
            let taken = sample(candidates.collect(), 16.0, SampleOrder::OldestFirst);
            assert!((15..=18).contains(&taken.len()), "{}", taken.len());
            assert!(taken.is_sorted());
            for pack in taken {
                verified.insert(pack.bytes()[0], Timestamp { milliseconds: day });
                seen.insert(pack);
            }
        }
        assert_eq!(seen.len(), 100);
    }

    #[test]
    fn a_small_share_is_one_pack_and_nothing_is_none() {
        let one = |pack, chance| Candidate { pack: PackId::from_bytes([pack; 16]), slots: 10, verified: None, chance };
        let candidates = vec![one(1, 2), one(2, 1)];
        assert_eq!(sample(candidates.clone(), 0.001, SampleOrder::Random), [PackId::from_bytes([2; 16])]);
        assert_eq!(sample(candidates.clone(), 100.0, SampleOrder::Random).len(), 2);
        assert!(sample(candidates, 0.0, SampleOrder::Random).is_empty());
    }
}
