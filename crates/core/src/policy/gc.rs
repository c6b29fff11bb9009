//! What may be deleted, and when: the decisions of a cleanup.
//!
//! ```text
//!  ripe      records of which everybody who may not know them is gone        from the log and the leases
//!  condemn   slots that no wanted version points to                          from the mark and the packs
//!  sweep     slots that a ripe record condemned and no version needs         from ripe records and the mark
//! ```
//!
//! All of it rests on facts that stay true once they are: see `docs/protocol.md`. No clock takes part.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{LeaseId, VersionUid};
use crate::names::GcName;
use crate::records::gc::GcHead;
use crate::slots::SlotSet;

/// Returns the leases whose holders may not know record `name`.
///
/// `log` are the records that were read, `leases` those that were held when they were listed *after* that. A lease that
/// some author who knew the record did not see held was put after the record could be read, or is over.
pub fn waiting(name: GcName, log: &BTreeMap<GcName, GcHead>, leases: &BTreeSet<LeaseId>) -> BTreeSet<LeaseId> {
    let mut waiting = leases.clone();
    for head in log.values().filter(|head| head.read.contains(&name)) {
        waiting.retain(|lease| head.held.contains(lease));
    }
    waiting
}

/// Returns the records of which everybody who may not know them is gone.
pub fn ripe(log: &BTreeMap<GcName, GcHead>, leases: &BTreeSet<LeaseId>) -> BTreeSet<GcName> {
    log.keys().copied().filter(|&name| waiting(name, log, leases).is_empty()).collect()
}

/// Returns the versions that some record has condemned.
pub fn condemned_versions<'a>(heads: impl IntoIterator<Item = &'a GcHead>) -> BTreeSet<VersionUid> {
    heads.into_iter().flat_map(|head| head.versions.iter().copied()).collect()
}

/// What a cleanup knows of one pack.
#[derive(Clone, Copy, Debug)]
pub struct PackFacts<'a> {
    /// The slots that the pack has, or could have if that is not known.
    pub present: &'a SlotSet,
    /// Slots of versions that are neither removed nor condemned.
    pub wanted: Option<&'a SlotSet>,
    /// Slots of all versions but the doomed ones; holds `wanted`.
    pub needed: Option<&'a SlotSet>,
    /// Slots that any record has condemned.
    pub condemned: Option<&'a SlotSet>,
    /// Slots that a ripe record has condemned; part of `condemned`.
    pub ripe: Option<&'a SlotSet>,
}

/// What is to be done with one pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackVerdict {
    /// Slots to condemn now.
    pub condemn: Option<SlotSet>,
    /// Slots that may be deleted now.
    pub sweep: Option<SlotSet>,
}

/// Decides about one pack.
pub fn judge(facts: PackFacts<'_>) -> PackVerdict {
    let without = |from: Option<SlotSet>, less: Option<&SlotSet>| match (from, less) {
        (Some(from), Some(less)) => from.minus(less),
        (from, None) => from,
        (None, _) => None,
    };
    let present = Some(facts.present.clone());
    PackVerdict {
        condemn: without(without(present, facts.wanted), facts.condemned),
        sweep: without(facts.ripe.and_then(|ripe| ripe.common(facts.present)), facts.needed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SlotNumber;

    fn name(number: u32) -> GcName {
        GcName { number, author: LeaseId::from_bytes([9; 16]) }
    }

    fn lease(number: u8) -> LeaseId {
        LeaseId::from_bytes([number; 16])
    }

    fn head(read: &[u32], held: &[u8]) -> GcHead {
        GcHead {
            read: read.iter().map(|&number| name(number)).collect(),
            held: held.iter().map(|&number| lease(number)).collect(),
            ..GcHead::default()
        }
    }

    #[test]
    fn a_record_waits_for_all_who_are_there_until_a_later_one_has_seen_some_of_them() {
        let mut log: BTreeMap<GcName, GcHead> = [(name(1), head(&[], &[1]))].into();
        let now: BTreeSet<LeaseId> = [lease(1), lease(2)].into();
        // Its own list of leases says nothing: it was made before the record could be read.
        assert_eq!(waiting(name(1), &log, &now), now);
        // Somebody who had read it saw lease 1 held; lease 2 came after that, so it knows the record.
        log.insert(name(2), head(&[1], &[1, 3]));
        assert_eq!(waiting(name(1), &log, &now), [lease(1)].into());
        assert_eq!(ripe(&log, &[lease(2)].into()), [name(1)].into());
        assert_eq!(ripe(&log, &BTreeSet::new()), [name(1), name(2)].into());
    }

    #[test]
    fn a_record_that_did_not_read_it_does_not_count() {
        let log: BTreeMap<GcName, GcHead> = [(name(1), head(&[], &[])), (name(2), head(&[], &[]))].into();
        let now: BTreeSet<LeaseId> = [lease(1)].into();
        assert!(ripe(&log, &now).is_empty());
    }

    fn run(first: u16, last: u16) -> SlotSet {
        SlotSet::run(SlotNumber(first), SlotNumber(last))
    }

    #[test]
    fn what_is_needed_is_not_swept_though_a_ripe_record_condemned_it() {
        let facts = PackFacts {
            present: &run(0, 99),
            wanted: Some(&run(0, 9)),
            needed: Some(&run(0, 19)),
            condemned: Some(&run(5, 49)),
            ripe: Some(&run(5, 29)),
        };
        let verdict = judge(facts);
        assert_eq!(verdict.condemn, Some(run(50, 99)));
        assert_eq!(verdict.sweep, Some(run(20, 29)));
        let nothing = PackFacts { wanted: None, needed: None, condemned: None, ripe: None, ..facts };
        assert_eq!(judge(nothing), PackVerdict { condemn: Some(run(0, 99)), sweep: None });
        let all = PackFacts { wanted: Some(&run(0, 99)), needed: Some(&run(0, 99)), ..facts };
        assert_eq!(judge(all), PackVerdict::default());
    }

    #[test]
    fn only_slots_that_are_there_are_swept() {
        let whole = SlotSet::whole();
        let facts =
            PackFacts { present: &run(0, 9), wanted: None, needed: None, condemned: Some(&whole), ripe: Some(&whole) };
        assert_eq!(judge(facts), PackVerdict { condemn: None, sweep: Some(run(0, 9)) });
    }
}
