//! The names of all objects in a repository, written and read in this one place.
//!
//! ```text
//! repository.json
//! keys/<record id>
//! keyring/<encryption version>
//! packs/<shard>/<pack id>.<generation>-<lease id>
//! versions/<version uid>/manifest | checkpoint-<n> | removed | checked | continued
//! labels/<version uid>/<counter>-<record id>
//! leases/<lease id> | <lease id>.revoked
//! gc/<number>-<lease id>
//! damage/<record id>
//! index/<record id>
//! ```
//!
//! Numbers in names have ten digits, so that they sort. Ids have 32 lower-case hex digits. Each object has one name only:
//! what could be read as the same but is written otherwise is refused.

use std::fmt;

use crate::error::{Error, Result};
use crate::ids::{EncryptionVersion, Generation, LeaseId, PackId, RecordId, VersionUid};

/// The name of an object in a store: a relative path of plain parts.
///
/// Parts are of `a-z 0-9 . _ -`, do not begin with a dot, and are divided by single slashes. At most 200 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

impl ObjectName {
    /// The longest name, in bytes.
    pub const LENGTH_MAX: usize = 200;

    /// Checks that `name` is a relative path of plain parts.
    pub fn new(name: impl Into<String>) -> Result<ObjectName> {
        let name = name.into();
        let is_plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
        };
        if name.len() <= Self::LENGTH_MAX && name.split('/').all(is_plain) {
            Ok(ObjectName(name))
        } else {
            Err(Error::invalid(format!("{name:?} is no name of an object")))
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part after the last slash.
    pub fn last_part(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The prefix of all key slots.
pub const KEYS: &str = "keys/";
/// The prefix of the keyring.
pub const KEYRING: &str = "keyring/";
/// The prefix of all packs.
pub const PACKS: &str = "packs/";
/// The prefix of all versions.
pub const VERSIONS: &str = "versions/";
/// The prefix of all labels.
pub const LABELS: &str = "labels/";
/// The prefix of all leases.
pub const LEASES: &str = "leases/";
/// The prefix of the GC log.
pub const GC: &str = "gc/";
/// The prefix of the damage records.
pub const DAMAGE: &str = "damage/";
/// The prefix of the index records.
pub const INDEX: &str = "index/";

/// Returns the name of the object that makes a folder a repository.
pub fn repository() -> ObjectName {
    ObjectName("repository.json".to_owned())
}

/// Returns the name of a key slot.
pub fn key_slot(id: RecordId) -> ObjectName {
    ObjectName(format!("{KEYS}{id}"))
}

/// Returns the name of the keyring entry of an encryption version.
pub fn keyring_entry(version: EncryptionVersion) -> ObjectName {
    ObjectName(format!("{KEYRING}{:010}", version.0))
}

/// Reads the encryption version from the name of a keyring entry.
pub fn parse_keyring_entry(name: &ObjectName) -> Result<EncryptionVersion> {
    let version = parse_number(name.last_part()).map(EncryptionVersion);
    version.filter(|&version| keyring_entry(version) == *name).ok_or_else(|| unexpected(name))
}

/// The name of one pack object, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackName {
    /// The pack.
    pub id: PackId,
    /// Which rewrite of it.
    pub generation: Generation,
    /// The job that wrote the object.
    pub lease: LeaseId,
}

impl PackName {
    /// Returns the name of the object.
    pub fn object_name(&self) -> ObjectName {
        ObjectName(format!("{}{:010}-{}", pack_prefix(self.id), self.generation.0, self.lease))
    }

    /// Takes the name of a pack object apart.
    pub fn parse(name: &ObjectName) -> Result<PackName> {
        let parse = || -> Option<PackName> {
            let (id, rest) = name.last_part().split_once('.')?;
            let (generation, lease) = rest.split_once('-')?;
            Some(PackName {
                id: id.parse().ok()?,
                generation: Generation(parse_number(generation)?),
                lease: lease.parse().ok()?,
            })
        };
        parse().filter(|pack| pack.object_name() == *name).ok_or_else(|| unexpected(name))
    }
}

impl fmt::Display for PackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:010}-{}", self.id, self.generation.0, self.lease)
    }
}

/// Returns the prefix of all generations of a pack.
pub fn pack_prefix(id: PackId) -> String {
    format!("{PACKS}{}/{id}.", id.shard())
}

/// Returns the prefix of the packs whose ids were made at about the same time as `id`: within the same minute, or nearly.
pub fn neighbours_prefix(id: PackId) -> String {
    format!("{PACKS}{}/{}", id.shard(), &id.to_string()[..8])
}

/// Returns the prefix of all objects of a version.
pub fn version_prefix(uid: VersionUid) -> String {
    format!("{VERSIONS}{uid}/")
}

/// Returns the name of a version's manifest.
pub fn manifest(uid: VersionUid) -> ObjectName {
    ObjectName(format!("{VERSIONS}{uid}/manifest"))
}

