//! Random rounds of an image file's life through the program, compared byte by byte with a model that is a plain `Vec`.
//!
//! `BACKY2_SEED` repeats a run, `BACKY2_ROUNDS` chooses the number of rounds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod buckets;
mod disks;
mod support;

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{FallocateFlags, fallocate};
use support::Place;

const VOLUME_BYTES_MAX: usize = 6 << 20;
const BLOCK_BYTES: usize = 4096;

/// What a hint says.
#[derive(Clone, Debug)]
struct Hint {
    range: Range<usize>,
    exists: bool,
}

/// A version and what it must contain.
struct Known {
    uid: String,
    bytes: Vec<u8>,
    /// What has changed on the volume since.
    hints: Vec<Hint>,
}

struct Life {
    rng: ChaCha8Rng,
    place: Place,
    file: File,
    /// What is in the file.
    model: Vec<u8>,
    known: Vec<Known>,
}

impl Life {
    fn new(seed: u64, place: Place) -> Life {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(place.path("disk")).unwrap();
        file.set_len(2 << 20).unwrap();
        Life { rng: ChaCha8Rng::seed_from_u64(seed), place, file, model: vec![0; 2 << 20], known: Vec::new() }
    }

    fn range(&mut self) -> Range<usize> {
        let start = self.rng.random_range(0..=self.model.len());
        let longest = if self.rng.random_bool(0.2) { 1 << 20 } else { 20_000 };
        let end = (start + self.rng.random_range(0..=longest)).min(self.model.len());
        if self.rng.random_bool(0.3) { start & !(BLOCK_BYTES - 1)..end & !(BLOCK_BYTES - 1) } else { start..end }
    }

    fn hint(&mut self, range: &Range<usize>, exists: bool) {
        for known in &mut self.known {
            known.hints.push(Hint { range: range.clone(), exists });
        }
    }

    fn write(&mut self, range: Range<usize>) {
        let bytes = &mut self.model[range.clone()];
        match self.rng.random_range(0..3) {
            0 => bytes.fill(self.rng.random()),
            1 if range.len() >= 2 * BLOCK_BYTES => {
                // What is there twice, and at another alignment too.
                let (first, second) = bytes.split_at_mut(range.len() / 2);
                self.rng.fill_bytes(first);
                second[..first.len()].copy_from_slice(first);
            }
            _ => self.rng.fill_bytes(bytes),
        }
        self.file.write_all_at(&self.model[range.clone()], range.start as u64).unwrap();
    }

    fn discard(&mut self, range: Range<usize>) {
        self.model[range.clone()].fill(0);
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if range.is_empty() || fallocate(&self.file, flags, range.start as u64, range.len() as u64).is_ok() {
            return;
        }
        self.file.write_all_at(&self.model[range.clone()], range.start as u64).unwrap();
    }

    fn resize(&mut self, size: usize) {
        let old = self.model.len();
        self.model.resize(size, 0);
        self.file.set_len(size as u64).unwrap();
        // What was cut off is lost, also if the volume grows again.
        self.hint(&(size.min(old)..old), true);
    }

    fn change(&mut self) {
        let range = self.range();
        let size = self.model.len();
        match self.rng.random_range(0..10) {
            0..5 => {
                self.write(range.clone());
                self.hint(&range, true);
            }
            5..8 => {
                self.discard(range.clone());
                self.hint(&range, false);
            }
            8 => {
                // A grown volume has no hints for its new tail, which may hold anything.
                let more = self.rng.random_range(0..150_000);
                self.resize((size + more).min(VOLUME_BYTES_MAX));
                if self.rng.random_bool(0.7) {
                    self.write(size..self.model.len());
                }
            }
            _ => {
                let less = self.rng.random_range(0..100_000).min(size);
                self.resize(size - less);
            }
        }
    }

    /// Writes hints as `rbd diff` does, in either of the ways that Ceph has had.
    fn write_hints(&mut self, hints: &[Hint]) {
        let size = self.model.len();
        let mut elements = Vec::new();
        for Hint { range, exists } in hints {
            let range = range.start.min(size)..range.end.min(size);
            let quote = if self.rng.random_bool(0.5) { "\"" } else { "" };
            if !range.is_empty() || self.rng.random_bool(0.1) {
                let (offset, length) = (range.start, range.len());
                elements.push(format!("{{\"offset\":{offset},\"length\":{length},\"exists\":{quote}{exists}{quote}}}"));
            }
        }
        self.place.write("hints", format!("[{}]\n", elements.join(",")).as_bytes());
    }

    /// Returns the whole volume as hints that need no base.
    fn hints_of_all(&self) -> Vec<Hint> {
        let blocks = self.model.chunks(BLOCK_BYTES).enumerate();
        let hint = |(number, block): (usize, &[u8])| Hint {
            range: number * BLOCK_BYTES..number * BLOCK_BYTES + block.len(),
            exists: block.iter().any(|byte| *byte != 0),
        };
        blocks.map(hint).collect()
    }

