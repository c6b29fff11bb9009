//! The next generation of a pack: compacted, healed, or merged from several.
//!
//! ```text
//!  list the generations -> gather what is good -> plan -> put <id>.<highest + 1>-<lease> -> read back -> delete older ones
//! ```
//!
//! The promise: a generation is deleted only after a *higher* one was read back and holds all of it, minus what was to be
//! dropped. So whatever rewriters overlap, come late or crash after any step, every slot that was good in any generation
//! and that nobody dropped is good in the highest ones; two rewriters leave two objects, which the next one merges. What a
//! late one brings back of slots that were dropped meanwhile, is dropped again by the next cleanup.
//!
//! - A slot that no generation has good stops the rewriting, for the old object is the only trace of it - unless it is
//!   dropped or healed. If some such slots are healed and others are not, the new generation is written, and the older
//!   ones that have the rest stay.
//! - A generation whose directory cannot be read is never deleted, unless all slots that a pack can have are dropped.
//! - Sealed slots are copied as they are. Where generations differ in their encryption version, the new one takes the
//!   highest version that any has, and data slots of others are sealed anew.
//!
//! Which slots may be dropped is decided elsewhere (`docs/concurrency.md`).

mod gather;

use std::collections::{BTreeMap, BTreeSet};

use backy_core::codec::compression::Compressor;
use backy_core::codec::fingerprint::Fingerprint;
use backy_core::ids::{Generation, LeaseId, PackId, SlotNumber};
use backy_core::names::PackName;
use backy_core::pack::{Directory, NewSlot, PackWriter, SLOTS_MAX, SlotKind, SlotOpener};
use backy_core::{Error, ErrorKind, Result, ResultExt};
use tracing::warn;

use self::gather::{Gathered, GenerationRead, gather};
use super::Repository;
use super::packs::pack_fact;

/// How often the generations are listed anew because one of them has gone meanwhile.
const LISTINGS_MAX: u32 = 8;

/// What became of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RewriteOutcome {
    /// There is no such pack.
    Absent,
    /// There is one generation, it is sound, and there is nothing to do.
    Unchanged,
    /// The pack was rewritten, merged or deleted.
    Rewritten(Rewrite),
    /// Nothing was changed, for this is in the way.
    Stopped(Obstacles),
}

/// What was done to a pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The generation that holds the pack now; none if the pack was deleted.
    pub name: Option<PackName>,
    /// The slots that were healed.
    pub healed: BTreeSet<SlotNumber>,
    /// What is still wrong with the pack. The generations that have these slots were left alone.
    pub obstacles: Obstacles,
    /// How many bytes were read, those of the new generation included.
    pub read_bytes: u64,
    /// How many bytes the new generation has.
    pub written_bytes: u64,
    /// How many bytes the deleted generations had.
    pub deleted_bytes: u64,
    /// The deleted generations.
    pub deleted: Vec<PackName>,
}

/// What a rewriting cannot get right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// Slots that no generation has good.
    pub damaged: BTreeSet<SlotNumber>,
    /// Generations whose directory cannot be read.
    pub unreadable: Vec<PackName>,
}

/// How good some slots of a pack are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotStates {
    /// Those that some generation has good.
    pub good: BTreeSet<SlotNumber>,
    /// Those that some generation has, and none good.
    pub bad: BTreeSet<SlotNumber>,
}