/// Returns the name of a version's checkpoint.
pub fn checkpoint(uid: VersionUid, number: u32) -> ObjectName {
    ObjectName(format!("{VERSIONS}{uid}/checkpoint-{number:010}"))
}

/// Returns the name of a version's tombstone.
pub fn removed(uid: VersionUid) -> ObjectName {
    ObjectName(format!("{VERSIONS}{uid}/removed"))
}

/// Returns the name of the mark that another version has gone on from this one, and is complete.
pub fn continued(uid: VersionUid) -> ObjectName {
    ObjectName(format!("{VERSIONS}{uid}/continued"))
}

/// Returns the name of the mark that a void version passed its recheck.
pub fn checked(uid: VersionUid) -> ObjectName {
    ObjectName(format!("{VERSIONS}{uid}/checked"))
}

/// Which of a version's objects a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VersionObject {
    /// The manifest: the version is complete.
    Manifest,
    /// A checkpoint and its number.
    Checkpoint(u32),
    /// The tombstone.
    Removed,
    /// The mark of a recheck.
    Checked,
    /// The mark that another version has gone on from this one.
    Continued,
}

impl VersionObject {
    fn name(self, uid: VersionUid) -> ObjectName {
        match self {
            VersionObject::Manifest => manifest(uid),
            VersionObject::Checkpoint(number) => checkpoint(uid, number),
            VersionObject::Removed => removed(uid),
            VersionObject::Checked => checked(uid),
            VersionObject::Continued => continued(uid),
        }
    }
}

/// Takes the name of a version's object apart.
pub fn parse_version_object(name: &ObjectName) -> Result<(VersionUid, VersionObject)> {
    let parse = || -> Option<(VersionUid, VersionObject)> {
        let (uid, object) = name.as_str().strip_prefix(VERSIONS)?.split_once('/')?;
        let object = match object {
            "manifest" => VersionObject::Manifest,
            "removed" => VersionObject::Removed,
            "checked" => VersionObject::Checked,
            "continued" => VersionObject::Continued,
            other => VersionObject::Checkpoint(parse_number(other.strip_prefix("checkpoint-")?)?),
        };
        Some((uid.parse().ok()?, object))
    };
    let is_exact = |&(uid, object): &(VersionUid, VersionObject)| object.name(uid) == *name;
    parse().filter(is_exact).ok_or_else(|| unexpected(name))
}

/// Returns the prefix of all labels of a version.
pub fn label_prefix(uid: VersionUid) -> String {
    format!("{LABELS}{uid}/")
}

/// Returns the name of a label.
pub fn label(uid: VersionUid, counter: u32, id: RecordId) -> ObjectName {
    ObjectName(format!("{LABELS}{uid}/{counter:010}-{id}"))
}

/// Takes the name of a label apart.
pub fn parse_label(name: &ObjectName) -> Result<(VersionUid, u32, RecordId)> {
    let parse = || -> Option<(VersionUid, u32, RecordId)> {
        let (uid, rest) = name.as_str().strip_prefix(LABELS)?.split_once('/')?;
        let (counter, id) = rest.split_once('-')?;
        Some((uid.parse().ok()?, parse_number(counter)?, id.parse().ok()?))
    };
    let is_exact = |&(uid, counter, id): &(VersionUid, u32, RecordId)| label(uid, counter, id) == *name;
    parse().filter(is_exact).ok_or_else(|| unexpected(name))
}

/// Returns the name of a lease.
pub fn lease(id: LeaseId) -> ObjectName {
    ObjectName(format!("{LEASES}{id}"))
}

/// Returns the name of a lease's revocation.
pub fn revocation(id: LeaseId) -> ObjectName {
    ObjectName(format!("{LEASES}{id}.revoked"))
}

/// Takes the name of a lease or revocation apart: whose it is, and whether it is the revocation.
pub fn parse_lease(name: &ObjectName) -> Result<(LeaseId, bool)> {
    let id = name.last_part();
    let (id, is_revocation) = id.strip_suffix(".revoked").map_or((id, false), |id| (id, true));
    let id = id.parse().map_err(|_| unexpected(name))?;
    let exact = if is_revocation { revocation(id) } else { lease(id) };
    if exact == *name { Ok((id, is_revocation)) } else { Err(unexpected(name)) }
}

/// The name of a record of the GC log, taken apart. Two authors never write the same name; the number is for sorting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GcName {
    /// One more than the highest that its author saw.
    pub number: u32,
    /// The lease of the cleanup that wrote it.
    pub author: LeaseId,
}

impl GcName {
    /// Returns the name of the object.
    pub fn object_name(&self) -> ObjectName {
        ObjectName(format!("{GC}{:010}-{}", self.number, self.author))
    }

    /// Takes the name of a record apart.
    pub fn parse(name: &ObjectName) -> Result<GcName> {
        let parse = || -> Option<GcName> {
            let (number, author) = name.last_part().split_once('-')?;
            Some(GcName { number: parse_number(number)?, author: author.parse().ok()? })
        };
        parse().filter(|record| record.object_name() == *name).ok_or_else(|| unexpected(name))
    }
}

