//! What a backup that ended has to say.

use backy_core::records::label::{Expiry, Label};
use backy_core::records::manifest::Manifest;
use backy_core::units::BlockIndex;
use backy_engine::backup::{BackupReport, BackupRequest};
use backy_engine::repository::versions::{VersionEntry, VersionState};
use serde_json::{Value, json};

use super::super::{ls, stats};
use crate::app::App;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format, object};
use crate::{console, size};

/// How many block offsets a message names.
const OFFSETS_MAX: usize = 8;

/// A backup that ended.
pub(super) struct Report<'a> {
    pub(super) app: &'a App,
    pub(super) request: &'a BackupRequest<'a>,
    pub(super) report: &'a BackupReport,
}

impl Report<'_> {
    /// Shows the new version and what is to be said of it; returns how the program ends.
    pub(super) fn show(&self) -> Result<Exit, Failure> {
        let manifest = &self.report.manifest;
        self.warn();
        match self.app.output.format {
            Format::Machine => output::line(&manifest.uid.to_string())?,
            Format::Json => self.app.output.json(&self.json())?,
            Format::Table => {
                let kind = if self.is_valid() { "version" } else { "invalid version" };
                let tags: Vec<&str> = manifest.label.add_tags.iter().map(String::as_str).collect();
                for line in self.summary() {
                    console::message(&line);
                }
                output::line(&format!("New {kind}: {} (Tags: [{}])", manifest.uid, tags.join(",")))?;
            }
        }
        Ok(self.exit())
    }

    fn is_valid(&self) -> bool {
        self.report.manifest.missing_blocks.0 == 0
    }

    fn exit(&self) -> Exit {
        let manifest = &self.report.manifest;
        let is_blemished = !self.is_valid() || self.report.verify_differences.1 > 0;
        let are_hints_wrong = manifest.origin.hints_were_wrong && self.request.hints.is_some();
        let verify_error = self.report.verify_error.as_ref();
        match (is_blemished, are_hints_wrong) {
            _ if verify_error.is_some() => verify_error.map_or(Exit::Success, |error| Exit::of_kind(error.kind())),
            (true, _) => Exit::Blemished,
            (false, true) => Exit::WrongHints,
            (false, false) => Exit::Success,
        }
    }

    /// What must be seen, by scripts and people.
    fn warn(&self) {
        let manifest = &self.report.manifest;
        if !self.is_valid() {
            let missing = size::human(manifest.statistics.missing_bytes);
            console::message(&format!("warning: {missing} of the source could not be read; the version is invalid."));
            console::message(&format!(
                "hint: look at the disk (dmesg, smartctl); then read these blocks again: {} backup --continue-version {} {} {}",
                self.app.program(),
                manifest.uid,
                crate::app::quoted(&self.request.source.url()),
                crate::app::quoted(&self.request.name)
            ));
        }
        if let Some(error) = &self.report.verify_error {
            console::message(&format!(
                "warning: the version is stored, but its comparison with the source did not come to its end: {error}"
            ));
        }
        let (different, count) = &self.report.verify_differences;
        if *count > 0 {
            let offsets = self.offsets(different);
            console::message(&format!(
                "warning: {} of the version cannot be read or differ from the source now, at {offsets}.",
                size::counted(*count, "block")
            ));
            console::message(&format!(
                "hint: was the source written to during the backup? Back up a snapshot. Is the store damaged? Then `{} ls` \
                 shows the version as invalid, and the next backup stores these blocks anew.",
                self.app.program()
            ));
        }
        if manifest.origin.hints_were_wrong && self.request.hints.is_some() {
            let where_ = match self.report.wrong_hints.as_slice() {
                [] => "as an earlier part of this backup has found".to_owned(),
                blocks => format!("at {}", self.offsets(blocks)),
            };
            console::message(&format!(
                "warning: the hints were wrong, {where_}; everything was read, and the version is good."
            ));
            console::message(
                "hint: do not trust what made these hints until you know why. Were they made against the base?",
            );
        }
        let is_label_lost = self.request.continued.is_some() && manifest.label != self.request.label;
        if is_label_lost && self.request.label != Default::default() {
            console::message("warning: a continued version keeps the tags, expiry and note that it was begun with.");
            console::message("hint: change them by `backy2 add-tag`, `expire` and `protect`");
        }
    }

    fn offsets(&self, blocks: &[BlockIndex]) -> String {
        let size = self.report.manifest.block_size;
        let shown: Vec<String> =
            blocks.iter().take(OFFSETS_MAX).map(|block| size.offset_bytes(*block).to_string()).collect();
        let rest = if blocks.len() > OFFSETS_MAX { ", ..." } else { "" };
        format!("offset {}{rest}", shown.join(", "))
    }

    fn summary(&self) -> Vec<String> {
        let manifest = &self.report.manifest;
        let done = manifest.statistics;
        let part = |bytes: u64, what: &str| (bytes > 0).then(|| format!("{} {what}", size::human(bytes)));
        let unread_bytes = if manifest.origin.is_hinted { done.unread_bytes } else { 0 };
        let parts = [
            part(done.read_bytes, "read"),
            part(unread_bytes, "not read, by the hints"),
            part(done.hole_bytes.saturating_add(done.zero_bytes), "holes and zeros"),
            part(done.deduplicated_bytes, "stored already"),
            part(done.new_bytes, "new"),
        ];
        let mut lines = vec![format!(
            "{} in {:.1} s: {}.",
            size::human(manifest.size_bytes),
            done.duration_milliseconds as f64 / 1000.0,
            parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        )];
        lines.push(format!(
            "{} written to the repository, in {}.",
            size::human(done.stored_bytes),
            size::counted(done.packs, "pack")
        ));
        if let (Some(base), true) = (manifest.base, manifest.origin.is_hinted) {
            lines.push(format!("Base: version {base}"));
        }
        if let Some(backups) = self.report.backups_to_full_coverage {
            let audited = size::human(done.audited_bytes);
            lines.push(format!("{audited} audited against the hints; {backups} backups like this one audit all."));
        }
        if self.request.verify_percent > 0.0 {
            let verified = size::human(self.report.verified_bytes);
            lines.push(format!(
                "{verified} of the stored version compared with the source, {} differ.",
                size::counted(self.report.verify_differences.1, "block")
            ));
        }
        lines
    }

    fn json(&self) -> Value {
        let entry = entry_of(&self.report.manifest);
        let mut all = object(ls::COLUMNS, &entry);
        if let (Value::Object(all), Value::Object(statistics)) = (&mut all, object(stats::COLUMNS, &entry)) {
            all.extend(statistics);
            let size = self.report.manifest.block_size;
            let offsets =
                |blocks: &[BlockIndex]| blocks.iter().map(|block| size.offset_bytes(*block)).collect::<Vec<_>>();
            all.insert(
                "hints_were_wrong".to_owned(),
                json!(self.exit() == Exit::WrongHints || !self.report.wrong_hints.is_empty()),
            );
            all.insert("wrong_hints_offsets".to_owned(), json!(offsets(&self.report.wrong_hints)));
            all.insert("verified_bytes".to_owned(), json!(self.report.verified_bytes));
            all.insert("verify_differences".to_owned(), json!(self.report.verify_differences.1));
            all.insert("verify_differences_offsets".to_owned(), json!(offsets(&self.report.verify_differences.0)));
        }
        all
    }
}

/// Makes a list entry of a manifest that was just published.
fn entry_of(manifest: &Manifest) -> VersionEntry {
    let label = Label {
        tags: manifest.label.add_tags.clone(),
        is_protected: manifest.label.protected.unwrap_or(false),
        expire: match manifest.label.expire {
            Some(Expiry::At(moment)) => Some(moment),
            _ => None,
        },
        note: manifest.label.note.clone().unwrap_or_default(),
    };
    let state = if manifest.missing_blocks.0 == 0 { VersionState::Valid } else { VersionState::Invalid };
    VersionEntry { manifest: manifest.clone(), checkpoint: None, label, state, is_void: false }
}
