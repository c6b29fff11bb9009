//! Leases: a job's word that it is at work, so that nothing it relies on is deleted; and the word that takes it back.
//!
//! A lease is **held** while its object is there and there is no revocation. Both are plain: a host that keeps the store
//! may see who is at work. The rules are in `docs/protocol.md`.

use serde::{Deserialize, Serialize};

use crate::envelope::{RecordKind, open_plain_record, plain_record};
use crate::environment::Timestamp;
use crate::error::{Error, Result};
use crate::ids::{LeaseId, VersionUid};

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Makes a version.
    Backup,
    /// Writes a version to a target.
    Restore,
    /// Looks for damage.
    Scrub,
    /// Makes versions readable for others: a mount, an export.
    Serve,
    /// Frees space. Does not count as one who needs anything.
    Cleanup,
    /// Looks at the repository as a whole.
    Check,
    /// What a newer backy2 does.
    #[serde(other)]
    Other,
}

impl JobKind {
    /// Says whether such a job points to nothing for good: it may go on where it cannot say that it is there.
    pub fn only_reads(self) -> bool {
        matches!(self, JobKind::Restore | JobKind::Serve | JobKind::Check)
    }

    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            JobKind::Backup => "backup",
            JobKind::Restore => "restore",
            JobKind::Scrub => "scrub",
            JobKind::Serve => "serve",
            JobKind::Cleanup => "cleanup",
            JobKind::Check => "check",
            JobKind::Other => "another job",
        }
    }
}

/// Where a job runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holder {
    /// The host's name.
    pub host: String,
    /// The process id.
    pub process: u32,
    /// What tells this process from later ones of the same id: the boot, the namespace of process ids, and when the
    /// process began. Empty if that is not known.
    pub instance: String,
}

/// A job at work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// The lease.
    pub id: LeaseId,
    /// What the job does.
    pub kind: JobKind,
    /// Where it runs.
    #[serde(default)]
    pub holder: Holder,
    /// The versions that it uses: out of courtesy they are not removed.
    #[serde(default)]
    pub versions: Vec<VersionUid>,
    /// When it began, by its host's clock.
    pub started: Timestamp,
    /// When it last said that it is alive, by its host's clock.
    pub renewed: Timestamp,
}

/// The word that a lease does not hold any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The lease.
    pub id: LeaseId,
    /// Who took it back.
    #[serde(default)]
    pub by: Holder,
    /// When, by that host's clock.
    pub revoked: Timestamp,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

impl LeaseRecord {
    /// Returns the object.
    pub fn to_object(&self) -> Result<Vec<u8>> {
        Ok(plain_record(RecordKind::Lease, &super::to_body(self)?))
    }

    /// Reads the object of lease `id`.
    ///
    /// # Errors
    /// `Damaged` if it is not what was stored, or speaks of another lease.
    pub fn from_object(id: LeaseId, object: &[u8]) -> Result<LeaseRecord> {
        let record: LeaseRecord = super::from_body(open_plain_record(RecordKind::Lease, object)?)?;
        if record.id == id {
            Ok(record)
        } else {
            Err(Error::damaged(format!("the lease {id} says that it is {}", record.id)))
        }
    }
}

impl Revocation {
    /// Returns the object.
    pub fn to_object(&self) -> Result<Vec<u8>> {
        Ok(plain_record(RecordKind::Lease, &super::to_body(self)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::fixed::{assert_golden, read_golden};

    fn lease() -> LeaseRecord {
        LeaseRecord {
            id: LeaseId::from_bytes([0x44; 16]),
            kind: JobKind::Restore,
            holder: Holder { host: "alpha".to_owned(), process: 4711, instance: "boot-9".to_owned() },
            versions: vec![VersionUid::from_bytes([0x11; 16])],
            started: Timestamp { milliseconds: 1_795_000_000_000 },
            renewed: Timestamp { milliseconds: 1_795_000_300_000 },
        }
    }

    #[test]
    fn leases_are_stored_as_they_always_were() {
        assert_golden("lease", &lease().to_object().unwrap());
        assert_eq!(LeaseRecord::from_object(lease().id, &read_golden("lease")).unwrap(), lease());
        let revocation = Revocation {
            id: lease().id,
            by: Holder { host: "beta".to_owned(), process: 1, instance: String::new() },
            revoked: Timestamp { milliseconds: 1_796_000_000_000 },
            reason: "overdue".to_owned(),
        };
        assert_golden("revocation", &revocation.to_object().unwrap());
    }

    #[test]
    fn a_lease_of_a_newer_kind_is_read_and_counts_as_a_job() {
        let body = super::super::to_body(&lease()).unwrap();
        let body = String::from_utf8(body).unwrap().replace("restore", "teleport");
        let object = plain_record(RecordKind::Lease, body.as_bytes());
        assert_eq!(LeaseRecord::from_object(lease().id, &object).unwrap().kind, JobKind::Other);
    }

    #[test]
    fn a_lease_under_another_name_is_damage() {
        let object = lease().to_object().unwrap();
        let error = LeaseRecord::from_object(LeaseId::from_bytes([1; 16]), &object).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(LeaseRecord::from_object(lease().id, &object[..object.len() - 1]).is_err());
    }
}
