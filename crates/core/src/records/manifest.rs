//! Manifests and checkpoints: what a version is, and how far an incomplete one has come.

use serde::{Deserialize, Serialize};

use crate::environment::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{EncryptionVersion, LeaseId, VersionUid};
use crate::map::MapRoot;
use crate::pack::SLOTS_MAX;
use crate::policy::audit::AuditWindow;
use crate::records::label::LabelChange;
use crate::units::{BlockCount, BlockIndex, BlockSize};

/// The longest name or snapshot name, in bytes.
pub const NAME_BYTES_MAX: usize = 512;
/// The largest volume in bytes, 2^63 - 1: what the offsets of Linux can address.
pub const VOLUME_BYTES_MAX: u64 = i64::MAX as u64;

/// What a version is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version's uid.
    pub uid: VersionUid,
    /// The name of the backup: what its versions have in common.
    pub name: String,
    /// The name of the source's snapshot, if the user gave one.
    pub snapshot_name: String,
    /// When the backup began.
    pub created: Timestamp,
    /// The size of the volume in bytes.
    pub size_bytes: u64,
    /// The size of its blocks.
    pub block_size: BlockSize,
    /// The version that unread blocks come from. The field must be there: without a base they are zero.
    #[serde(deserialize_with = "Option::deserialize")]
    pub base: Option<VersionUid>,
    /// The size of the base's volume in bytes.
    pub base_bytes: Option<u64>,
    /// The lease of the job that wrote this.
    pub lease: LeaseId,
    /// The encryption version of what this job wrote.
    pub encryption_version: EncryptionVersion,
    /// Where the block map is.
    pub map: MapRoot,
    /// How many blocks could not be read.
    pub missing_blocks: BlockCount,
    /// How the version was made.
    #[serde(default)]
    pub origin: Origin,
    /// What the backup did.
    #[serde(default)]
    pub statistics: Statistics,
    /// Where the audit stands.
    #[serde(default)]
    pub audit: AuditWindow,
    /// What the label begins with.
    pub label: LabelChange,
    /// The incomplete versions that this one has gone on from, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub continues: Vec<VersionUid>,
}

/// How a version was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The source, as the user wrote it.
    pub source_url: String,
    /// The host that read it.
    pub host: String,
    /// The program and its release.
    pub program: String,
    /// Hints said what to read.
    pub is_hinted: bool,
    /// The hints were found wrong, so everything was read.
    pub hints_were_wrong: bool,
}

/// What a backup did, in plain bytes if not said otherwise. The parts add up to the size of the volume:
/// `read + hole + unread`, and of what was read `zero + deduplicated + new + missing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statistics {
    /// Read from the source to be stored.
    pub read_bytes: u64,
    /// Zero by the word of the source or the hints; not read.
    pub hole_bytes: u64,
    /// Taken over from the base, or zero without a base; not read.
    pub unread_bytes: u64,
    /// Read and found to be zero.
    pub zero_bytes: u64,
    /// Read and found in the repository.
    pub deduplicated_bytes: u64,
    /// Read and stored.
    pub new_bytes: u64,
    /// Not readable.
    pub missing_bytes: u64,
    /// Read once more to check the hints; not part of the sums above.
    pub audited_bytes: u64,
    /// What the packs of this job take in the store: data, map and directories.
    pub stored_bytes: u64,
    /// How many packs that are.
    pub packs: u64,
    /// How long it took, in milliseconds; a continued backup counts all its parts.
    pub duration_milliseconds: u64,
}

/// How far an incomplete version has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The number in the object's name: the newest one counts.
    pub number: u32,
    /// The blocks before this one are in the map; those from here on are the base's.
    pub position: BlockIndex,
    /// What is known of the version so far.
    pub version: Manifest,
}

