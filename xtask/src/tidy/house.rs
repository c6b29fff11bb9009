//! The arrows of the house: a crate uses only crates that stand below it.
//!
//! The table here and the picture in ARCHITECTURE.md say the same; change both.

use super::Findings;
use crate::Result;
use std::path::Path;

/// Each crate with those that it may use in the product; what tests use is free, but must not go up either.
const MAY_USE: [(&str, &[&str]); 11] = [
    ("backy2-core", &[]),
    ("backy2-device", &["backy2-core"]),
    ("backy2-store", &["backy2-core"]),
    ("backy2-catalog", &["backy2-core"]),
    ("backy2-engine", &["backy2-core", "backy2-device", "backy2-store", "backy2-catalog"]),
    ("backy2-serve", &["backy2-core", "backy2-device", "backy2-store", "backy2-engine"]),
    ("backy2", &["backy2-core", "backy2-device", "backy2-store", "backy2-catalog", "backy2-engine", "backy2-serve"]),
    ("backy2-testkit", &["backy2-core", "backy2-device", "backy2-store", "backy2-catalog"]),
    ("backy2-model", &[]),
    ("backy2-s3-testserver", &[]),
    ("xtask", &[]),
];

/// What stands beside the house, and only tests use.
const FOR_TESTS: [&str; 2] = ["backy2-testkit", "backy2-s3-testserver"];

/// What the foundation must not need: it computes, and asks nobody.
const NOT_IN_CORE: [&str; 6] = ["rustix", "getrandom", "rusqlite", "crossbeam-channel", "tracing", "signal-hook"];

/// Checks the `Cargo.toml` of every crate.
pub fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    let mut folders = vec![root.join("xtask")];
    for entry in std::fs::read_dir(root.join("crates"))? {
        folders.push(entry?.path());
    }
    folders.sort();
    for folder in folders {
        let text = std::fs::read_to_string(folder.join("Cargo.toml"))?;
        check_crate(&text, findings)?;
    }
    Ok(())
}

fn check_crate(text: &str, findings: &mut Findings) -> Result<()> {
    let manifest: toml::Table = text.parse()?;
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    let name = name.ok_or("a crate has no name")?;
    let Some((_, may_use)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
        findings.complain(name, "not drawn in the house: add it to ARCHITECTURE.md and to xtask/src/tidy/house.rs");
        return Ok(());
    };
    for (section, is_for_tests) in [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)]
    {
        for used in keys(&manifest, section) {
            let is_ours = used == "backy2" || used.starts_with("backy2-");
            let is_allowed = may_use.contains(&used) || (is_for_tests && FOR_TESTS.contains(&used));
            if is_ours && !is_allowed {
                findings.complain(name, format!("must not use {used}: arrows go down only"));
            }
            if name == "backy2-core" && section == "dependencies" && NOT_IN_CORE.contains(&used) {
                findings.complain(name, format!("must not use {used}: no file, socket, thread or clock in core"));
            }
        }
    }
    let has_lints = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
    if has_lints != Some(true) {
        findings.complain(name, "takes the lints of the workspace: `[lints] workspace = true`");
    }
    Ok(())
}

fn keys<'a>(manifest: &'a toml::Table, section: &str) -> impl Iterator<Item = &'a str> {
    manifest.get(section).and_then(toml::Value::as_table).into_iter().flat_map(|table| table.keys().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint_count(name: &str, rest: &str) -> usize {
        let mut findings = Findings::default();
        check_crate(&format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}"), &mut findings)
            .unwrap();
        findings.complaints.len()
    }

    #[test]
    fn arrows_go_down_only() {
        assert_eq!(complaint_count("backy2-store", "[dependencies]\nbacky2-core.workspace = true\n"), 0);
        assert_eq!(complaint_count("backy2-store", "[dependencies]\nbacky2-engine.workspace = true\n"), 1);
        assert_eq!(complaint_count("backy2-store", "[dependencies]\nbacky2-device.workspace = true\n"), 1);
        assert_eq!(complaint_count("backy2-store", "[dependencies]\nbacky2-testkit.workspace = true\n"), 1);
        assert_eq!(complaint_count("backy2-engine", "[dev-dependencies]\nbacky2-testkit.workspace = true\n"), 0);
        assert_eq!(complaint_count("backy2-core", "[dependencies]\nrustix.workspace = true\n"), 1);
        assert_eq!(complaint_count("backy2-attic", ""), 1);
    }
}
