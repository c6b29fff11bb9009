//! What `stat` says of something in the mount.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backy_core::environment::Timestamp;
use fuser::{FileAttr, FileType};

use super::disk::Disk;
use super::infos::INFOS;
use super::node::Node;
use super::tree::Tree;

/// The page of a file, in bytes.
const PAGE_BYTES: u32 = 4096;
/// The unit of `st_blocks`, in bytes.
const UNIT_BYTES: u64 = 512;

/// Who owns everything, and who else may look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    /// The user.
    pub(super) uid: u32,
    /// The group.
    pub(super) gid: u32,
    /// Other users may read all, and write to `data`.
    pub(super) allows_others: bool,
}

impl Owner {
    fn mode(self, node: Node) -> u16 {
        let (own, others) = match node {
            Node::Data(_) => (0o600, 0o666),
            Node::Info(_, place) if INFOS.get(place).is_some_and(super::infos::Info::is_writable) => (0o600, 0o644),
            Node::Info(..) => (0o400, 0o444),
            Node::VersionLink(_) | Node::DateLink(_) | Node::LatestLink(_) => (0o777, 0o777),
            _ => (0o500, 0o555),
        };
        if self.allows_others { others } else { own }
    }
}

/// Returns the attributes of a node; none if it is not there. `disk` is its content, if it is open.
pub(super) fn of_node(node: Node, tree: &Tree, disk: Option<&Disk>, owner: Owner) -> Option<FileAttr> {
    // What is open stays, though its version may be gone.
    if disk.is_none() && !tree.contains(node) {
        return None;
    }
    let size = match node {
        Node::Data(_) => disk.map(Disk::size_bytes).or_else(|| Some(tree.version(node)?.manifest.size_bytes))?,
        Node::Info(_, place) => INFOS.get(place)?.content(tree.version(node)?).len() as u64,
        link if link.kind() == FileType::Symlink => tree.link_target(link)?.len() as u64,
        _ => 0,
    };
    let changed = time_of(disk.map_or_else(|| tree.made(node), Disk::changed));
    let nlink = if node.kind() == FileType::Directory { tree.folder_count(node).saturating_add(2) } else { 1 };
    Some(FileAttr {
        ino: node.inode(),
        size,
        blocks: units(node, size),
        atime: changed,
        mtime: changed,
        ctime: changed,
        crtime: changed,
        kind: node.kind(),
        perm: owner.mode(node),
        nlink: u32::try_from(nlink).unwrap_or(u32::MAX),
        uid: owner.uid,
        gid: owner.gid,
        rdev: 0,
        blksize: PAGE_BYTES,
        flags: 0,
    })
}

/// How much of a version is data is not known without reading its map. A page is left out, so that those who ask
/// whether the file may have holes - `cp`, `tar` - look for them, and do not copy terabytes of zeros.
fn units(node: Node, size_bytes: u64) -> u64 {
    let units = size_bytes.div_ceil(UNIT_BYTES);
    let page = u64::from(PAGE_BYTES) / UNIT_BYTES;
    if matches!(node, Node::Data(_)) && units > page { units - page } else { units }
}

fn time_of(moment: Timestamp) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(moment.milliseconds)).unwrap_or(UNIX_EPOCH)
}