    fn backup(&mut self) {
        let mut arguments = vec!["-b", "4KiB"];
        let based_on;
        match self.rng.random_range(0..10) {
            0..7 if !self.known.is_empty() => {
                let index = self.rng.random_range(0..self.known.len());
                let hints = self.known[index].hints.clone();
                self.write_hints(&hints);
                arguments.extend(["-r", "hints"]);
                // The newest is the base by itself.
                if index + 1 < self.known.len() || self.rng.random_bool(0.5) {
                    based_on = self.known[index].uid.clone();
                    arguments.extend(["-f", &based_on]);
                }
            }
            7 => {
                let hints = self.hints_of_all();
                self.write_hints(&hints);
                arguments.extend(["-r", "hints", "-f", "none", "--empty-hints-ok"]);
            }
            _ => {}
        }
        arguments.extend(["--audit", ["0", "0.5", "20"][self.rng.random_range(0..3)]]);
        if self.rng.random_bool(0.2) {
            arguments.extend(["--verify", "100"]);
        }
        arguments.extend(["disk", "vm"]);
        // Ends with another code if true hints are called wrong, or the finished version differs from the source.
        let uid = self.place.backup(&arguments);
        self.known.push(Known { uid, bytes: self.model.clone(), hints: Vec::new() });
    }

    fn remove_one(&mut self) {
        let index = self.rng.random_range(0..self.known.len());
        let gone = self.known.remove(index);
        self.place.ok(&["rm", "-f", &gone.uid]);
        self.place.fails(4, &["restore", &gone.uid, "gone"]);
        assert!(!self.place.path("gone").exists());
    }

    fn restore(&mut self, index: usize) {
        let size = self.known[index].bytes.len();
        let mut old = Vec::new();
        let options: &[&str] = match self.rng.random_range(0..6) {
            0 => &[],
            1 => &["-s"],
            2 => {
                old = vec![0; size + self.rng.random_range(0..2) * 10_000];
                &["-f", "-s", "--target-is-zeroed"]
            }
            way => {
                // A dirty target, like the version in parts; what lies behind the version's end stays.
                old = self.model.clone();
                let reach = size.max(self.rng.random_range(0..=VOLUME_BYTES_MAX));
                old.resize(reach, 0xee);
                if way == 3 { &["-f"] } else { &["-f", "--delta"] }
            }
        };
        let known = &self.known[index];
        let name = format!("out-{}", options.len());
        let _ = std::fs::remove_file(self.place.path(&name));
        if options.contains(&"-f") {
            self.place.write(&name, &old);
        }
        let mut arguments = vec!["-m", "restore"];
        arguments.extend(options);
        arguments.extend([known.uid.as_str(), &name]);
        self.place.ok(&arguments);
        let restored = self.place.read(&name);
        let (content, behind) = restored.split_at(size.min(restored.len()));
        assert!(content == known.bytes, "{arguments:?} differs");
        assert!(behind == &old[size.min(old.len())..], "{arguments:?} does not end where the version does");
    }

    fn check_list(&self) {
        let expected: Vec<String> =
            self.known.iter().map(|known| format!("{}|1|{}\n", known.uid, known.bytes.len())).collect();
        assert_eq!(self.place.ok(&["-ms", "ls", "-f", "uid,valid,size_bytes"]), expected.concat());
    }
}

#[test]
fn every_round_restores_what_was_there() {
    live(disks::place_in(&disks::working_folder(1 << 30)), if disks::is_long() { 200 } else { 25 });
}

#[test]
fn every_round_restores_what_was_there_in_a_bucket() {
    let bucket = buckets::Bucket::new();
    let place = bucket.place_in(&disks::working_folder(1 << 30), &bucket.endpoint, "");
    place.ok(&["init"]);
    live(place, if disks::is_long() { 200 } else { 8 });
}

fn live(place: Place, rounds: usize) {
    let given = std::env::var("BACKY2_ROUNDS").ok().map(|rounds| rounds.parse().unwrap());
    let mut life = Life::new(disks::seed(), place);
    for round in 0..given.unwrap_or(rounds) {
        println!("round {round}");
        for _ in 0..life.rng.random_range(0..8) {
            life.change();
        }
        life.backup();
        if life.known.len() > 6 || life.rng.random_bool(0.1) {
            life.remove_one();
        }
        life.check_list();
        if let Some(newest) = life.known.len().checked_sub(1) {
            life.restore(newest);
            let any = life.rng.random_range(0..=newest);
            life.restore(any);
        }
        // The local state may be lost at any time.
        if life.rng.random_bool(0.1) {
            std::fs::remove_dir_all(life.place.path("state")).unwrap();
        }
    }
    assert_eq!(life.place.read("disk"), life.model, "the model is not the file");
    for index in 0..life.known.len() {
        life.restore(index);
    }
}
