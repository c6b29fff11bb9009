//! The restore journal: a small local file that says how far a restore has come.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use backy_core::ids::VersionUid;
use backy_core::units::{BlockCount, BlockIndex, BlockRange};
use backy_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::RestoreRequest;

/// Notes which blocks of a target are done.
pub(super) struct Journal {
    path: Option<PathBuf>,
    subject: Subject,
}

/// What a journal speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Subject {
    version: VersionUid,
    target: String,
    target_bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    subject: Subject,
    done_before: BlockIndex,
    /// Blocks before that which could not be restored: first block and count.
    #[serde(default)]
    lost: Vec<(BlockIndex, BlockCount)>,
}

impl Journal {
    pub(super) fn new(request: &RestoreRequest<'_>) -> Journal {
        let subject = Subject {
            version: request.version.uid,
            target: request.target.url(),
            target_bytes: request.target.size_bytes(),
        };
        Journal { path: request.journal.clone(), subject }
    }

    /// Returns the first block that is not done, if the journal speaks of this version and target.
    pub(super) fn done_before(&self) -> Option<BlockIndex> {
        self.read().map(|note| note.done_before)
    }

    /// Returns the blocks that were lost before the first block that is not done.
    pub(super) fn lost(&self) -> Vec<BlockRange> {
        let ranges = self.read().map(|note| note.lost).unwrap_or_default();
        ranges.into_iter().map(|(start, count)| BlockRange { start, count }).collect()
    }

    fn read(&self) -> Option<Note> {
        let bytes = fs::read(self.path.as_ref()?).ok()?;
        let note: Note = serde_json::from_slice(&bytes).ok()?;
        (note.subject == self.subject).then_some(note)
    }

    /// Notes that all blocks before `done_before` are on the target for good, but for those that are lost.
    pub(super) fn note(&self, done_before: BlockIndex, lost: &[BlockRange]) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let lost = lost.iter().map(|range| (range.start, range.count)).collect();
        let note = Note { subject: self.subject.clone(), done_before, lost };
        let write = || -> std::io::Result<()> {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            let temporary = path.with_extension("new");
            let mut file = fs::File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(&note)?)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            // An older note that came back after a power cut could speak of what was overwritten since.
            fs::File::open(folder)?.sync_all()
        };
        write().map_err(|error| Error::io(format!("write the restore journal {}", path.display()), error))
    }

    /// Removes the journal of a restore that is done.
    pub(super) fn remove(&self) {
        let Some(path) = &self.path else { return };
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                warn!("the restore journal {} stays behind: {error}", path.display());
            }
            _ => {}
        }
    }
}
