//! What must be true of the repository, as far as somebody was told so.
//!
//! A version is promised when its backup has ended well, until somebody begins to remove it. One whose job was killed, or
//! whose lease somebody gave up, may be there or not; if it is valid, it must be right.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use backy_device::null::Pattern;

/// What a source holds, as a recipe: large ones are told in few words.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub length_bytes: usize,
    /// Parts and what is in them, later ones over earlier ones; all else is zero.
    pub parts: Vec<(Range<usize>, u64)>,
}

impl Content {
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length_bytes];
        for (range, seed) in &self.parts {
            Pattern::Half.fill(*seed, 0, &mut bytes[range.clone()]);
        }
        bytes
    }
}

/// What is known.
#[derive(Default)]
pub struct Ledger {
    /// The content of each source that was ever backed up, by the snapshot's name.
    contents: BTreeMap<String, Content>,
    /// Versions whose backups ended well.
    published: BTreeMap<String, Published>,
    /// Versions whose removal was begun, and how many removals of them were begun and not refused.
    leaving: BTreeMap<String, u32>,
    /// Versions whose removal has ended well.
    removed: BTreeSet<String>,
    /// Processes whose lease somebody may have given up.
    given_up: BTreeSet<u32>,
    /// How often something was done: ended well, killed, refused.
    counts: BTreeMap<&'static str, [u32; 3]>,
}

struct Published {
    snapshot: String,
    process: u32,
}

impl Ledger {
    pub fn note_content(&mut self, snapshot: &str, content: Content) {
        self.contents.insert(snapshot.to_owned(), content);
    }

    pub fn content(&self, snapshot: &str) -> Content {
        self.contents.get(snapshot).unwrap().clone()
    }

    pub fn note_published(&mut self, uid: &str, snapshot: &str, process: u32) {
        self.published.insert(uid.to_owned(), Published { snapshot: snapshot.to_owned(), process });
    }

    /// Returns the versions that are promised, and the snapshots that they are of.
    pub fn promised(&self) -> Vec<(String, String)> {
        let is_kept = |(uid, _): &(&String, &Published)| self.is_promised(uid);
        self.published.iter().filter(is_kept).map(|(uid, version)| (uid.clone(), version.snapshot.clone())).collect()
    }

    pub fn is_promised(&self, uid: &str) -> bool {
        let is_sure = |version: &Published| !self.given_up.contains(&version.process);
        !self.leaving.contains_key(uid) && self.published.get(uid).is_some_and(is_sure)
    }

    pub fn note_leaving(&mut self, uid: &str) {
        *self.leaving.entry(uid.to_owned()).or_default() += 1;
    }

    /// One removal was refused: it changed nothing. Another one, killed or at work, still may have.
    pub fn note_kept(&mut self, uid: &str) {
        let removals = self.leaving.get_mut(uid).unwrap();
        *removals -= 1;
        if *removals == 0 {
            self.leaving.remove(uid);
        }
    }

    pub fn note_removed(&mut self, uid: &str) {
        self.removed.insert(uid.to_owned());
    }

    pub fn note_given_up(&mut self, process: u32) {
        self.given_up.insert(process);
    }

    pub fn is_given_up(&self, process: u32) -> bool {
        self.given_up.contains(&process)
    }

    pub fn has_given_up_any(&self) -> bool {
        !self.given_up.is_empty()
    }

    pub fn count(&mut self, what: &'static str, outcome: usize) {
        self.counts.entry(what).or_default()[outcome] += 1;
    }

    pub fn say(&self) {
        for (what, [good, killed, refused]) in &self.counts {
            println!("{what:<10} {good:>5} ended well, {killed:>5} killed, {refused:>5} refused");
        }
        println!(
            "{} published, {} removed, {} promised",
            self.published.len(),
            self.removed.len(),
            self.promised().len()
        );
    }

    pub fn refuse_removed(&self, uid: &str) {
        assert!(!self.removed.contains(uid), "{uid} was removed, and is listed");
    }

    pub fn refuse_promised(&self, uid: &str, state: &str) {
        assert!(!self.is_promised(uid), "{uid} was published, and is {state}");
    }

    pub fn refuse_lost(&self, there: &[String]) {
        for (uid, snapshot) in self.promised() {
            assert!(there.contains(&uid), "{uid} ({snapshot}) was published, and is gone");
        }
    }
}
