//! Labels: what may change about a version, as a fold of changes.
//!
//! A label object holds a change of named fields. A version's label is what its manifest begins with and then all its
//! changes in the order of their counters. Two hosts may use one counter: then what keeps the version longer wins -
//! protection over its end, the later expiry, a tag over its removal.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::environment::Timestamp;
use crate::error::{Error, Result};
use crate::ids::RecordId;

/// The longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 64;
/// The most tags that one change may add.
pub const TAGS_MAX: usize = 16;
/// The longest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 1024;

/// A change of some fields; the others stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelChange {
    /// Tags to add.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub add_tags: BTreeSet<String>,
    /// Tags to take away.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub remove_tags: BTreeSet<String>,
    /// Protect the version, or no longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// When the version expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expire: Option<Expiry>,
    /// Any words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// When a version expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expiry {
    /// At this moment.
    At(Timestamp),
    /// Never.
    Never,
}

/// What is said of a version now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// It may not be removed.
    pub is_protected: bool,
    /// When it expires, if ever.
    pub expire: Option<Timestamp>,
    /// Any words.
    pub note: String,
}

impl Label {
    /// Returns the change that makes a fresh label what this one is.
    pub fn as_change(&self) -> LabelChange {
        LabelChange {
            add_tags: self.tags.clone(),
            remove_tags: BTreeSet::new(),
            protected: self.is_protected.then_some(true),
            expire: self.expire.map(Expiry::At),
            note: (!self.note.is_empty()).then(|| self.note.clone()),
        }
    }
}

/// A change with its place in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedChange {
    /// The counter in the object's name.
    pub counter: u32,
    /// The id in the object's name.
    pub id: RecordId,
    /// The change.
    pub change: LabelChange,
}

impl LabelChange {
    /// Checks what a user gave: [`LabelChange::check_stored`], and at most 16 tags to add.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn check(&self) -> Result<()> {
        self.check_stored()?;
        if self.add_tags.len() > TAGS_MAX {
            return Err(Error::invalid(format!("at most {TAGS_MAX} tags at once, not {}", self.add_tags.len())));
        }
        Ok(())
    }

    /// Checks what any change keeps to: tags of 1 to 64 bytes without commas or control characters, a short note. How
    /// many tags there are is bounded by the size of the record alone.
    ///
    /// # Errors
    /// `InvalidInput`; of a record from a store it means damage.
    pub fn check_stored(&self) -> Result<()> {
        for tag in self.add_tags.iter().chain(&self.remove_tags) {
            let is_plain =
                !tag.is_empty() && tag.len() <= TAG_BYTES_MAX && !tag.contains(',') && !tag.contains(char::is_control);
            if !is_plain {
                return Err(Error::invalid(format!("a tag has 1 to {TAG_BYTES_MAX} bytes and no comma: {tag:?}")));
            }
        }
        if self.note.as_ref().is_some_and(|note| note.len() > NOTE_BYTES_MAX) {
            return Err(Error::invalid(format!("a note has at most {NOTE_BYTES_MAX} bytes")));
        }
        Ok(())
    }
}

/// Folds `changes` over what the manifest begins with.
pub fn fold(first: &LabelChange, mut changes: Vec<NumberedChange>) -> Label {
    changes.sort_by_key(|change| (change.counter, change.id));
    let mut label = Label::default();
    apply_together(&mut label, &[first]);
    for same_counter in changes.chunk_by(|left, right| left.counter == right.counter) {
        let together: Vec<&LabelChange> = same_counter.iter().map(|change| &change.change).collect();
        apply_together(&mut label, &together);
    }
    label
}

/// Applies changes that have one counter: each field takes what keeps the version longer.
fn apply_together(label: &mut Label, changes: &[&LabelChange]) {
    for tag in changes.iter().flat_map(|change| &change.remove_tags) {
        label.tags.remove(tag);
    }
    label.tags.extend(changes.iter().flat_map(|change| change.add_tags.iter().cloned()));
    if let Some(is_protected) = changes.iter().filter_map(|change| change.protected).max() {
        label.is_protected = is_protected;
    }
    if let Some(expiry) = changes.iter().filter_map(|change| change.expire).max() {
        label.expire = match expiry {
            Expiry::At(moment) => Some(moment),
            Expiry::Never => None,
        };
    }
    if let Some(note) = changes.iter().filter_map(|change| change.note.as_ref()).next_back() {
        label.note.clone_from(note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(counter: u32, id: u8, change: LabelChange) -> NumberedChange {
        NumberedChange { counter, id: RecordId::from_bytes([id; 16]), change }
    }

    fn protect(is_protected: bool) -> LabelChange {
        LabelChange { protected: Some(is_protected), ..LabelChange::default() }
    }

    fn expire(expiry: Expiry) -> LabelChange {
        LabelChange { expire: Some(expiry), ..LabelChange::default() }
    }

    #[test]
    fn later_counters_win_in_whatever_order_they_are_read() {
        let changes = vec![change(2, 1, protect(false)), change(1, 2, protect(true))];
        assert!(!fold(&LabelChange::default(), changes.clone()).is_protected);
        let reversed = changes.into_iter().rev().collect();
        assert!(!fold(&LabelChange::default(), reversed).is_protected);
    }

    #[test]
    fn on_a_tie_the_version_is_kept_longer() {
        for ids in [[1, 2], [2, 1]] {
            let soon = Expiry::At(Timestamp { milliseconds: 5 });
            let changes = vec![
                change(1, ids[0], protect(true)),
                change(1, ids[1], protect(false)),
                change(2, ids[0], expire(soon)),
                change(2, ids[1], expire(Expiry::Never)),
            ];
            let label = fold(&LabelChange::default(), changes);
            assert!(label.is_protected);
            assert_eq!(label.expire, None);
        }
    }

    #[test]
    fn tags_come_and_go() {
        let tags = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        let first = LabelChange { add_tags: tags(&["daily", "weekly"]), ..LabelChange::default() };
        let change1 =
            LabelChange { remove_tags: tags(&["daily"]), add_tags: tags(&["kept"]), ..LabelChange::default() };
        let label = fold(&first, vec![change(1, 1, change1)]);
        assert_eq!(label.tags, tags(&["kept", "weekly"]));
        assert!(LabelChange { add_tags: tags(&["a,b"]), ..LabelChange::default() }.check().is_err());
    }
}
