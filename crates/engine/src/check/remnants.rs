//! Records of what is gone, and damage that is known.

use std::collections::BTreeSet;

use backy_core::Result;
use backy_core::ids::{PackId, SlotAddress};

use super::maps::Needed;
use super::small::Small;
use super::{CheckReport, Finding, Look};

/// Looks at what records say of packs. `unneeded` are the packs that are there and that nobody needs.
pub(super) fn look(
    look: &Look<'_>,
    small: &Small,
    needed: &Needed,
    unneeded: &BTreeSet<PackId>,
    report: &mut CheckReport,
) -> Result<()> {
    let is_needed = |pack: PackId| needed.data.get(pack).is_some() || needed.map.get(pack).is_some();
    let is_there = |pack: &PackId| is_needed(*pack) || unneeded.contains(pack);
    for (name, record) in &small.damage {
        look.cancel.check()?;
        if !is_there(&record.pack) {
            report.orphan_damage_records += 1;
            continue;
        }
        let is_needed = |address: SlotAddress| needed.data.contains(address) || needed.map.contains(address);
        let slots = record.slots.iter().map(|&slot| SlotAddress { pack: record.pack, slot });
        let damaged = slots.filter(|&address| is_needed(address)).count();
        let problem = format!("{damaged} slots of pack {}: {}", record.pack, record.problem);
        if damaged == 0 {
            let meaning = "no version needs what is damaged; a cleanup takes it away";
            report.findings.push(Finding::harmless(name, problem, meaning));
            continue;
        }
        let uids: Vec<String> = record.versions.iter().map(|version| version.uid.to_string()).collect();
        let problem = format!("{problem}; found in {}", uids.join(", "));
        let meaning = "damage that is known: the versions are invalid until their content is seen again by a backup";
        report.findings.push(Finding::damage(name, problem, meaning));
    }
    report.orphan_index_records = small.indexed.iter().filter(|(_, packs)| !packs.iter().any(is_there)).count() as u64;
    Ok(())
}