impl Repository {
    /// Writes the next generation of a pack: all slots of all generations, without those in `drop`, and with those in
    /// `healed` that no generation has good. Durable, and the older generations gone, when it returns.
    ///
    /// `healed` are plain contents. One whose fingerprint no generation tells, or tells otherwise, is passed over. After an
    /// error, do not rewrite the same pack under the same lease again: a put that failed may still arrive.
    ///
    /// # Errors
    /// `Busy` if others keep rewriting the pack; `WrongKey` if the keyring does not hold its data key; `Damaged` if the
    /// store does not give back what was put.
    pub fn rewrite_pack(
        &self,
        pack: PackId,
        drop: &BTreeSet<SlotNumber>,
        healed: &BTreeMap<SlotNumber, Vec<u8>>,
        lease: LeaseId,
    ) -> Result<RewriteOutcome> {
        for _ in 0..LISTINGS_MAX {
            let names = self.generations(pack)?;
            let done = gather(self, &names, &|number| !drop.contains(&number))
                .and_then(|gathered| self.rewrite_gathered(pack, &names, gathered, drop, healed, lease));
            self.forget_directory(pack);
            match done {
                // Somebody has merged it into a higher one since it was listed, or put.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => return done.context(|| format!("rewrite pack {pack}")),
            }
        }
        Err(rewritten_again(pack))
    }

