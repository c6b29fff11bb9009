//! Rules for the papers: every one can be reached, no link leads nowhere, the changelog has room for the next change.

use super::{Findings, files_below, shown};
use crate::Result;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Checks the papers in the root and in `docs/`.
pub fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    let mut papers = files_below(&root.join("docs"), ".md")?;
    for entry in std::fs::read_dir(root)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "md") {
            papers.push(path);
        }
    }
    papers.sort();

    let mut reached = BTreeSet::new();
    for paper in &papers {
        let text = std::fs::read_to_string(paper)?;
        for link in links(&text) {
            let target = resolved(paper.parent().unwrap_or(root), link);
            if target != *paper {
                reached.insert(target.clone());
            }
            if !target.exists() {
                findings.complain(shown(root, paper), format!("links to {link}, which is not there"));
            }
        }
    }
    for paper in papers.iter().filter(|paper| paper.starts_with(root.join("docs"))) {
        if !reached.contains(paper) {
            findings.complain(shown(root, paper), "no other paper links to it");
        }
    }

    let changes = std::fs::read_to_string(root.join("CHANGELOG.md"))?;
    if !changes.lines().any(|line| line.starts_with("## ") && line.contains("Unreleased")) {
        findings.complain("CHANGELOG.md", "has no section \"## Unreleased\"");
    }
    Ok(())
}

/// The files that a Markdown text links to, without their `#part`; addresses on the net are left out.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
        .map(|link| link.split('#').next().unwrap_or_default())
        .filter(|link| !link.is_empty() && !link.contains("://"))
        .collect()
}

/// The path that `link` means in a paper that lies in `folder`.
fn resolved(folder: &Path, link: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for component in folder.join(link).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_without_their_parts() {
        let text = "See [a](docs/a.md#part), [b](https://example.org/x) and [c](../c.md), [here](#x).";
        assert_eq!(links(text), ["docs/a.md", "../c.md"]);
        assert_eq!(resolved(Path::new("/x/docs"), "../c.md"), Path::new("/x/c.md"));
    }

    #[test]
    fn a_paper_that_nobody_links_to_is_a_complaint() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
        std::fs::create_dir(root.path().join("docs")).unwrap();
        write("README.md", "[a](docs/a.md) [gone](docs/gone.md)");
        write("CHANGELOG.md", "## 1.0\n");
        write("docs/a.md", "");
        write("docs/b.md", "[itself](b.md)");
        let mut findings = Findings::default();
        check(root.path(), &mut findings).unwrap();
        assert_eq!(findings.complaints.len(), 3, "{:?}", findings.complaints);
    }
}
