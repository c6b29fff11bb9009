//! What every version must hold: plain bytes, by the address of the source that the version names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backy_core::Result;
use backy_core::hint::{Hint, HintState};
use backy_core::ids::VersionUid;
use backy_core::records::manifest::Manifest;
use backy_core::units::ByteRange;
use backy_device::Source;
use backy_testkit::device::MemoryDevice;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::support::noise;

pub const BLOCK: usize = 4096;
/// Blocks of a volume when it is new.
const BLOCKS: usize = 60;
/// Contents that volumes share: what is removed from one comes again in another.
const SHARED: u64 = 90;

/// The volumes, their past contents, and what became of the versions.
#[derive(Default)]
pub struct Model {
    volumes: BTreeMap<String, Vec<u8>>,
    contents: Vec<Arc<Vec<u8>>>,
    fresh: u64,
    /// Versions of which a job has said that they are published.
    pub published: BTreeSet<VersionUid>,
    /// Versions that somebody has tried to remove.
    pub removed: BTreeSet<VersionUid>,
    /// Versions of which a job has said that they are removed.
    pub gone: BTreeSet<VersionUid>,
    /// All versions that were ever seen.
    pub known: Vec<VersionUid>,
    /// Tags that a job has said to be added.
    pub tags: BTreeMap<VersionUid, BTreeSet<String>>,
    /// Published versions that a job has said to be protected, until somebody begins to take that back.
    pub protected: BTreeSet<VersionUid>,
    /// How many removals of a protected version are at work.
    removing: BTreeMap<VersionUid, u64>,
    /// How often somebody has begun to take protection back, and how often that has ended.
    unprotecting: BTreeMap<VersionUid, (u64, u64)>,
}

/// What was known when a protection was begun.
pub struct Protecting {
    uid: VersionUid,
    /// How often protection was taken back before; none if somebody is at it.
    before: Option<u64>,
}

impl Model {
    /// Changes a volume and returns a source that holds what it is now.
    pub fn next_content(&mut self, name: &str, random: &mut ChaCha8Rng) -> Content {
        let volume = self.volumes.entry(name.to_owned()).or_insert_with(|| vec![0; BLOCKS * BLOCK]);
        if random.random_bool(0.1) {
            let blocks = random.random_range(BLOCKS / 2..BLOCKS * 3 / 2);
            volume.resize(blocks * BLOCK - random.random_range(0..2) * 100, 0);
        }
        let is_first = self.contents.is_empty();
        for _ in 0..if is_first { 20 } else { random.random_range(0..8) } {
            let start = random.random_range(0..volume.len() / BLOCK);
            let length = random.random_range(1..12).min(volume.len() / BLOCK - start);
            let kind = random.random_range(0..10);
            let shared = random.random_range(0..SHARED);
            for block in 0..length as u64 {
                let at = (start + block as usize) * BLOCK;
                let bytes = match kind {
                    0 => vec![0; BLOCK],
                    1..5 => {
                        self.fresh += 1;
                        noise(1000 + self.fresh, BLOCK)
                    }
                    _ => noise((shared + block) % SHARED, BLOCK),
                };
                volume[at..at + BLOCK].copy_from_slice(&bytes);
            }
        }
        self.contents.push(Arc::new(volume.clone()));
        self.content(self.contents.len() - 1)
    }

    fn content(&self, number: usize) -> Content {
        let bytes = self.contents[number].clone();
        Content { number, device: MemoryDevice::with_bytes(&bytes), bytes }
    }

    /// Returns what a version must hold.
    pub fn content_of(&self, version: &Manifest) -> Content {
        let number = version.origin.source_url.strip_prefix("simulated://").expect("an address of ours");
        self.content(number.parse().unwrap())
    }

    /// Begins to protect a version.
    pub fn begin_protection(&self, uid: VersionUid) -> Protecting {
        let (begun, ended) = self.unprotecting.get(&uid).copied().unwrap_or_default();
        Protecting { uid, before: (begun == ended).then_some(begun) }
    }

    /// Notes that a version was said to be protected. It counts where nobody took it back meanwhile, and nobody had begun to
    /// remove the version: a removal that has failed may come later.
    pub fn end_protection(&mut self, protecting: &Protecting) {
        let uid = protecting.uid;
        let (begun, _) = self.unprotecting.get(&uid).copied().unwrap_or_default();
        if protecting.before == Some(begun) && self.published.contains(&uid) && !self.removed.contains(&uid) {
            self.protected.insert(uid);
        }
    }

    /// Begins to take protection back: from now on a removal may win.
    pub fn begin_unprotection(&mut self, uid: VersionUid) {
        self.unprotecting.entry(uid).or_default().0 += 1;
        self.protected.remove(&uid);
        if self.removing.get(&uid).is_some_and(|&count| count > 0) {
            self.removed.insert(uid);
        }
    }

    /// Notes that whoever took protection back has ended, well or not.
    pub fn end_unprotection(&mut self, uid: VersionUid) {
        self.unprotecting.entry(uid).or_default().1 += 1;
    }

    /// Begins to remove a version; says whether it is protected.
    pub fn begin_removal(&mut self, uid: VersionUid) -> bool {
        let is_protected = self.protected.contains(&uid);
        if is_protected {
            *self.removing.entry(uid).or_default() += 1;
        } else {
            self.removed.insert(uid);
        }
        is_protected
    }

    /// Notes the end of a removal. One of a protected version must have been refused.
    pub fn end_removal(&mut self, uid: VersionUid, was_protected: bool, is_done: bool) {
        if is_done {
            self.gone.insert(uid);
        }
        if was_protected {
            *self.removing.entry(uid).or_default() -= 1;
            assert!(!is_done || self.removed.contains(&uid), "version {uid} was protected, and is removed");
        }
    }

    /// Notes a version that was seen.
    pub fn see(&mut self, uid: VersionUid) {
        if !self.known.contains(&uid) {
            self.known.push(uid);
        }
    }
}

/// What a volume was at one moment. As a source it is the only one of its address.
#[derive(Clone)]
pub struct Content {
    number: usize,
    pub bytes: Arc<Vec<u8>>,
    device: MemoryDevice,
}

impl Content {
    /// Returns true hints from `base` to this.
    pub fn hints_since(&self, base: &Content) -> Vec<Hint> {
        let mut hints = Vec::new();
        for (number, block) in self.bytes.chunks(BLOCK).enumerate() {
            let offset = number * BLOCK;
            if base.bytes.get(offset..offset + block.len()) != Some(block) {
                let range = ByteRange { offset_bytes: offset as u64, length_bytes: block.len() as u64 };
                let is_zero = block.iter().all(|&byte| byte == 0);
                hints.push(Hint { range, state: if is_zero { HintState::Discarded } else { HintState::Changed } });
            }
        }
        hints
    }
}

impl Source for Content {
    fn size_bytes(&self) -> u64 {
        Source::size_bytes(&self.device)
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<()> {
        self.device.read_at(offset_bytes, buffer)
    }

    fn data_ranges(&self, range: ByteRange) -> Result<Vec<ByteRange>> {
        self.device.data_ranges(range)
    }

    fn check_unchanged(&self) -> Result<()> {
        self.device.check_unchanged()
    }

    fn url(&self) -> String {
        format!("simulated://{}", self.number)
    }
}