    /// Says which of `slots` some generation has good, and which are there but nowhere good, after reading all generations
    /// anew from the store. The others are not there.
    pub(crate) fn slot_states(&self, pack: PackId, slots: &BTreeSet<SlotNumber>) -> Result<SlotStates> {
        for _ in 0..LISTINGS_MAX {
            match gather(self, &self.generations(pack)?, &|number| slots.contains(&number)) {
                Ok(gathered) => return Ok(SlotStates { good: gathered.good_slots(), bad: gathered.bad_slots() }),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.context(format!("read pack {pack}"))),
            }
        }
        Err(rewritten_again(pack))
    }

    fn rewrite_gathered(
        &self,
        pack: PackId,
        names: &[PackName],
        gathered: Gathered,
        drop: &BTreeSet<SlotNumber>,
        healed: &BTreeMap<SlotNumber, Vec<u8>>,
        lease: LeaseId,
    ) -> Result<RewriteOutcome> {
        let Some(highest) = names.first() else { return Ok(RewriteOutcome::Absent) };
        let mut done = Rewrite { read_bytes: gathered.read_bytes, ..Rewrite::default() };
        match plan(self, &gathered, drop, healed) {
            Plan::Stop(obstacles) => return Ok(RewriteOutcome::Stopped(obstacles)),
            Plan::DeleteAll => {
                let is_everything = (0..SLOTS_MAX).all(|slot| is_in(drop, slot));
                let deletes = |name: &&PackName| is_everything || !gathered.unreadable.contains(name);
                done.obstacles.unreadable = gathered.unreadable.iter().filter(|_| !is_everything).copied().collect();
                done.deleted = names.iter().filter(deletes).copied().collect();
            }
            Plan::KeepHighest => {
                let older: Vec<PackName> =
                    gathered.generations.iter().skip(1).map(|older| older.directory.name()).collect();
                if older.is_empty() {
                    return Ok(RewriteOutcome::Unchanged);
                }
                done.name = gathered.generations.first().map(|kept| kept.directory.name());
                done.obstacles.unreadable.clone_from(&gathered.unreadable);
                done.deleted = older;
            }
            Plan::Write { healable, obstacles } => {
                let generation = highest.generation.0.checked_add(1).map(Generation);
                let generation = generation.ok_or_else(|| Error::invalid("there is no higher generation"))?;
                let name = PackName { id: pack, generation, lease };
                done.deleted = covered(&gathered, &obstacles.damaged);
                done.healed = healable.keys().copied().collect();
                done.obstacles = obstacles;
                let expected = self.write_generation(&gathered, name, &healable)?;
                done.deleted_bytes = bytes_of(&gathered, &done.deleted);
                std::mem::drop(gathered);
                let written = self.read_back(name, &expected)?;
                done.name = Some(name);
                done.written_bytes = written.directory.object_bytes();
                done.read_bytes += done.written_bytes;
                if let Err(error) = self.catalog().remember_packs(&[pack_fact(&written.directory)]) {
                    warn!("the catalog did not take pack {name}: {error}");
                }
                self.delete_generations(&done.deleted)?;
                return Ok(RewriteOutcome::Rewritten(done));
            }
        }
        done.deleted_bytes = bytes_of(&gathered, &done.deleted);
        self.delete_generations(&done.deleted)?;
        Ok(RewriteOutcome::Rewritten(done))
    }

    /// Puts the generation `name`; returns what must be in it.
    fn write_generation(
        &self,
        gathered: &Gathered,
        name: PackName,
        healable: &BTreeMap<SlotNumber, &[u8]>,
    ) -> Result<Contents> {
        let no_generation = || Error::invalid("a pack without generations cannot be rewritten");
        let newest = gathered.newest_encryption().ok_or_else(no_generation)?;
        let slot_count = gathered.generations.iter().map(|read| read.directory.slot_count()).max().unwrap_or_default();
        let mut writer = PackWriter::rewrite(self.keys(), newest, name, Vec::new())?;
        let mut tools = Tools {
            opener: SlotOpener::new()?,
            compressor: Compressor::new(self.settings().compression_level)?,
            sealed: Vec::new(),
            plain: Vec::new(),
            body: Vec::new(),
        };
        let mut expected = BTreeMap::new();
        for number in (0u16..).take(slot_count).map(SlotNumber) {
            let copy = gathered.slots.get(&number).and_then(|slot| slot.copy.as_ref());
            let from = copy.and_then(|copy| gathered.generations.get(copy.generation));
            if let (Some(copy), Some(from)) = (copy, from) {
                if gathered.needs_new_seal(copy, newest.encryption_version()) {
                    tools.sealed.clear();
                    tools.sealed.extend_from_slice(gathered.sealed(copy));
                    let (sealed, plain) = (&mut tools.sealed, &mut tools.plain);
                    tools.opener.open(self.keys(), &from.directory, number, sealed, plain)?;
                    let plain = std::mem::take(&mut tools.plain);
                    self.append_plain(&mut writer, &plain, &mut tools)?;
                    tools.plain = plain;
                } else {
                    writer.append_sealed(&from.directory, gathered.sealed(copy), copy.fingerprint)?;
                }
                expected.insert(number, copy.fingerprint);
            } else if let Some(plain) = healable.get(&number) {
                self.append_plain(&mut writer, plain, &mut tools)?;
                expected.insert(number, Some(self.keys().fingerprint_key().fingerprint(plain)));
            } else {
                writer.append_gone()?;
            }
        }
        self.put_pack(writer)?;
        Ok(expected)
    }

    fn append_plain(&self, writer: &mut PackWriter, plain: &[u8], tools: &mut Tools) -> Result<()> {
        let fingerprint = Some(self.keys().fingerprint_key().fingerprint(plain));
        let codec = tools.compressor.compress(plain, &mut tools.body)?;
        let plain_length = u32::try_from(plain.len()).map_err(|_| Error::invalid("a slot is too large"))?;
        let slot = NewSlot { kind: SlotKind::Data, plain_length, codec, body: &tools.body, fingerprint };
        writer.append(slot, self.environment()).map(|_| ())
    }

    /// Checks, slot by slot, that the store holds what was put.
    fn read_back(&self, name: PackName, expected: &Contents) -> Result<GenerationRead> {
        let mut read = gather(self, &[name], &|_| true).context(|| format!("read {name} back"))?;
        let found = read.slots.iter().map(|(&number, slot)| (number, slot.copy.as_ref().map(|copy| copy.fingerprint)));
        let is_same = found.eq(expected.iter().map(|(&number, &fingerprint)| (number, Some(fingerprint))));
        match read.generations.pop() {
            Some(generation) if is_same && generation.is_sound => Ok(generation),
            _ => Err(Error::damaged(format!("{name} is not in the store as it was put"))),
        }
    }

    fn delete_generations(&self, names: &[PackName]) -> Result<()> {
        // The oldest first: if it ends in the middle, what is left is what readers try first.
        for name in names.iter().rev() {
            let name = name.object_name();
            self.store().delete(&name).context(|| format!("delete {name}"))?;
        }
        Ok(())
    }
}

