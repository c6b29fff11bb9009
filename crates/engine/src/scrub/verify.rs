//! Reads packs and opens their slots: each pack once, in large reads, several packs at once.
//!
//! A slot is good if it opens and has the fingerprint that its pack tells. One that is not good where it was first read is
//! read again from all generations before it counts as damaged, so that an error of the way is none of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use backy_core::cancel::Cancel;
use backy_core::codec::fingerprint::Fingerprint;
use backy_core::ids::{PackId, SlotNumber};
use backy_core::pack::{Directory, Locator, SlotKind, SlotOpener};
use backy_core::units::ByteRange;
use backy_core::{Error, ErrorKind, Result, ResultExt};
use tracing::warn;

use super::collect::{SlotSet, Wanted, WantedPack};
use crate::parallel::for_each;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::damage::{Damage, FoundDamage};
use crate::repository::packs::is_about_content;

/// The most that is read at once.
const RUN_BYTES_MAX: u32 = 4 << 20;
/// What is not needed is read over up to this length.
const GAP_BYTES_MAX: u32 = 256 << 10;
/// How often a pack is looked for anew when it is rewritten meanwhile.
const TRIES_MAX: u32 = 8;

/// What is read of each pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// All of it, also what the versions do not refer to, so that it counts as verified.
    Whole,
    /// All of it if the versions refer to half of it or more.
    AsNeeded,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Verified {
    /// How many packs were read.
    pub packs: u64,
    /// How many slots were opened.
    pub slots: u64,
    /// How many stored bytes were read.
    pub read_bytes: u64,
    /// How many plain bytes that were.
    pub plain_bytes: u64,
    /// Damaged slots.
    pub damaged: BTreeMap<PackId, FoundDamage>,
    /// Slots that were known to be damaged, and are good.
    pub good_again: BTreeMap<PackId, BTreeSet<SlotNumber>>,
    /// Packs that were read as a whole and have damaged slots.
    pub whole_damaged: Vec<PackId>,
    /// Packs whose slots are good, and whose fingerprints cannot be read.
    pub without_fingerprints: Vec<PackId>,
}

/// What packs are verified with.
pub(super) struct Verification<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// What the versions refer to.
    pub wanted: &'a Wanted,
    /// What is read of each pack.
    pub depth: Depth,
    /// What is known to be damaged.
    pub known: &'a Damage,
    /// How far it has come.
    pub progress: &'a Progress,
}

/// Verifies `packs`. Damage does not stop it; a store that does not answer does, and then `verified` has what was found
/// before.
pub(super) fn verify(
    with: &Verification<'_>,
    packs: &[PackId],
    verified: &Mutex<Verified>,
    cancel: &Cancel,
) -> Result<()> {
    let threads = with.repository.settings().pack_readers();
    let nothing = WantedPack::default();
    let tools = || Verifier::new(with);
    for_each(threads, packs, cancel, tools, |verifier, &pack| {
        let of_pack = with.wanted.get(&pack).unwrap_or(&nothing);
        let found = verifier.verify(pack, of_pack).context(|| format!("verify pack {pack}"))?;
        let mut verified = verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.add(with, pack, found);
        Ok(ControlFlow::Continue(()))
    })
}

impl Verified {
    fn add(&mut self, with: &Verification<'_>, pack: PackId, found: Found) {
        self.packs += 1;
        self.slots += found.checked.len();
        self.read_bytes += found.read_bytes;
        self.plain_bytes += found.plain_bytes;
        if found.lacks_fingerprints {
            self.without_fingerprints.push(pack);
        }
        let good = |slot: &&SlotNumber| found.checked.contains(**slot) && !found.damage.slots.contains(*slot);
        let good_again: BTreeSet<SlotNumber> =
            with.known.slots().get(&pack).into_iter().flatten().filter(good).copied().collect();
        if !good_again.is_empty() {
            self.good_again.insert(pack, good_again);
        }
        let is_damaged = !found.damage.slots.is_empty();
        if is_damaged {
            self.damaged.insert(pack, found.damage);
        }
        match (found.is_whole, is_damaged) {
            // That it was read must not be known before its damage is.
            (true, true) => self.whole_damaged.push(pack),
            (true, false) => note_verified(with.repository, &[pack]),
            (false, _) => {}
        }
    }
}

