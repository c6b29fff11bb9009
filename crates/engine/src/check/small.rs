//! The small objects: each of them decodes, and its name fits what it says.
//!
//! The keyring was opened when the repository was, entry by entry; so here it is enough that the names fit.

use std::collections::{BTreeMap, BTreeSet};

use backy_core::ids::{PackId, VersionUid};
use backy_core::keys::RecordKind;
use backy_core::keys::slot::KeySlot;
use backy_core::names::{self, GcName, ObjectName};
use backy_core::records::RECORD_BYTES_MAX;
use backy_core::records::damage::DamageRecord;
use backy_core::records::gc::GcRecord;
use backy_core::records::index;
use backy_core::records::label::LabelChange;
use backy_core::records::lease::LeaseRecord;
use backy_core::{Result, ResultExt};
use backy_store::object_store::list_all;

use super::{CheckReport, Finding, Look};
use crate::repository::open::read_repository_record;
use crate::repository::packs::is_about_content;
use crate::repository::records::if_found;

/// What the small objects say that others need.
///
/// All of it was listed before the versions and the packs: what is named here was there before they were listed.
#[derive(Default)]
pub(super) struct Small {
    /// The label objects of each version.
    pub labels: BTreeMap<VersionUid, Vec<ObjectName>>,
    /// Damage that is known.
    pub damage: Vec<(ObjectName, DamageRecord)>,
    /// The packs that each index record names.
    pub indexed: Vec<(ObjectName, BTreeSet<PackId>)>,
}

impl Small {
    pub(super) fn look(look: &Look<'_>, report: &mut CheckReport) -> Result<Small> {
        let mut small = Small::default();
        own_record(look, report)?;
        key_slots(look, report)?;
        leases(look, report)?;
        gc_log(look, report)?;
        small.labels(look, report)?;
        small.damage(look, report)?;
        small.index(look, report)?;
        Ok(small)
    }

    fn labels(&mut self, look: &Look<'_>, report: &mut CheckReport) -> Result<()> {
        const MEANING: &str = "what it says of its version is lost; the version counts as protected";
        each(look, report, names::LABELS, MEANING, |name| {
            let Ok((uid, counter, _)) = names::parse_label(name) else { return Ok(Seen::Foreign) };
            let change = if_found(look.repository.read_record::<LabelChange>(RecordKind::Label, name))?;
            let Some(change) = change else { return Ok(Seen::Gone) };
            self.labels.entry(uid).or_default().push(name.clone());
            if let Err(error) = change.check_stored() {
                return Ok(Seen::Bad(error.to_string()));
            }
            // The next change of this version would have no number.
            if counter == u32::MAX {
                Ok(Seen::Bad("no number is left after its own".to_owned()))
            } else {
                Ok(Seen::Good)
            }
        })
    }

    fn damage(&mut self, look: &Look<'_>, report: &mut CheckReport) -> Result<()> {
        const MEANING: &str = "what was found damaged is not known any more; a scrub finds it again";
        each(look, report, names::DAMAGE, MEANING, |name| {
            if names::parse_record_id(name).is_err() {
                return Ok(Seen::Foreign);
            }
            let record = if_found(look.repository.read_record::<DamageRecord>(RecordKind::Damage, name))?;
            let Some(record) = record else { return Ok(Seen::Gone) };
            record.check()?;
            self.damage.push((name.clone(), record));
            Ok(Seen::Good)
        })
    }

    fn index(&mut self, look: &Look<'_>, report: &mut CheckReport) -> Result<()> {
        const MEANING: &str = "other hosts store again what this record would tell them of; it costs space, not data";
        each(look, report, names::INDEX, MEANING, |name| {
            if names::parse_record_id(name).is_err() {
                return Ok(Seen::Foreign);
            }
            let Some(body) = if_found(look.repository.read_record_body(RecordKind::Index, name))? else {
                return Ok(Seen::Gone);
            };
            let packs = index::decode(&body)?.into_iter().map(|pack| pack.name.id).collect();
            self.indexed.push((name.clone(), packs));
            Ok(Seen::Good)
        })
    }
}