/// The slots that a generation must have, with the fingerprints of data.
type Contents = BTreeMap<SlotNumber, Option<Fingerprint>>;

struct Tools {
    opener: SlotOpener,
    compressor: Compressor,
    sealed: Vec<u8>,
    plain: Vec<u8>,
    body: Vec<u8>,
}

enum Plan<'a> {
    /// This is in the way.
    Stop(Obstacles),
    /// No slot is kept.
    DeleteAll,
    /// The highest generation is what a new one would be.
    KeepHighest,
    /// Write the next one.
    Write { healable: BTreeMap<SlotNumber, &'a [u8]>, obstacles: Obstacles },
}

fn plan<'a>(
    repository: &Repository,
    gathered: &Gathered,
    drop: &BTreeSet<SlotNumber>,
    healed: &'a BTreeMap<SlotNumber, Vec<u8>>,
) -> Plan<'a> {
    let mut damaged = gathered.bad_slots();
    let unreadable = gathered.unreadable.clone();
    if gathered.slots.is_empty() {
        let is_everything = (0..SLOTS_MAX).all(|slot| is_in(drop, slot));
        let can_delete = is_everything || !gathered.generations.is_empty();
        return if can_delete { Plan::DeleteAll } else { Plan::Stop(Obstacles { damaged, unreadable }) };
    }
    let heals = |number: &SlotNumber, content: &[u8]| {
        let slot = gathered.slots.get(number).filter(|slot| slot.copy.is_none());
        slot.and_then(|slot| slot.expected).is_some_and(|expected| {
            expected.plain_length as usize == content.len()
                && expected.fingerprint == repository.keys().fingerprint_key().fingerprint(content)
        })
    };
    let healable: BTreeMap<SlotNumber, &[u8]> =
        healed.iter().map(|(&number, content)| (number, content.as_slice())).filter(|(n, c)| heals(n, c)).collect();
    damaged.retain(|number| !healable.contains_key(number));
    if !damaged.is_empty() && healable.is_empty() {
        return Plan::Stop(Obstacles { damaged, unreadable });
    }
    let is_highest_enough = healable.is_empty()
        && gathered.generations.first().is_some_and(|highest| {
            let is_in_highest =
                |slot: &gather::GatheredSlot| slot.copy.as_ref().is_some_and(|copy| copy.generation == 0);
            let newest = gathered.newest_encryption().map(Directory::encryption_version);
            highest.is_sound
                && newest == Some(highest.directory.encryption_version())
                && highest.directory.slots().count() == gathered.slots.len()
                && gathered.slots.values().all(is_in_highest)
        });
    if is_highest_enough {
        Plan::KeepHighest
    } else {
        Plan::Write { healable, obstacles: Obstacles { damaged, unreadable } }
    }
}

/// Returns the generations that have none of the slots in `damaged`.
fn covered(gathered: &Gathered, damaged: &BTreeSet<SlotNumber>) -> Vec<PackName> {
    let has_none = |read: &&GenerationRead| !read.directory.slots().any(|(number, _)| damaged.contains(&number));
    gathered.generations.iter().filter(has_none).map(|read| read.directory.name()).collect()
}

fn bytes_of(gathered: &Gathered, names: &[PackName]) -> u64 {
    let is_one = |read: &&GenerationRead| names.contains(&read.directory.name());
    gathered.generations.iter().filter(is_one).map(|read| read.directory.object_bytes()).sum()
}

fn rewritten_again(pack: PackId) -> Error {
    Error::new(ErrorKind::Busy, format!("pack {pack} is rewritten by others again and again"))
}

fn is_in(slots: &BTreeSet<SlotNumber>, slot: usize) -> bool {
    u16::try_from(slot).is_ok_and(|slot| slots.contains(&SlotNumber(slot)))
}