/// Notes in the catalog that packs were verified now.
pub(super) fn note_verified(repository: &Repository, packs: &[PackId]) {
    let now = repository.environment().clock.now();
    if let Err(error) = repository.catalog().set_verified(packs, now) {
        warn!("the catalog did not take what was verified: {error}");
    }
}

/// What was found in one pack.
#[derive(Default)]
struct Found {
    checked: SlotSet,
    damage: FoundDamage,
    read_bytes: u64,
    plain_bytes: u64,
    lacks_fingerprints: bool,
    is_whole: bool,
}

impl Found {
    fn suspect(&mut self, slot: SlotNumber, error: &Error) {
        if self.damage.slots.is_empty() {
            self.damage.problem = error.to_string();
        }
        self.damage.slots.insert(slot);
    }
}

struct Verifier<'a> {
    repository: &'a Repository,
    progress: &'a Progress,
    depth: Depth,
    opener: SlotOpener,
    run: Vec<u8>,
    plain: Vec<u8>,
}

impl<'a> Verifier<'a> {
    fn new(with: &Verification<'a>) -> Result<Verifier<'a>> {
        let Verification { repository, progress, depth, .. } = *with;
        Ok(Verifier { repository, progress, depth, opener: SlotOpener::new()?, run: Vec::new(), plain: Vec::new() })
    }

    fn verify(&mut self, pack: PackId, wanted: &WantedPack) -> Result<Found> {
        for _ in 0..TRIES_MAX {
            let directory = match self.repository.directory(pack) {
                Ok(directory) => directory,
                Err(error) if is_about_content(&error) => {
                    let mut found = Found::default();
                    wanted.slots.iter().for_each(|slot| found.suspect(slot, &error));
                    found.checked = wanted.slots.clone();
                    return self.confirmed(pack, found);
                }
                Err(error) => return Err(error),
            };
            match self.verify_object(&directory, wanted) {
                // It was rewritten meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => self.repository.forget_directory(pack),
                found => return self.confirmed(pack, found?),
            }
        }
        Err(Error::new(ErrorKind::Busy, "it is rewritten by others again and again"))
    }

    fn verify_object(&mut self, directory: &Arc<Directory>, wanted: &WantedPack) -> Result<Found> {
        let mut found = Found::default();
        for slot in wanted.slots.iter().filter(|&slot| directory.locator(slot).is_none()) {
            found.suspect(slot, &Error::damaged(format!("slot {slot} is not in pack {}", directory.name())));
            found.checked.insert(slot);
        }
        let fingerprints = self.fingerprints(directory)?;
        found.lacks_fingerprints = fingerprints.is_none();
        let is_wanted = |slot: SlotNumber| wanted.slots.contains(slot);
        let wanted_bytes: u64 = directory
            .slots()
            .filter(|(slot, _)| is_wanted(*slot))
            .map(|(_, locator)| u64::from(locator.stored_length))
            .sum();
        found.is_whole = self.depth == Depth::Whole || wanted_bytes.saturating_mul(2) >= directory.object_bytes();
        let is_whole = found.is_whole;
        let slots: Vec<(SlotNumber, Locator)> =
            directory.slots().filter(|(slot, _)| is_whole || is_wanted(*slot)).collect();
        let mut rest = slots.as_slice();
        while !rest.is_empty() {
            let (run, tail) = rest.split_at(run_length(rest));
            rest = tail;
            self.verify_run(directory, run, wanted, fingerprints.as_deref(), &mut found)?;
        }
        Ok(found)
    }

    /// Returns the fingerprints of the object, ascending by slot; none if they are damaged.
    fn fingerprints(&mut self, directory: &Directory) -> Result<Option<Vec<(SlotNumber, Fingerprint)>>> {
        let range = directory.fingerprints_range();
        let keys = self.repository.keys();
        let read = self
            .repository
            .read_pack_range(directory, range, &mut self.run)
            .and_then(|()| backy_core::pack::read_fingerprints(keys, directory, &self.run));
        match read {
            Ok(fingerprints) => Ok(Some(fingerprints)),
            Err(error) if is_about_content(&error) && error.kind() != ErrorKind::NotFound => {
                warn!("{error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Verifies slots that lie close to each other: one read.
    fn verify_run(
        &mut self,
        directory: &Directory,
        slots: &[(SlotNumber, Locator)],
        wanted: &WantedPack,
        fingerprints: Option<&[(SlotNumber, Fingerprint)]>,
        found: &mut Found,
    ) -> Result<()> {
        let (Some((_, first)), Some((_, last))) = (slots.first(), slots.last()) else { return Ok(()) };
        let start = first.offset_bytes;
        let range = ByteRange::between(u64::from(start), u64::from(last.offset_bytes) + u64::from(last.stored_length));
        match self.repository.read_pack_range(directory, range, &mut self.run) {
            Ok(()) => {}
            Err(error) if is_about_content(&error) && error.kind() != ErrorKind::NotFound => {
                for (slot, _) in slots {
                    found.suspect(*slot, &error);
                    found.checked.insert(*slot);
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        found.read_bytes += range.length_bytes;
        self.progress.read_bytes.add(range.length_bytes);
        let mut done_bytes = 0;
        for &(slot, locator) in slots {
            match self.verify_slot(directory, slot, locator, start, fingerprints) {
                Ok(()) => {}
                Err(error) if is_about_content(&error) => found.suspect(slot, &error),
                Err(error) => return Err(error),
            }
            found.checked.insert(slot);
            found.plain_bytes += u64::from(locator.plain_length);
            if locator.kind == SlotKind::Data && wanted.slots.contains(slot) {
                done_bytes += u64::from(locator.plain_length);
            }
        }
        self.progress.done_bytes.add(done_bytes);
        Ok(())
    }

    fn verify_slot(
        &mut self,
        directory: &Directory,
        slot: SlotNumber,
        locator: Locator,
        start: u32,
        fingerprints: Option<&[(SlotNumber, Fingerprint)]>,
    ) -> Result<()> {
        let keys = self.repository.keys();
        let from = (locator.offset_bytes - start) as usize;
        let sealed = self.run.get_mut(from..from + locator.stored_length as usize);
        let sealed = sealed.ok_or_else(|| Error::damaged(format!("pack {} ends too early", directory.name())))?;
        self.opener.open(keys, directory, slot, sealed, &mut self.plain)?;
        let Some(fingerprints) = fingerprints.filter(|_| locator.kind == SlotKind::Data) else { return Ok(()) };
        let place = fingerprints.binary_search_by_key(&slot, |(told, _)| *told);
        let told = place.ok().and_then(|place| fingerprints.get(place)).map(|(_, fingerprint)| *fingerprint);
        if told == Some(keys.fingerprint_key().fingerprint(&self.plain)) {
            return Ok(());
        }
        let name = directory.name();
        Err(Error::damaged(format!("slot {slot} of pack {name} has another fingerprint than the pack tells")))
    }

    /// Reads suspected slots again, from all generations: only what none has good is damaged.
    fn confirmed(&self, pack: PackId, mut found: Found) -> Result<Found> {
        if found.damage.slots.is_empty() {
            return Ok(found);
        }
        let state = self.repository.slot_states(pack, &found.damage.slots)?;
        found.damage.slots.retain(|slot| !state.good.contains(slot));
        found.damage.absent = found.damage.slots.difference(&state.bad).copied().collect();
        Ok(found)
    }
}

/// Returns how many of the slots are read together.
fn run_length(slots: &[(SlotNumber, Locator)]) -> usize {
    let Some((_, first)) = slots.first() else { return 0 };
    let mut end = first.offset_bytes;
    for (count, (_, locator)) in slots.iter().enumerate() {
        let slot_end = locator.offset_bytes.saturating_add(locator.stored_length);
        let is_far = locator.offset_bytes.saturating_sub(end) > GAP_BYTES_MAX;
        let is_too_much = count > 0 && slot_end.saturating_sub(first.offset_bytes) > RUN_BYTES_MAX;
        if is_far || is_too_much {
            return count;
        }
        end = slot_end;
    }
    slots.len()
}
