//! `cargo xtask tidy`: the rules of STYLE.md and ARCHITECTURE.md that reading the sources can check.
//!
//! A broken rule is printed with its file and line, and ends the chore with an error. A file that only grows long is a
//! warning. What clippy or rustc check is not checked again.

mod docs;
mod house;
mod sources;

use crate::Result;
use std::path::{Path, PathBuf};

/// What was found: complaints end the chore, warnings do not.
#[derive(Default)]
pub struct Findings {
    complaints: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    fn complain(&mut self, place: impl std::fmt::Display, what: impl std::fmt::Display) {
        self.complaints.push(format!("{place}: {what}"));
    }

    fn warn(&mut self, place: impl std::fmt::Display, what: impl std::fmt::Display) {
        self.warnings.push(format!("{place}: {what}"));
    }
}

/// Checks the workspace in `root`.
pub fn run(root: &Path) -> Result<()> {
    let mut findings = Findings::default();
    sources::check(root, &mut findings)?;
    house::check(root, &mut findings)?;
    docs::check(root, &mut findings)?;
    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    for complaint in &findings.complaints {
        println!("error: {complaint}");
    }
    match findings.complaints.len() {
        0 => Ok(()),
        count => Err(format!("{count} rules of the house are broken").into()),
    }
}

/// Lists the files below `folder` whose name ends in `ending`, sorted; build output and hidden folders are left out.
fn files_below(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| format!("list {}: {error}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    waiting.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The path as a reader of the project writes it.
fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}