/// What became of an object that was listed.
enum Seen {
    Good,
    /// Its name is not ours.
    Foreign,
    /// It is gone by now, as small objects may be.
    Gone,
    Bad(String),
}

/// Looks at each object below a prefix. Errors about what is stored become findings; others end the check.
fn each(
    look: &Look<'_>,
    report: &mut CheckReport,
    prefix: &str,
    meaning: &'static str,
    mut visit: impl FnMut(&ObjectName) -> Result<Seen>,
) -> Result<()> {
    for object in list_all(look.repository.store(), prefix).context(|| format!("list {prefix}"))? {
        look.cancel.check()?;
        let finding = |problem: String| Finding::damage(&object.name, problem, meaning);
        match visit(&object.name) {
            Ok(Seen::Good) => report.object_count += 1,
            Ok(Seen::Foreign) => report.foreign_objects += 1,
            Ok(Seen::Gone) => {}
            Ok(Seen::Bad(problem)) => report.findings.push(finding(problem)),
            Err(error) if is_about_content(&error) || is_newer(&error) => {
                report.findings.push(finding(error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Says whether an object is of a newer program, or is no object that this one could have written.
pub(super) fn is_newer(error: &backy_core::Error) -> bool {
    matches!(error.kind(), backy_core::ErrorKind::Unsupported | backy_core::ErrorKind::InvalidInput)
}

fn own_record(look: &Look<'_>, report: &mut CheckReport) -> Result<()> {
    let record = read_repository_record(look.repository.store())?;
    report.object_count += 1;
    if record.id != look.repository.id() {
        let problem = format!("it says that this is repository {}", record.id);
        let meaning = "the repository was opened as another one; do not use it before it is known why";
        report.findings.push(Finding::damage(names::repository(), problem, meaning));
    }
    Ok(())
}

fn key_slots(look: &Look<'_>, report: &mut CheckReport) -> Result<()> {
    const MEANING: &str = "what it was sealed with does not open the repository any more";
    each(look, report, names::KEYS, MEANING, |name| {
        if names::parse_record_id(name).is_err() {
            return Ok(Seen::Foreign);
        }
        let Some(object) = if_found(look.repository.store().get(name, RECORD_BYTES_MAX))? else {
            return Ok(Seen::Gone);
        };
        KeySlot::parse(&object).map(|_| Seen::Good)
    })?;
    each(look, report, names::KEYRING, "", |name| {
        let is_ours = names::parse_keyring_entry(name).is_ok();
        Ok(if is_ours { Seen::Good } else { Seen::Foreign })
    })
}

fn leases(look: &Look<'_>, report: &mut CheckReport) -> Result<()> {
    const MEANING: &str = "it is not known whose it is; cleanups wait for it until it is old, or is given up \
                           (`backy2 leases --give-up`)";
    each(look, report, names::LEASES, MEANING, |name| {
        let Ok((id, is_revocation)) = names::parse_lease(name) else { return Ok(Seen::Foreign) };
        // A revocation counts by its name alone.
        if is_revocation || id == look.lease {
            return Ok(Seen::Good);
        }
        let Some(object) = if_found(look.repository.store().get(name, RECORD_BYTES_MAX))? else {
            return Ok(Seen::Gone);
        };
        LeaseRecord::from_object(id, &object).map(|_| Seen::Good)
    })
}

fn gc_log(look: &Look<'_>, report: &mut CheckReport) -> Result<()> {
    const MEANING: &str =
        "what it condemned is not known, so nothing is backed up and nothing is deleted; restores work";
    let found = report.findings.len();
    each(look, report, names::GC, MEANING, |name| {
        if GcName::parse(name).is_err() {
            return Ok(Seen::Foreign);
        }
        // One that is gone was replaced by a later one.
        let Some(body) = if_found(look.repository.read_record_body(RecordKind::Gc, name))? else {
            return Ok(Seen::Gone);
        };
        GcRecord::decode(&body).map(|_| Seen::Good)
    })?;
    for finding in report.findings.iter_mut().skip(found) {
        finding.remedy = Some(format!(
            "put {} back from a copy of the store. Without a copy: see \"a record of the GC log is damaged\" in docs/errors.md",
            finding.object
        ));
    }
    Ok(())
}
