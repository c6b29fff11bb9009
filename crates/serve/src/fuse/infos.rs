//! The small files beside `data`: what is known of a version, one fact each, as a line of text.
//!
//! Three of them may be written: `tags` (with commas between them), `expire` (a date in UTC, or `never`) and `protected`
//! (1 or 0). What is written in one go is the new value; an empty file is never a value that was meant.

use std::collections::BTreeSet;

use backy_core::records::label::{Label, LabelChange};
use backy_core::{Error, Result};
use backy_engine::repository::versions::{VersionEntry, VersionState};

use super::names::{date, parse_expiry};

/// One kind of small file.
pub(super) struct Info {
    /// Its name.
    pub(super) name: &'static str,
    /// What it holds, without the end of the line.
    value: fn(&VersionEntry) -> String,
    /// From what was written to the change that was meant, if it may be written.
    change: Option<fn(&str, &Label) -> Result<LabelChange>>,
}

/// All of them. Their places are part of inode numbers within a mount.
pub(super) const INFOS: &[Info] = &[
    fixed("name", |entry| entry.manifest.name.clone()),
    fixed("snapshot_name", |entry| entry.manifest.snapshot_name.clone()),
    fixed("date", |entry| date(entry.manifest.created)),
    fixed("size", |entry| entry.manifest.size_bytes.to_string()),
    fixed("block_size", |entry| entry.manifest.block_size.bytes().to_string()),
    fixed("valid", |entry| flag(entry.state == VersionState::Valid)),
    fixed("base", |entry| entry.manifest.base.map(|uid| uid.to_string()).unwrap_or_default()),
    fixed("source", |entry| entry.manifest.origin.source_url.clone()),
    fixed("host", |entry| entry.manifest.origin.host.clone()),
    fixed("note", |entry| entry.label.note.clone()),
    Info {
        name: "protected",
        value: |entry| flag(entry.label.is_protected),
        change: Some(|text, _| Ok(LabelChange { protected: Some(parse_flag(text)?), ..LabelChange::default() })),
    },
    Info {
        name: "expire",
        value: |entry| entry.label.expire.map(date).unwrap_or_default(),
        change: Some(|text, _| Ok(LabelChange { expire: Some(parse_expiry(text)?), ..LabelChange::default() })),
    },
    Info {
        name: "tags",
        value: |entry| entry.label.tags.iter().cloned().collect::<Vec<_>>().join(","),
        change: Some(|text, label| Ok(change_of_tags(text, label))),
    },
];

impl Info {
    /// Returns what the file holds: a line, or nothing if there is nothing to say.
    pub(super) fn content(&self, entry: &VersionEntry) -> String {
        let mut content = (self.value)(entry);
        if !content.is_empty() {
            content.push('\n');
        }
        content
    }

    /// Says whether the file may be written.
    pub(super) fn is_writable(&self) -> bool {
        self.change.is_some()
    }

    /// Returns the change of the label that is meant by writing `content`.
    ///
    /// # Errors
    /// `InvalidInput` if it makes no sense, `PermissionDenied` if this file may not be written.
    pub(super) fn parse(&self, content: &[u8], label: &Label) -> Result<LabelChange> {
        let refused = || Error::new(backy_core::ErrorKind::PermissionDenied, format!("{} does not change", self.name));
        let change = self.change.ok_or_else(refused)?;
        let text = std::str::from_utf8(content).map_err(|_| Error::invalid(format!("{}: no text", self.name)))?;
        let change = change(text.trim(), label)?;
        change.check()?;
        Ok(change)
    }
}

const fn fixed(name: &'static str, value: fn(&VersionEntry) -> String) -> Info {
    Info { name, value, change: None }
}

fn flag(is_set: bool) -> String {
    u8::from(is_set).to_string()
}

fn parse_flag(text: &str) -> Result<bool> {
    match text {
        "1" | "yes" => Ok(true),
        "0" | "no" => Ok(false),
        _ => Err(Error::invalid(format!("{text:?} is neither 1 nor 0"))),
    }
}

fn change_of_tags(text: &str, label: &Label) -> LabelChange {
    let wanted: BTreeSet<String> =
        text.split([',', '\n']).map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
    LabelChange {
        add_tags: wanted.difference(&label.tags).cloned().collect(),
        remove_tags: label.tags.difference(&wanted).cloned().collect(),
        ..LabelChange::default()
    }
}

#[cfg(test)]
mod tests {
    use backy_core::ErrorKind;
    use backy_core::environment::Timestamp;
    use backy_core::records::label::Expiry;

    use super::*;

    fn parse(name: &str, content: &str) -> Result<LabelChange> {
        let label = Label { tags: ["a", "b"].map(str::to_owned).into(), ..Label::default() };
        INFOS.iter().find(|info| info.name == name).unwrap().parse(content.as_bytes(), &label)
    }

    #[test]
    fn what_is_written_is_the_new_value() {
        let tags = parse("tags", "b, c\nd\n").unwrap();
        assert_eq!((tags.add_tags.len(), tags.remove_tags.len()), (2, 1));
        assert_eq!(parse("tags", "\n").unwrap().remove_tags.len(), 2);
        assert_eq!(parse("protected", "1\n").unwrap().protected, Some(true));
        assert_eq!(parse("protected", "no").unwrap().protected, Some(false));
        assert_eq!(parse("expire", "never\n").unwrap().expire, Some(Expiry::Never));
        let moment = Timestamp { milliseconds: 1_795_392_000_000 };
        assert_eq!(parse("expire", "2026-11-23\n").unwrap().expire, Some(Expiry::At(moment)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (name, content) in [("protected", ""), ("protected", "2"), ("expire", "soon"), ("tags", "a\u{1}b")] {
            assert_eq!(parse(name, content).unwrap_err().kind(), ErrorKind::InvalidInput, "{name} {content:?}");
        }
        assert_eq!(parse("name", "other").unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(INFOS.iter().filter(|info| info.is_writable()).count(), 3);
    }
}
