//! What a worker does: one process after the other, some of them killed.

use std::process::Stdio;
use std::sync::MutexGuard;
use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::ledger::{Content, Ledger};
use super::{HOSTS, Siege};
use crate::support::{Run, run_of};

const BLOCK: usize = 16 << 10;
/// How many blocks a volume has at most.
const BLOCKS_MAX: usize = 192;
/// How many blocks a large one has: some packs.
const LARGE_BLOCKS: std::ops::Range<usize> = 4096..7000;
/// How many versions are left to grow old; beyond that more are removed.
const VERSIONS_MAX: usize = 12;

/// One of those who work at once.
pub struct Worker<'a> {
    pub siege: &'a Siege,
    pub number: usize,
    pub rng: ChaCha8Rng,
}

/// How a process ended.
enum End {
    Killed,
    Ended { process: u32, run: Run },
}

impl Worker<'_> {
    /// Does something at random.
    pub fn act(&mut self) {
        if self.ledger().promised().len() > VERSIONS_MAX && self.rng.random_bool(0.4) {
            return self.remove();
        }
        match self.rng.random_range(0..100) {
            0..30 => self.back_up(),
            30..40 => self.back_up_with_hints(),
            40..48 => self.go_on(),
            48..60 => self.remove(),
            60..78 => self.clean(),
            78..88 => self.restore(),
            88..92 => self.check(),
            92..95 => self.scrub(),
            95..98 => self.give_up(),
            _ => self.tag(),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.siege.ledger.lock().unwrap()
    }

    /// Runs the program on some host, and kills it now and then.
    fn run(&mut self, what: &'static str, arguments: &[&str], killed_percent: u32) -> End {
        let host = self.rng.random_range(0..HOSTS);
        let kill = self.rng.random_range(0..100) < killed_percent;
        // Most of them take some hundredths of a second, few some seconds.
        let factor = if what == "large" { 3.0 } else { 1.0 };
        let moment = Duration::from_secs_f64(factor * 10f64.powf(self.rng.random_range(-3.0..0.0)));
        let mut command = self.siege.command(host, arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let process = child.id();
        if kill {
            std::thread::sleep(moment);
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        if output.status.code().is_none() {
            self.ledger().count(what, 1);
            return End::Killed;
        }
        let run = run_of(output);
        self.ledger().count(what, if run.code == 0 { 0 } else { 2 });
        End::Ended { process, run }
    }

    fn refuse(&self, process: u32, run: &Run, allowed: &[i32], what: &str) {
        let is_allowed =
            allowed.contains(&run.code) || (self.ledger().is_given_up(process) && [1, 7, 20].contains(&run.code));
        assert!(is_allowed, "worker {}: {what}: {run:#?}", self.number);
    }

    fn path(&self, name: &str) -> String {
        self.siege.place.path(&format!("{name}-{}", self.number)).display().to_string()
    }

    /// Makes a volume, of parts that others have too. Now and then one is large enough for checkpoints.
    fn content(&mut self) -> Content {
        let blocks = if self.rng.random_range(0..9) == 0 {
            self.rng.random_range(LARGE_BLOCKS)
        } else {
            self.rng.random_range(1..BLOCKS_MAX)
        };
        let mut content = Content { length_bytes: blocks * BLOCK, parts: Vec::new() };
        let is_large = blocks > BLOCKS_MAX;
        let mut start = 0;
        while start < blocks {
            let end = blocks.min(start + self.rng.random_range(1..if is_large { 1024 } else { 48 }));
            // The same few contents come again and again, after the versions that had them are long removed.
            let seed = match self.rng.random_range(0..4) {
                0 => None,
                1 => Some(1_000_000 + self.siege.next()),
                _ if is_large => Some(1_000_000 + self.siege.next()),
                _ => Some(self.rng.random_range(0..12)),
            };
            content.parts.extend(seed.map(|seed| (start * BLOCK..end * BLOCK, seed)));
            start = end;
        }
        content
    }

    /// Notes what is to be stored, and writes the source.
    fn source(&mut self, content: Content) -> (String, String) {
        let snapshot = format!("s{}", self.siege.next());
        let source = self.path("source");
        std::fs::write(&source, content.bytes()).unwrap();
        self.ledger().note_content(&snapshot, content);
        (snapshot, source)
    }

    fn published(&self, end: End, snapshot: &str, allowed: &[i32], what: &str) {
        let End::Ended { process, run } = end else { return };
        if run.code == 0 {
            self.ledger().note_published(run.stdout.trim(), snapshot, process);
        } else {
            self.refuse(process, &run, allowed, what);
        }
    }

    fn back_up(&mut self) {
        let content = self.content();
        let is_large = content.length_bytes > BLOCKS_MAX * BLOCK;
        let (snapshot, source) = self.source(content);
        let name = format!("volume-{}", self.rng.random_range(0..4));
        // A large one is killed more often: it leaves something to continue.
        let (what, killed_percent) = if is_large { ("large", 80) } else { ("backup", 35) };
        let end = self.run(what, &["-m", "backup", "-s", &snapshot, &source, &name], killed_percent);
        self.published(end, &snapshot, &[], "backup");
    }

    /// Changes a version a little, and says where: the rest comes from the base without being read.
    fn back_up_with_hints(&mut self) {
        let promised = self.ledger().promised();
        let Some((base, of)) = promised.choose(&mut self.rng).cloned() else { return };
        let mut content = self.ledger().content(&of);
        let mut hints = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let start = self.rng.random_range(0..content.length_bytes / BLOCK) * BLOCK;
            let end = content.length_bytes.min(start + self.rng.random_range(1..8) * BLOCK);
            content.parts.push((start..end, self.rng.random_range(0..30)));
            hints.push(format!("{{\"offset\":{start},\"length\":{},\"exists\":true}}", end - start));
        }
        let file = self.path("hints");
        std::fs::write(&file, format!("[{}]", hints.join(","))).unwrap();
        let (snapshot, source) = self.source(content);
        let arguments = ["-m", "backup", "-s", &snapshot, "-r", &file, "-f", &base, &source, "hinted"];
        let end = self.run("hinted", &arguments, 35);
        // The base may be gone by now.
        let allowed: &[i32] = if self.ledger().is_promised(&base) { &[] } else { &[4] };
        self.published(end, &snapshot, allowed, "hinted backup");
    }

    /// Continues what a killed backup has left.
    fn go_on(&mut self) {
        let incomplete: Vec<_> =
            self.siege.versions().into_iter().filter(|version| version.state == "incomplete").collect();
        let Some(version) = incomplete.choose(&mut self.rng) else { return };
        let content = self.ledger().content(&version.snapshot);
        let source = self.path("source");
        std::fs::write(&source, content.bytes()).unwrap();
        let name = self.siege.ok(0, &["-ms", "ls", "-f", "name", "-s", &version.snapshot]);
        let Some(name) = name.lines().next() else { return };
        let arguments = ["-m", "backup", "--continue-version", &version.uid, &source, name];
        let end = self.run("continued", &arguments, 25);
        // Somebody else may be at it, have ended it, or have removed it.
        self.published(end, &version.snapshot, &[1, 2, 3, 4, 7], "continued backup");
    }

    fn remove(&mut self) {
        let versions = self.siege.versions();
        let Some(version) = versions.choose(&mut self.rng) else { return };
        self.ledger().note_leaving(&version.uid);
        match self.run("rm", &["rm", "-f", &version.uid], 15) {
            End::Ended { run, .. } if run.code == 0 => self.ledger().note_removed(&version.uid),
            End::Ended { process, run } => {
                self.refuse(process, &run, &[3, 4], "rm");
                if run.code == 3 {
                    self.ledger().note_kept(&version.uid);
                }
            }
            End::Killed => {}
        }
    }

    fn clean(&mut self) {
        let below = ["0", "75", "100"].choose(&mut self.rng).unwrap();
        if let End::Ended { process, run } = self.run("cleanup", &["cleanup", "--compact-below", below], 30) {
            // Another cleanup may be at work; a recheck may fail of a version whose lease was given up.
            let allowed: &[i32] = if self.ledger().has_given_up_any() { &[0, 7, 20] } else { &[0, 7] };
            self.refuse(process, &run, allowed, "cleanup");
        }
    }

    fn restore(&mut self) {
        let promised = self.ledger().promised();
        let Some((uid, snapshot)) = promised.choose(&mut self.rng).cloned() else { return };
        let target = self.path("out");
        let _ = std::fs::remove_file(&target);
        let End::Ended { process, run } = self.run("restore", &["restore", &uid, &target], 20) else { return };
        if run.code == 0 {
            let restored = std::fs::read(&target).unwrap();
            assert!(restored == self.ledger().content(&snapshot).bytes(), "{uid} ({snapshot}) differs");
        } else {
            // Of a version whose writer's lease was given up, some blocks may be gone.
            let is_promised = self.ledger().is_promised(&uid);
            let has_given_up_any = self.ledger().has_given_up_any();
            let allowed: &[i32] = match (is_promised, has_given_up_any) {
                (true, _) => &[],
                (false, false) => &[4],
                (false, true) => &[4, 20],
            };
            self.refuse(process, &run, allowed, "restore");
        }
    }

    fn check(&mut self) {
        let End::Ended { process, run } = self.run("check", &["--json", "check"], 10) else { return };
        if run.code == 20 && self.ledger().has_given_up_any() {
            // Only versions that nobody relies on may have lost something.
            let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
            for finding in report["findings"].as_array().unwrap() {
                let is_void = finding["meaning"].as_str().unwrap().contains("lease had been given up");
                let is_shown = is_void || finding["weight"] == "note" || self.ledger().is_given_up(process);
                assert!(is_shown, "{finding:#}");
            }
        } else {
            self.refuse(process, &run, &[0], "check");
        }
    }

    fn scrub(&mut self) {
        if !self.siege.has_scrub {
            return self.check();
        }
        if let End::Ended { process, run } = self.run("scrub", &["scrub", "--all"], 20) {
            let allowed: &[i32] = if self.ledger().has_given_up_any() { &[0, 4, 20] } else { &[0, 4] };
            self.refuse(process, &run, allowed, "scrub");
        }
    }

    /// Gives up a lease, of whoever it is, dead or alive.
    fn give_up(&mut self) {
        let leases = self.siege.ok(0, &["-ms", "leases", "-f", "lease,process"]);
        let leases: Vec<&str> = leases.lines().collect();
        let Some((lease, process)) = leases.choose(&mut self.rng).and_then(|line| line.split_once('|')) else { return };
        self.ledger().note_given_up(process.parse().unwrap());
        if let End::Ended { process, run } = self.run("give up", &["leases", "--give-up", lease], 10) {
            self.refuse(process, &run, &[0, 4], "leases --give-up");
        }
    }

    fn tag(&mut self) {
        let promised = self.ledger().promised();
        let Some((uid, _)) = promised.choose(&mut self.rng).cloned() else { return };
        if let End::Ended { process, run } = self.run("add-tag", &["add-tag", &uid, "seen"], 10) {
            let allowed: &[i32] = if self.ledger().is_promised(&uid) { &[0] } else { &[0, 4] };
            self.refuse(process, &run, allowed, "add-tag");
        }
    }
}