impl Manifest {
    /// Checks what a manifest must keep to, right before it is written and right after it is read: sizes that fit each
    /// other, numbers that can be added up, names that can be shown.
    ///
    /// # Errors
    /// `Damaged`.
    pub fn check(&self) -> Result<()> {
        let damaged = |problem: &str| Err(Error::damaged(format!("version {}: {problem}", self.uid)));
        let as_damaged = |error: Error| error.with_kind(ErrorKind::Damaged).context(format!("version {}", self.uid));
        check_name(&self.name).map_err(as_damaged)?;
        check_name_length(&self.snapshot_name).map_err(as_damaged)?;
        self.label.check_stored().map_err(as_damaged)?;
        if self.size_bytes > VOLUME_BYTES_MAX || self.base_bytes.is_some_and(|bytes| bytes > VOLUME_BYTES_MAX) {
            return damaged("no volume is that large");
        }
        if self.map.blocks != self.block_size.count(self.size_bytes) {
            return damaged("the block map does not fit the size");
        }
        if self.map.root.is_some_and(|root| usize::from(root.slot.0) >= SLOTS_MAX) {
            return damaged("the block map begins in a slot that no pack has");
        }
        if self.base.is_some() != self.base_bytes.is_some() || self.base == Some(self.uid) {
            return damaged("what it says of its base makes no sense");
        }
        if self.statistics.bytes_and_times().into_iter().any(|number| number > VOLUME_BYTES_MAX) {
            return damaged("its statistics make no sense");
        }
        Ok(())
    }
}

impl Checkpoint {
    /// Checks what a checkpoint must keep to, as [`Manifest::check`] does.
    ///
    /// # Errors
    /// `Damaged`.
    pub fn check(&self) -> Result<()> {
        self.version.check()?;
        if self.position.0 > self.version.map.blocks.0 {
            let uid = self.version.uid;
            return Err(Error::damaged(format!("version {uid}: checkpoint {} lies behind its end", self.number)));
        }
        Ok(())
    }
}

impl Statistics {
    fn bytes_and_times(&self) -> [u64; 11] {
        [
            self.read_bytes,
            self.hole_bytes,
            self.unread_bytes,
            self.zero_bytes,
            self.deduplicated_bytes,
            self.new_bytes,
            self.missing_bytes,
            self.audited_bytes,
            self.stored_bytes,
            self.packs,
            self.duration_milliseconds,
        ]
    }
}

/// Checks the name of a backup: 1 to 512 bytes, no control characters.
pub fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid("the name of a backup may not be empty"));
    }
    check_name_length(name)
}

/// Checks a snapshot name: up to 512 bytes, no control characters.
pub fn check_name_length(name: &str) -> Result<()> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::invalid(format!("a name has at most {NAME_BYTES_MAX} bytes, this one {}", name.len())));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid(format!("a name may not hold control characters: {name:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    pub(crate) fn manifest() -> Manifest {
        Manifest {
            uid: VersionUid::from_bytes([1; 16]),
            name: "vm1".to_owned(),
            snapshot_name: "daily".to_owned(),
            created: Timestamp { milliseconds: 1_795_000_000_000 },
            size_bytes: 100_000,
            block_size: BlockSize::DEFAULT,
            base: Some(VersionUid::from_bytes([2; 16])),
            base_bytes: Some(90_000),
            lease: LeaseId::from_bytes([3; 16]),
            encryption_version: EncryptionVersion(1),
            map: MapRoot { blocks: BlockCount(7), root: None },
            missing_blocks: BlockCount(0),
            origin: Origin::default(),
            statistics: Statistics::default(),
            audit: AuditWindow::default(),
            label: LabelChange::default(),
            continues: Vec::new(),
        }
    }

    #[test]
    fn a_manifest_survives_and_stays_below_4_kib() {
        let mut manifest = manifest();
        manifest.name = "n".repeat(NAME_BYTES_MAX);
        manifest.snapshot_name = "s".repeat(NAME_BYTES_MAX);
        manifest.check().unwrap();
        let body = crate::records::to_body(&manifest).unwrap();
        assert!(body.len() < 3000, "{}", body.len());
        assert_eq!(crate::records::from_body::<Manifest>(&body).unwrap(), manifest);
    }

    #[test]
    fn a_map_of_another_size_is_damage() {
        let manifest = Manifest { size_bytes: 200_000, ..manifest() };
        assert_eq!(manifest.check().unwrap_err().kind(), ErrorKind::Damaged);
    }

    #[test]
    fn names_that_spoil_a_terminal_are_refused() {
        for bad in ["", "a\nb", "\u{1b}[31m"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        check_name("web/1 – ö|").unwrap();
    }
}
