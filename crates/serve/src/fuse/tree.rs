//! The folders, files and links of the mount, made from a list of versions. Nothing here reads anything.
//!
//! ```text
//!  by_version_uid/<uid>/{data, name, tags, ...}
//!  by_version/<name>@<date>                        -> ../by_version_uid/<uid>
//!  by_name/<name>/{<date>, latest}                 -> ../../by_version_uid/<uid>
//! ```
//!
//! Versions of one name and one second have their uid behind the date. Incomplete versions are not shown.

use std::collections::BTreeMap;

use backy_core::environment::Timestamp;
use backy_engine::repository::versions::{VersionEntry, VersionState};

use super::infos::INFOS;
use super::names::{date, escape};
use super::node::{Index, Indices, Node};

const BY_UID: &str = "by_version_uid";
const BY_VERSION: &str = "by_version";
const BY_NAME: &str = "by_name";
const DATA: &str = "data";
const LATEST: &str = "latest";

/// What is in the mount at a moment.
#[derive(Debug, Default)]
pub(super) struct Tree {
    versions: BTreeMap<Index, VersionEntry>,
    names: BTreeMap<Index, Name>,
    by_uid: BTreeMap<String, Node>,
    by_version: BTreeMap<String, Node>,
    by_name: BTreeMap<String, Node>,
}

#[derive(Debug, Default)]
struct Name {
    links: BTreeMap<String, Node>,
    latest: Index,
    newest: Timestamp,
}

impl Tree {
    /// Makes the tree of `versions`, the oldest first.
    pub(super) fn new(versions: Vec<VersionEntry>, indices: &mut Indices) -> Tree {
        let mut tree = Tree::default();
        let is_complete = |entry: &VersionEntry| entry.state != VersionState::Incomplete;
        let versions: Vec<VersionEntry> = versions.into_iter().filter(is_complete).collect();
        let mut count: BTreeMap<(String, String), usize> = BTreeMap::new();
        for entry in &versions {
            *count.entry((entry.manifest.name.clone(), date(entry.manifest.created))).or_default() += 1;
        }
        for entry in versions {
            let manifest = &entry.manifest;
            let (index, name_index) = (indices.of_version(manifest.uid), indices.of_name(&manifest.name));
            let mut date = date(manifest.created);
            if count.get(&(manifest.name.clone(), date.clone())).is_some_and(|count| *count > 1) {
                date = format!("{date}-{}", manifest.uid);
            }
            let escaped = escape(&manifest.name);
            tree.by_uid.insert(manifest.uid.to_string(), Node::Version(index));
            tree.by_version.insert(format!("{escaped}@{date}"), Node::VersionLink(index));
            tree.by_name.insert(escaped, Node::Name(name_index));
            let name = tree.names.entry(name_index).or_default();
            name.links.insert(date, Node::DateLink(index));
            (name.latest, name.newest) = (index, manifest.created);
            tree.versions.insert(index, entry);
        }
        for (index, name) in &mut tree.names {
            name.links.insert(LATEST.to_owned(), Node::LatestLink(*index));
        }
        tree
    }

    /// Returns the version that a node is of or leads to; none if it is of none, or of one that is not there any more.
    pub(super) fn version(&self, node: Node) -> Option<&VersionEntry> {
        match node {
            Node::Version(index)
            | Node::Data(index)
            | Node::Info(index, _)
            | Node::VersionLink(index)
            | Node::DateLink(index) => self.versions.get(&index),
            Node::LatestLink(index) => self.versions.get(&self.names.get(&index)?.latest),
            Node::Root | Node::ByUid | Node::ByVersion | Node::ByName | Node::Name(_) => None,
        }
    }

    /// Says whether there is such a node.
    pub(super) fn contains(&self, node: Node) -> bool {
        match node {
            Node::Root | Node::ByUid | Node::ByVersion | Node::ByName => true,
            Node::Name(index) => self.names.contains_key(&index),
            node => self.version(node).is_some(),
        }
    }

