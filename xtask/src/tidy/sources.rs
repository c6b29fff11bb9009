//! Rules for each Rust file: its opening words, its imports, its length, where `unsafe` may stand.

use super::{Findings, files_below, shown};
use crate::Result;
use std::path::Path;

const LINES_BEFORE_WARNING: usize = 400;
const LINES_MAX: usize = 600;

/// Checks all Rust files of the workspace.
pub fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    for path in files_below(root, ".rs")? {
        let text = std::fs::read_to_string(&path)?;
        check_file(&shown(root, &path), &text, findings);
    }
    Ok(())
}

fn check_file(name: &str, text: &str, findings: &mut Findings) {
    let may_be_unsafe = name.ends_with("/sys.rs") || name.contains("/sys/");
    if !text.starts_with("//!") {
        findings.complain(format!("{name}:1"), "a file opens with `//!` and says what it is");
    }
    let line_count = text.lines().count();
    if line_count > LINES_MAX {
        findings.complain(name, format!("{line_count} lines; split it, {LINES_MAX} are the most"));
    } else if line_count > LINES_BEFORE_WARNING {
        findings.warn(name, format!("{line_count} lines; few files should have more than {LINES_BEFORE_WARNING}"));
    }

    let is_test_file = name.contains("/tests/") || name.ends_with("/tests.rs");
    let mut is_in_tests = is_test_file;
    for (index, line) in text.lines().enumerate() {
        let place = || format!("{name}:{}", index + 1);
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        is_in_tests |= code.starts_with("#[cfg(test)]");
        if is_star_import(code) && !is_in_tests {
            findings.complain(place(), "no star imports outside of tests");
        }
        if has_unsafe(code) && !may_be_unsafe {
            findings.complain(place(), "`unsafe` stands in a sys.rs only");
        }
        if (code.starts_with("pub use ") || code.starts_with("pub(crate) use ")) && !is_door(name) {
            findings.warn(place(), "`pub use` belongs into lib.rs or the mod.rs of a room");
        }
    }
}

fn is_door(name: &str) -> bool {
    name.ends_with("lib.rs") || name.ends_with("mod.rs")
}

fn is_star_import(code: &str) -> bool {
    let code = code.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
    code.starts_with("use ") && (code.contains("::*;") || code.contains("::*,") || code.contains("::*}"))
}

/// Looks for an unsafe block, function, impl or extern; longer names that end so, and words in texts, do not count.
fn has_unsafe(code: &str) -> bool {
    let is_word = |before: &str| !before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
    let opens = |after: &str| ["{", "fn ", "impl", "extern "].iter().any(|next| after.trim_start().starts_with(next));
    code.match_indices("unsafe").any(|(at, word)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        is_word(before) && opens(after) && !before.contains('"')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(name: &str, text: &str) -> Vec<String> {
        let mut findings = Findings::default();
        check_file(name, text, &mut findings);
        findings.complaints
    }

    #[test]
    fn a_tidy_file_has_no_complaints() {
        let text = "//! Words.\nuse a::b;\n#[cfg(test)]\nmod tests {\n    use super::*;\n}\n";
        assert!(complaints("crates/a/src/b.rs", text).is_empty());
    }

    #[test]
    fn each_rule_is_seen_broken() {
        let block = format!("//! W.\n{} {{ read() }}\n", "unsafe");
        assert_eq!(complaints("a/src/b.rs", "use a;\n").len(), 1, "no opening words");
        assert_eq!(complaints("a/src/b.rs", "//! W.\nuse a::*;\n").len(), 1, "star import");
        assert_eq!(complaints("a/src/b.rs", "//! W.\npub use a::{b::*, c};\n").len(), 1, "nested star import");
        assert_eq!(complaints("a/src/b.rs", &block).len(), 1, "unsafe");
        assert!(complaints("a/src/sys.rs", &block).is_empty(), "unsafe where it may be");
        assert_eq!(complaints("a/src/b.rs", &"//! W.\n".repeat(601)).len(), 1, "too long");
    }
}