/// Returns the name of a damage record.
pub fn damage(id: RecordId) -> ObjectName {
    ObjectName(format!("{DAMAGE}{id}"))
}

/// Returns the name of an index record.
pub fn index(id: RecordId) -> ObjectName {
    ObjectName(format!("{INDEX}{id}"))
}

/// Reads the record id that is the last part of a name.
pub fn parse_record_id(name: &ObjectName) -> Result<RecordId> {
    let id = name.last_part().parse().map_err(|_| unexpected(name))?;
    if RecordId::to_string(&id) == name.last_part() { Ok(id) } else { Err(unexpected(name)) }
}

fn parse_number(text: &str) -> Option<u32> {
    let is_number = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn unexpected(name: &ObjectName) -> Error {
    Error::damaged(format!("{name} is not a name that belongs into a repository"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_repository() {
        for bad in ["", "/", "a//b", "../a", "a/..", "a/.hidden", "A", "a b", "a/", "ä"] {
            assert!(ObjectName::new(bad).is_err(), "{bad:?}");
        }
        assert!(ObjectName::new("a".repeat(201)).is_err());
        assert_eq!(ObjectName::new("packs/0a/1.0-2").unwrap().last_part(), "1.0-2");
    }

    #[test]
    fn names_survive_parsing() {
        let pack = PackName {
            id: PackId::from_bytes([1; 16]),
            generation: Generation(7),
            lease: LeaseId::from_bytes([2; 16]),
        };
        assert_eq!(PackName::parse(&pack.object_name()).unwrap(), pack);
        let uid = VersionUid::from_bytes([3; 16]);
        for (name, object) in [
            (manifest(uid), VersionObject::Manifest),
            (checkpoint(uid, 4), VersionObject::Checkpoint(4)),
            (removed(uid), VersionObject::Removed),
            (checked(uid), VersionObject::Checked),
            (continued(uid), VersionObject::Continued),
        ] {
            assert_eq!(parse_version_object(&name).unwrap(), (uid, object));
        }
        let record = GcName { number: 6, author: pack.lease };
        assert_eq!(GcName::parse(&record.object_name()).unwrap(), record);
        assert_eq!(parse_lease(&lease(pack.lease)).unwrap(), (pack.lease, false));
        assert_eq!(parse_lease(&revocation(pack.lease)).unwrap(), (pack.lease, true));
        let id = RecordId::from_bytes([5; 16]);
        assert_eq!(parse_label(&label(uid, 9, id)).unwrap(), (uid, 9, id));
        assert_eq!(parse_keyring_entry(&keyring_entry(EncryptionVersion(3))).unwrap(), EncryptionVersion(3));
    }

    #[test]
    fn foreign_names_are_refused() {
        for bad in [
            "packs/000000/x",
            "packs/ffffff/01010101010101010101010101010101.0000000000-02020202020202020202020202020202",
        ] {
            assert!(PackName::parse(&ObjectName::new(bad).unwrap()).is_err(), "{bad}");
        }
        assert!(parse_version_object(&ObjectName::new("versions/x/manifest").unwrap()).is_err());
        let id = "01935a0012347fffbfffffffffffffff";
        let with_hyphens = "01935a00-1234-7fff-bfff-ffffffffffff";
        let name = |text: String| ObjectName::new(text).unwrap();
        parse_version_object(&name(format!("versions/{id}/manifest"))).unwrap();
        assert!(parse_version_object(&name(format!("versions/{with_hyphens}/manifest"))).is_err());
        assert!(parse_version_object(&name(format!("versions/{id}/checkpoint-1"))).is_err());
        parse_label(&name(format!("labels/{id}/0000000001-{id}"))).unwrap();
        assert!(parse_label(&name(format!("labels/{id}/0000000001-{with_hyphens}"))).is_err());
        assert!(parse_label(&name(format!("labels/{id}/9999999999-{id}"))).is_err());
        parse_lease(&name(format!("leases/{id}.revoked"))).unwrap();
        for bad in [format!("leases/{with_hyphens}"), format!("leases/{id}.revoked.revoked"), format!("leases/x/{id}")]
        {
            assert!(parse_lease(&name(bad.clone())).is_err(), "{bad}");
        }
        GcName::parse(&name(format!("gc/0000000001-{id}"))).unwrap();
        assert!(GcName::parse(&name(format!("gc/1-{id}"))).is_err());
        parse_record_id(&name(format!("damage/{id}"))).unwrap();
        assert!(parse_record_id(&name(format!("damage/{with_hyphens}"))).is_err());
        parse_keyring_entry(&name("keyring/0000000001".to_owned())).unwrap();
        assert!(parse_keyring_entry(&name("keyring/old/0000000001".to_owned())).is_err());
    }
}