    /// Finds what is called `name` in a folder.
    pub(super) fn find(&self, folder: Node, name: &str) -> Option<Node> {
        match folder {
            Node::ByUid => self.by_uid.get(name).copied(),
            Node::ByVersion => self.by_version.get(name).copied(),
            Node::ByName => self.by_name.get(name).copied(),
            Node::Name(index) => self.names.get(&index)?.links.get(name).copied(),
            folder => self.children(folder)?.into_iter().find(|(child, _)| child == name).map(|(_, node)| node),
        }
    }

    /// Returns what is in a folder; none if it is no folder, or not there.
    pub(super) fn children(&self, folder: Node) -> Option<Vec<(String, Node)>> {
        let all = |children: &BTreeMap<String, Node>| {
            Some(children.iter().map(|(name, node)| (name.clone(), *node)).collect::<Vec<_>>())
        };
        match folder {
            Node::Root => {
                let folders = [(BY_NAME, Node::ByName), (BY_VERSION, Node::ByVersion), (BY_UID, Node::ByUid)];
                Some(folders.into_iter().map(|(name, node)| (name.to_owned(), node)).collect())
            }
            Node::ByUid => all(&self.by_uid),
            Node::ByVersion => all(&self.by_version),
            Node::ByName => all(&self.by_name),
            Node::Name(index) => all(&self.names.get(&index)?.links),
            Node::Version(index) => {
                self.versions.get(&index)?;
                let data = (DATA.to_owned(), Node::Data(index));
                let infos = INFOS.iter().enumerate();
                let infos = infos.map(|(place, info)| (info.name.to_owned(), Node::Info(index, place)));
                Some(std::iter::once(data).chain(infos).collect())
            }
            _ => None,
        }
    }

    /// Returns the folder that a folder is in.
    pub(super) fn parent(folder: Node) -> Node {
        match folder {
            Node::Version(_) => Node::ByUid,
            Node::Name(_) => Node::ByName,
            _ => Node::Root,
        }
    }

    /// Returns how many folders are in a folder.
    pub(super) fn folder_count(&self, folder: Node) -> usize {
        match folder {
            Node::Root => 3,
            Node::ByUid => self.by_uid.len(),
            Node::ByName => self.by_name.len(),
            _ => 0,
        }
    }

    /// Returns where a link leads.
    pub(super) fn link_target(&self, link: Node) -> Option<String> {
        let above = match link {
            Node::VersionLink(_) => "..",
            Node::DateLink(_) | Node::LatestLink(_) => "../..",
            _ => return None,
        };
        Some(format!("{above}/{BY_UID}/{}", self.version(link)?.manifest.uid))
    }

