//! Labels: appended as changes, read as their fold.

use backy_core::ids::{RecordId, VersionUid};
use backy_core::keys::RecordKind;
use backy_core::names;
use backy_core::records::label::{Label, LabelChange, NumberedChange, fold};
use backy_core::{Error, ErrorKind, Result, ResultExt};
use backy_store::object_store::list_all;
use tracing::warn;

use super::Repository;
use super::packs::is_about_content;
use super::records::if_found;

impl Repository {
    /// Returns the label of a version whose manifest begins with `first`.
    pub(crate) fn read_label(&self, uid: VersionUid, first: &LabelChange) -> Result<Label> {
        let objects =
            list_all(self.store(), &names::label_prefix(uid)).context(|| format!("list the labels of {uid}"))?;
        let labels: Vec<_> = objects.into_iter().map(|object| object.name).collect();
        self.fold_labels(first, &labels)
    }

    /// Folds the label objects of one version over what its manifest begins with.
    ///
    /// A damaged label is reported and passed over; the version counts as protected then, for it may have said so.
    pub(crate) fn fold_labels(&self, first: &LabelChange, labels: &[names::ObjectName]) -> Result<Label> {
        let mut changes = Vec::with_capacity(labels.len());
        let mut is_damaged = false;
        for name in labels {
            let (_, counter, id) = names::parse_label(name)?;
            // A label that is gone by now was folded into another one, or its version was deleted.
            let change = if_found(self.read_cached_record::<LabelChange>(RecordKind::Label, name));
            let checked = change.and_then(|change| {
                let check =
                    |change: &LabelChange| change.check_stored().map_err(|error| error.with_kind(ErrorKind::Damaged));
                change.as_ref().map_or(Ok(()), check).map(|()| change)
            });
            match checked.context(|| name) {
                Ok(Some(change)) => changes.push(NumberedChange { counter, id, change }),
                Ok(None) => {}
                Err(error) if is_about_content(&error) => {
                    warn!("a label is damaged, so its version counts as protected: {error}");
                    is_damaged = true;
                }
                Err(error) => return Err(error),
            }
        }
        let mut label = fold(first, changes);
        label.is_protected |= is_damaged;
        Ok(label)
    }

    /// Appends a change to a version's label; durable when it returns.
    pub(crate) fn append_label(&self, uid: VersionUid, change: &LabelChange) -> Result<()> {
        change.check()?;
        let objects =
            list_all(self.store(), &names::label_prefix(uid)).context(|| format!("list the labels of {uid}"))?;
        let counters = objects.iter().filter_map(|object| names::parse_label(&object.name).ok());
        let highest = counters.map(|(_, counter, _)| counter).max();
        let counter = highest.map_or(Some(0), |highest| highest.checked_add(1));
        let counter = counter.ok_or_else(|| Error::damaged(format!("the labels of {uid} have no number left")))?;
        let name = names::label(uid, counter, RecordId::generate(self.environment()));
        self.put_record(RecordKind::Label, &name, change)
    }
}
