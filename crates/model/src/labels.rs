//! The labels of a version: when they are deleted, and what holds when several hosts change them at once.
//!
//! A label may be put before the manifest of its version, for an incomplete version can be protected. Every host
//! appends a change of one field, with a counter one above the highest that it read. What holds is the fold of all
//! changes in the order of their counters; protection wins a tie. A removal is no label: it is a tombstone.

use crate::bits::Bits;
use crate::checker::Model;

/// The labels of one version, which a job publishes while others change and remove it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Labels {
    /// H17: a cleanup deletes labels whose manifest it does not find.
    pub deletes_orphans: bool,
    /// H18: a label is all fields as its writer read them, with its change; the newest counts. Removal is a field.
    pub newest_wins: bool,
    /// Writers that change nothing.
    pub silent: Bits,
}

/// What a writer changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Protect,
    Unprotect,
    Remove,
    Note,
}

const WRITERS: [Change; 4] = [Change::Protect, Change::Unprotect, Change::Remove, Change::Note];

/// The fields of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Fields {
    is_protected: bool,
    has_note: bool,
    is_removed: bool,
}

/// Everything at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct State {
    is_published: bool,
    is_condemned: bool,
    has_tombstone: bool,
    /// For each writer, the counter that its label gets or has, once it has read.
    counters: [Option<u8>; WRITERS.len()],
    /// What each writer read.
    read: [Fields; WRITERS.len()],
    /// The labels that were put, those that are there.
    put: Bits,
    there: Bits,
    /// The labels that the cleanup has found without a manifest.
    orphans: Bits,
    has_cleaned: bool,
}

impl Labels {
    /// Returns the protocol with two writers only: one removes the version, one puts a note.
    pub fn removal_and_note() -> Labels {
        Labels { silent: Bits::of(&[0, 1]), ..Labels::default() }
    }

    fn fields(&self, state: &State) -> Fields {
        let mut labels: Vec<usize> = state.there.iter().map(usize::from).collect();
        // On a tie the unprotecting label comes first, so that the other one has the last word.
        labels.sort_by_key(|writer| (state.counters[*writer], WRITERS[*writer] != Change::Unprotect, *writer));
        let mut fields = Fields::default();
        for writer in labels {
            if self.newest_wins {
                fields = state.read[writer];
            }
            change(&mut fields, WRITERS[writer]);
        }
        fields.is_removed |= state.has_tombstone;
        fields
    }

    fn write(&self, state: &State, writer: usize, number: u8, out: &mut Vec<(String, State)>) {
        let mut after = *state;
        let what = if state.counters[writer].is_none() {
            let highest = state.there.iter().filter_map(|other| state.counters[usize::from(other)]).max();
            after.counters[writer] = Some(highest.map_or(0, |highest| highest + 1));
            if self.newest_wins {
                after.read[writer] = self.fields(state);
            }
            "reads the labels"
        } else {
            after.put.add(number);
            if WRITERS[writer] == Change::Remove && !self.newest_wins {
                after.has_tombstone = true;
            } else {
                after.there.add(number);
            }
            "puts its change"
        };
        out.push((format!("{:?}: {what}", WRITERS[writer]), after));
    }
}

fn change(fields: &mut Fields, change: Change) {
    match change {
        Change::Protect => fields.is_protected = true,
        Change::Unprotect => fields.is_protected = false,
        Change::Note => fields.has_note = true,
        Change::Remove => fields.is_removed = true,
    }
}

impl Model for Labels {
    type State = State;
    type Step = String;

    fn beginnings(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn steps(&self, state: &State, out: &mut Vec<(String, State)>) {
        for (number, writer) in (0_u8..).zip(0..WRITERS.len()) {
            if !state.put.has(number) && !self.silent.has(number) {
                self.write(state, writer, number, out);
            }
        }
        let mut step = |what: &str, after: State| out.push((what.to_owned(), after));
        if !state.is_published {
            step("job: puts the manifest", State { is_published: true, ..*state });
        }
        if state.has_tombstone && state.is_published && !state.is_condemned {
            step("cleanup: condemns the version, all who may use it are gone", State { is_condemned: true, ..*state });
        }
        let found =
            if state.is_condemned || (self.deletes_orphans && !state.is_published) { state.there } else { Bits::NONE };
        if !state.has_cleaned && state.orphans.is_empty() && !found.is_empty() {
            step("cleanup: finds labels to delete", State { orphans: found, ..*state });
        }
        if !state.orphans.is_empty() {
            let there = state.there - state.orphans;
            let orphans = Bits::NONE;
            step("cleanup: deletes them", State { there, orphans, has_cleaned: true, ..*state });
        }
    }

    fn broken_state(&self, state: &State) -> Option<String> {
        if state.is_condemned {
            return None;
        }
        let fields = self.fields(state);
        let has_put =
            |wanted: Change| (0_u8..).zip(WRITERS).any(|(number, change)| change == wanted && state.put.has(number));
        let is_later = |first: usize, second: usize| state.counters[first] < state.counters[second];
        if has_put(Change::Remove) && !fields.is_removed {
            Some("a removal is lost".to_owned())
        } else if has_put(Change::Note) && !fields.has_note {
            Some("a note is lost".to_owned())
        } else if has_put(Change::Protect) && !fields.is_protected && !(has_put(Change::Unprotect) && is_later(0, 1)) {
            Some("a protection is lost".to_owned())
        } else {
            None
        }
    }
}