    /// Returns when a node was made: its version's date, or that of the newest version below it.
    pub(super) fn made(&self, node: Node) -> Timestamp {
        let newest = || self.names.values().map(|name| name.newest).max().unwrap_or_default();
        match node {
            Node::Root | Node::ByUid | Node::ByVersion | Node::ByName => newest(),
            Node::Name(index) => self.names.get(&index).map(|name| name.newest).unwrap_or_default(),
            node => self.version(node).map(|entry| entry.manifest.created).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use backy_core::ids::{EncryptionVersion, LeaseId, VersionUid};
    use backy_core::map::MapRoot;
    use backy_core::policy::audit::AuditWindow;
    use backy_core::records::label::{Label, LabelChange};
    use backy_core::records::manifest::{Manifest, Origin, Statistics};
    use backy_core::units::{BlockCount, BlockSize};

    use super::*;

    fn entry(number: u8, name: &str, second: u64) -> VersionEntry {
        let manifest = Manifest {
            uid: VersionUid::from_bytes([number; 16]),
            name: name.to_owned(),
            snapshot_name: String::new(),
            created: Timestamp { milliseconds: 1_795_442_706_000 + 1000 * second },
            size_bytes: 0,
            block_size: BlockSize::DEFAULT,
            base: None,
            base_bytes: None,
            lease: LeaseId::from_bytes([3; 16]),
            encryption_version: EncryptionVersion(1),
            map: MapRoot { blocks: BlockCount(0), root: None },
            missing_blocks: BlockCount(0),
            origin: Origin::default(),
            statistics: Statistics::default(),
            audit: AuditWindow::default(),
            label: LabelChange::default(),
            continues: Vec::new(),
        };
        VersionEntry { manifest, checkpoint: None, label: Label::default(), state: VersionState::Valid, is_void: false }
    }

    /// Returns all paths below a folder, with where links lead.
    fn paths(tree: &Tree, folder: Node, above: &str) -> Vec<String> {
        let mut paths = Vec::new();
        for (name, node) in tree.children(folder).unwrap() {
            assert_eq!(tree.find(folder, &name), Some(node));
            assert!(tree.contains(node));
            let path = format!("{above}/{name}");
            match tree.link_target(node) {
                Some(target) => paths.push(format!("{path} -> {target}")),
                None if tree.children(node).is_some() => {
                    assert_eq!(Tree::parent(node), folder);
                    paths.extend(paths_below_version(tree, node, &path));
                }
                None => paths.push(path),
            }
        }
        paths
    }

    fn paths_below_version(tree: &Tree, node: Node, path: &str) -> Vec<String> {
        if matches!(node, Node::Version(_)) { vec![path.to_owned()] } else { paths(tree, node, path) }
    }

    #[test]
    fn versions_are_found_by_uid_by_date_and_by_name() {
        let mut indices = Indices::default();
        let incomplete = VersionEntry { state: VersionState::Incomplete, ..entry(9, "web", 9) };
        let tree =
            Tree::new(vec![entry(1, "a/b", 0), entry(2, "a/b", 1), entry(3, "web", 1), incomplete], &mut indices);
        let [one, two, three] = ["01", "02", "03"].map(|digits| digits.repeat(16));
        let expected = [
            format!("/by_name/a%2Fb/2026-11-23T14:05:06Z -> ../../by_version_uid/{one}"),
            format!("/by_name/a%2Fb/2026-11-23T14:05:07Z -> ../../by_version_uid/{two}"),
            format!("/by_name/a%2Fb/latest -> ../../by_version_uid/{two}"),
            format!("/by_name/web/2026-11-23T14:05:07Z -> ../../by_version_uid/{three}"),
            format!("/by_name/web/latest -> ../../by_version_uid/{three}"),
            format!("/by_version/a%2Fb@2026-11-23T14:05:06Z -> ../by_version_uid/{one}"),
            format!("/by_version/a%2Fb@2026-11-23T14:05:07Z -> ../by_version_uid/{two}"),
            format!("/by_version/web@2026-11-23T14:05:07Z -> ../by_version_uid/{three}"),
            format!("/by_version_uid/{one}"),
            format!("/by_version_uid/{two}"),
            format!("/by_version_uid/{three}"),
        ];
        assert_eq!(paths(&tree, Node::Root, ""), expected);
        let version = tree.find(Node::ByUid, &one).unwrap();
        assert_eq!(tree.children(version).unwrap().len(), 1 + INFOS.len());
    }

    #[test]
    fn versions_of_one_second_have_their_uid_in_the_link() {
        let tree = Tree::new(vec![entry(1, "a", 0), entry(2, "a", 0), entry(3, "b", 0)], &mut Indices::default());
        let links: Vec<String> = tree.children(Node::ByVersion).unwrap().into_iter().map(|(name, _)| name).collect();
        let (date, one, two) = ("2026-11-23T14:05:06Z", "01".repeat(16), "02".repeat(16));
        assert_eq!(links, [format!("a@{date}-{one}"), format!("a@{date}-{two}"), format!("b@{date}")]);
    }

    #[test]
    fn what_is_removed_is_gone_and_the_rest_keeps_its_number() {
        let mut indices = Indices::default();
        let before = Tree::new(vec![entry(1, "a", 0), entry(2, "b", 1)], &mut indices);
        let after = Tree::new(vec![entry(2, "b", 1), entry(3, "c", 2)], &mut indices);
        let (old, kept) = (Node::Version(indices.of_version(VersionUid::from_bytes([1; 16]))), "02".repeat(16));
        assert!(before.contains(old) && !after.contains(old));
        assert_eq!(before.find(Node::ByUid, &kept), after.find(Node::ByUid, &kept));
        assert!(!after.contains(before.find(Node::ByName, "a").unwrap()));
        assert!(after.made(Node::Root) > before.made(Node::Root));
    }
}
