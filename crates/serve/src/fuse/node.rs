//! What there is in the mount, and its inode number.
//!
//! ```text
//!  1  2  3  4                        the root and its three folders
//!  index * 256 + 0 .. 127            a version: its folder, data, small files
//!  index * 256 + 128, 129            the links to it
//!  index * 256 + 192, 193            a name: its folder, the link to its newest version
//! ```
//!
//! Each version and each name gets an index when it is first seen, and keeps it as long as the mount lives. So numbers say
//! all by themselves, and nothing has to be kept for what the kernel remembers.

use std::collections::BTreeMap;

use backy_core::ids::VersionUid;
use fuser::{FileType, INodeNo};

use super::infos::INFOS;

/// The index of a version or of a name.
pub(super) type Index = u32;

const DATA: u64 = 1;
const FIRST_INFO: u64 = 2;
const VERSION_LINK: u64 = 128;
const DATE_LINK: u64 = 129;
const NAME: u64 = 192;
const LATEST_LINK: u64 = 193;

/// Something in the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    /// The root.
    Root,
    /// `by_version_uid`.
    ByUid,
    /// `by_version`.
    ByVersion,
    /// `by_name`.
    ByName,
    /// `by_version_uid/<uid>`.
    Version(Index),
    /// `by_version_uid/<uid>/data`.
    Data(Index),
    /// `by_version_uid/<uid>/<the info of that place in the table>`.
    Info(Index, usize),
    /// `by_version/<name>@<date>`.
    VersionLink(Index),
    /// `by_name/<name>/<date>`.
    DateLink(Index),
    /// `by_name/<name>`.
    Name(Index),
    /// `by_name/<name>/latest`.
    LatestLink(Index),
}

impl Node {
    /// Returns the number.
    pub(super) fn inode(self) -> INodeNo {
        let of = |index: Index, low: u64| (u64::from(index) << 8) + low;
        INodeNo(match self {
            Node::Root => 1,
            Node::ByUid => 2,
            Node::ByVersion => 3,
            Node::ByName => 4,
            Node::Version(index) => of(index, 0),
            Node::Data(index) => of(index, DATA),
            Node::Info(index, place) => of(index, FIRST_INFO + place as u64),
            Node::VersionLink(index) => of(index, VERSION_LINK),
            Node::DateLink(index) => of(index, DATE_LINK),
            Node::Name(index) => of(index, NAME),
            Node::LatestLink(index) => of(index, LATEST_LINK),
        })
    }

    /// Returns what has a number.
    pub(super) fn of_inode(inode: INodeNo) -> Option<Node> {
        let index = Index::try_from(inode.0 >> 8).ok()?;
        let low = inode.0 & 0xff;
        Some(match (index, low) {
            (0, 1) => Node::Root,
            (0, 2) => Node::ByUid,
            (0, 3) => Node::ByVersion,
            (0, 4) => Node::ByName,
            (0, _) => return None,
            (_, 0) => Node::Version(index),
            (_, DATA) => Node::Data(index),
            (_, VERSION_LINK) => Node::VersionLink(index),
            (_, DATE_LINK) => Node::DateLink(index),
            (_, NAME) => Node::Name(index),
            (_, LATEST_LINK) => Node::LatestLink(index),
            (_, low) => {
                let place = usize::try_from(low - FIRST_INFO).ok().filter(|place| *place < INFOS.len())?;
                Node::Info(index, place)
            }
        })
    }

    /// Returns what kind of file it is.
    pub(super) fn kind(self) -> FileType {
        match self {
            Node::Root | Node::ByUid | Node::ByVersion | Node::ByName | Node::Version(_) | Node::Name(_) => {
                FileType::Directory
            }
            Node::Data(_) | Node::Info(..) => FileType::RegularFile,
            Node::VersionLink(_) | Node::DateLink(_) | Node::LatestLink(_) => FileType::Symlink,
        }
    }
}

/// Which index each version and name has got.
#[derive(Debug, Default)]
pub(super) struct Indices {
    versions: BTreeMap<VersionUid, Index>,
    names: BTreeMap<String, Index>,
    last: Index,
}

impl Indices {
    /// Returns the index of a version.
    pub(super) fn of_version(&mut self, uid: VersionUid) -> Index {
        *self.versions.entry(uid).or_insert_with(|| next(&mut self.last))
    }

    /// Returns the index of a name.
    pub(super) fn of_name(&mut self, name: &str) -> Index {
        if let Some(index) = self.names.get(name) {
            return *index;
        }
        let index = next(&mut self.last);
        self.names.insert(name.to_owned(), index);
        index
    }
}

/// There are four billion of them: a mount does not live to see their end.
fn next(last: &mut Index) -> Index {
    *last = last.saturating_add(1);
    *last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_say_what_they_are_of() {
        let mut seen = BTreeMap::new();
        for index in [1, 2, 0xffff_ffff] {
            let infos = (0..INFOS.len()).map(|place| Node::Info(index, place));
            let others = [
                Node::Root,
                Node::ByUid,
                Node::ByVersion,
                Node::ByName,
                Node::Version(index),
                Node::Data(index),
                Node::VersionLink(index),
                Node::DateLink(index),
                Node::Name(index),
                Node::LatestLink(index),
            ];
            for node in infos.chain(others) {
                assert_eq!(Node::of_inode(node.inode()), Some(node));
                assert_eq!(*seen.entry(node.inode().0).or_insert(node), node);
            }
        }
        for foreign in [0, 5, 255, (1 << 8) + FIRST_INFO + INFOS.len() as u64, (1 << 8) + 255, 1 << 40] {
            assert_eq!(Node::of_inode(INodeNo(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn an_index_is_kept() {
        let mut indices = Indices::default();
        let uid = VersionUid::from_bytes([1; 16]);
        let (version, name) = (indices.of_version(uid), indices.of_name("a"));
        assert_ne!(version, name);
        assert_ne!(indices.of_name("b"), name);
        assert_eq!((indices.of_version(uid), indices.of_name("a")), (version, name));
    }
}
