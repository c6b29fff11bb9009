//! `kill -9` and Ctrl-C at random moments of backups and restores: nothing half is ever published, and it goes on.
//!
//! `BACKY2_SEED` repeats the data and the plan; when exactly a signal arrives is up to the machine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod disks;
mod support;

use std::collections::BTreeMap;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backy_device::null::Pattern;
use disks::{fast_folder, is_long, listed, place_in, run_named, seed};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use support::{Place, Run, run_of};

const IMAGE_BYTES: usize = 128 << 20;

/// How many images a repository sees before another one is made, so that the disk does not fill.
const IMAGES_PER_REPOSITORY: u32 = 6;

/// Returns an image that compresses to half, with a stretch of zeros; an eighth is the same whatever `content` is.
fn image(content: u64) -> Vec<u8> {
    let mut image = vec![0; IMAGE_BYTES];
    let (common, own) = image.split_at_mut(IMAGE_BYTES / 8);
    Pattern::Half.fill(0, 0, common);
    Pattern::Half.fill(content, IMAGE_BYTES as u64 / 8, own);
    image[IMAGE_BYTES / 2..IMAGE_BYTES / 2 + (8 << 20)].fill(0);
    image
}

/// When to kill.
#[derive(Clone, Copy, Debug)]
enum When {
    /// So long after the start.
    After(Duration),
    /// So long after there are so many packs more than at the start.
    Packs(usize, Duration),
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Killed,
    /// It was done before.
    Finished,
    /// A restore that should go on had not noted that it began.
    NothingNoted,
}

/// A repository in which jobs are killed.
struct Victim {
    place: Place,
    rng: ChaCha8Rng,
    backup_time: Duration,
    restore_time: Duration,
    /// The content of each complete version.
    published: BTreeMap<String, u64>,
    kills: u32,
    continued: u32,
}

impl Victim {
    /// Makes a repository, with a first image, and measures how long jobs take.
    fn new(rng: ChaCha8Rng) -> Victim {
        let place = place_in(&fast_folder(4 << 30));
        place.configure("checkpoint_interval = 1\n");
        place.write("disk", &image(1));
        let mut victim = Victim {
            place,
            rng,
            backup_time: Duration::ZERO,
            restore_time: Duration::ZERO,
            published: BTreeMap::new(),
            kills: 0,
            continued: 0,
        };
        let start = Instant::now();
        let uid = victim.place.backup(&["disk", "vm"]);
        victim.backup_time = start.elapsed();
        victim.published.insert(uid, 1);
        // The very first one warms up; the time of one with new data is what counts.
        victim.place.write("disk", &image(2));
        let start = Instant::now();
        let uid = victim.place.backup(&["disk", "vm"]);
        victim.backup_time = victim.backup_time.min(start.elapsed());
        victim.published.insert(uid, 2);
        let start = Instant::now();
        victim.place.ok(&["restore", "vm@latest", "out"]);
        victim.restore_time = start.elapsed();
        println!("a backup takes {:?}, a restore {:?}", victim.backup_time, victim.restore_time);
        victim
    }

    /// Returns a moment in the course of a job, now and then one at its very beginning or end.
    fn moment(&mut self, job: Duration) -> Duration {
        match self.rng.random_range(0..6) {
            0 => job.mul_f64(self.rng.random_range(0.0..0.15)),
            1 => job.mul_f64(self.rng.random_range(0.85..1.1)),
            _ => job.mul_f64(self.rng.random_range(0.0..1.05)),
        }
    }

    /// Returns when to kill a backup. By the clock alone, few would have stored what can be continued.
    fn moment_of_backup(&mut self) -> When {
        if self.rng.random_bool(0.5) {
            return When::After(self.moment(self.backup_time));
        }
        let rest = self.backup_time.mul_f64(self.rng.random_range(0.0..0.3));
        When::Packs(self.rng.random_range(1..3), rest)
    }

    fn kill(&mut self, arguments: &[&str], when: When) -> End {
        let mut command = self.place.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let before = self.packs();
        let mut child = command.spawn().unwrap();
        let pid = Pid::from_child(&child);
        let mut wait = |wanted: Duration| {
            let start = Instant::now();
            while start.elapsed() < wanted && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_micros(300).min(wanted));
            }
            child.try_wait().unwrap().is_some()
        };
        let mut has_ended = false;
        match when {
            When::After(time) => has_ended = wait(time),
            When::Packs(packs, rest) => {
                while !has_ended && self.packs() < before + packs {
                    has_ended = wait(Duration::from_micros(1));
                }
                has_ended = has_ended || wait(rest);
            }
        }
        if !has_ended && self.rng.random_bool(0.5) {
            kill_process(pid, Signal::KILL).unwrap();
        } else if !has_ended {
            kill_process_group(pid, Signal::KILL).unwrap();
        }
        let status = child.wait().unwrap();
        println!("  {arguments:?}, {when:?}: {status}");
        if status.signal() == Some(9) {
            self.kills += 1;
            return End::Killed;
        }
        if status.code() == Some(4) && arguments.starts_with(&["restore", "--continue"]) {
            return End::NothingNoted;
        }
        assert!(status.success(), "{arguments:?}: {status}");
        End::Finished
    }

    fn packs(&self) -> usize {
        self.place.files("repository/packs").len()
    }

    /// Checks that the list is the expected one; returns the version that is new, and the incomplete ones.
    fn look(&self) -> (Option<String>, Vec<String>) {
        let mut complete = Vec::new();
        let mut incomplete = Vec::new();
        for (uid, state) in listed(&self.place) {
            match state.as_str() {
                "valid" => complete.push(uid),
                "incomplete" => incomplete.push(uid),
                other => panic!("{uid} is {other}"),
            }
        }
        assert!(self.published.keys().all(|uid| complete.contains(uid)), "a version is gone: {complete:?}");
        complete.retain(|uid| !self.published.contains_key(uid));
        assert!(complete.len() <= 1, "{complete:?}");
        (complete.pop(), incomplete)
    }

    /// Backs up an image, with kills; returns the version.
    fn back_up(&mut self, content: u64) -> String {
        self.place.write("disk", &image(content));
        let mut kills_to_come = self.rng.random_range(1..=4);
        loop {
            let (_, incomplete) = self.look();
            let newest = incomplete.last().cloned().unwrap_or_default();
            let arguments: &[&str] = match self.rng.random_range(0..5) {
                _ if incomplete.is_empty() => {
                    self.place.fails(4, &["backup", "--continue", "disk", "vm"]);
                    &["backup", "disk", "vm"]
                }
                0 => &["backup", "disk", "vm"],
                1 | 2 => &["backup", "--continue", "disk", "vm"],
                _ => &["backup", "--continue-version", &newest, "disk", "vm"],
            };
            self.continued += u32::from(arguments.len() > 3);
            let expects_uid = arguments.contains(&"--continue-version").then_some(&newest);
            let end = if kills_to_come > 0 {
                kills_to_come -= 1;
                let when = self.moment_of_backup();
                self.kill(arguments, when)
            } else {
                self.place.ok(arguments);
                End::Finished
            };
            // A kill may come when all is published, and only the good-bye is missing.
            let (published, incomplete) = self.look();
            let Some(uid) = published else {
                assert_eq!(end, End::Killed, "it ended well, and nothing was published");
                continue;
            };
            assert!(!incomplete.contains(&uid));
            // What was continued has become another version, and is gone; a kill may come in between.
            let is_left = expects_uid.is_some_and(|expected| incomplete.contains(expected));
            assert!(end == End::Killed || !is_left, "what it went on from is still there");
            self.published.insert(uid.clone(), content);
            for uid in incomplete {
                self.place.fails(3, &["restore", &uid, "never"]);
                self.place.ok(&["rm", "-f", &uid]);
            }
            return uid;
        }
    }

    /// Restores a version, with kills, and compares all of it.
    fn restore(&mut self, uid: &str, content: u64) {
        let image = image(content);
        // Another version may lie on the target.
        if self.rng.random_bool(0.3) {
            let _ = std::fs::remove_file(self.place.path("out"));
        }
        let begin = |place: &Place, is_delta: bool| -> Vec<&str> {
            match (place.path("out").exists(), is_delta) {
                (false, _) => vec!["restore", uid, "out"],
                (true, false) => vec!["restore", "-f", uid, "out"],
                (true, true) => vec!["restore", "-f", "--delta", uid, "out"],
            }
        };
        let is_delta = self.rng.random_bool(0.5);
        let mut arguments = begin(&self.place, is_delta);
        let mut is_finished = false;
        for _ in 0..self.rng.random_range(1..=3) {
            let moment = self.moment(self.restore_time);
            match self.kill(&arguments, When::After(moment)) {
                End::Killed => arguments = vec!["restore", "--continue", uid, "out"],
                End::NothingNoted => arguments = begin(&self.place, is_delta),
                End::Finished => is_finished = true,
            }
            if is_finished {
                break;
            }
        }
        if !is_finished {
            let run = self.place.run(&["restore", "--continue", uid, "out"]);
            assert!([0, 4].contains(&run.code), "{run:#?}");
            let is_done = std::fs::read(self.place.path("out")).is_ok_and(|restored| restored == image);
            if run.code == 4 && !is_done {
                // Killed before it noted that it began; when all was done but the good-bye, nothing is noted either.
                self.place.ok(&begin(&self.place, is_delta));
            }
        }
        assert!(self.place.read("out") == image, "version {uid} differs");
    }

    /// Restores every version once more.
    fn check_all(&self) {
        let (published, incomplete) = self.look();
        assert_eq!((published, incomplete), (None, vec![]));
        for (uid, content) in &self.published {
            self.place.ok(&["restore", "-f", uid, "out"]);
            assert!(self.place.read("out") == image(*content), "version {uid} differs");
        }
    }
}

#[test]
fn killed_jobs_go_on_and_publish_nothing_half() {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let wanted = if is_long() { 100 } else { 12 };
    let (mut kills, mut continued, mut content) = (0, 0, 2);
    while kills < wanted {
        let mut victim = Victim::new(rng.clone());
        for _ in 1..IMAGES_PER_REPOSITORY {
            content += 1;
            let uid = victim.back_up(content);
            victim.restore(&uid, content);
            if kills + victim.kills >= wanted {
                break;
            }
        }
        victim.check_all();
        kills += victim.kills;
        continued += victim.continued;
        rng = victim.rng;
    }
    println!("{kills} kills, {continued} backups continued");
    assert!(continued > 0 || !is_long(), "no kill left anything to continue");
}

/// Sends SIGINT at `moment`, and returns how the program ended; `None` if the signal itself ended it.
fn interrupt(mut command: Command, moment: Instant) -> Option<Run> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    match output.status.signal() {
        Some(signal) => {
            assert_eq!(signal, 2, "{output:#?}");
            None
        }
        None => Some(run_of(output)),
    }
}

#[test]
fn interrupted_jobs_go_on_by_the_command_that_they_print() {
    let mut victim = Victim::new(ChaCha8Rng::seed_from_u64(seed()));
    let rounds = if is_long() { 20 } else { 3 };
    let mut continued = 0;
    // On a machine with much else to do, some rounds more may be needed to hit the middle of a job.
    for round in 0..rounds + 10 {
        if round >= rounds && continued > 0 {
            break;
        }
        let content = 100 + round;
        victim.place.write("disk", &image(content));
        let moment = Instant::now() + victim.moment(victim.backup_time).mul_f64(0.8);
        let run = interrupt(victim.place.command(&["backup", "disk", "vm"]), moment);
        println!("backup: {run:?}");
        match run {
            Some(run) if run.code == 130 && !run.stderr.contains("nothing was stored that could be continued") => {
                let (published, incomplete) = victim.look();
                assert_eq!((published, incomplete.len()), (None, 1));
                continued += 1;
                let run = run_named(&victim.place, &run.stderr, "to continue, run: ");
                assert_eq!(run.code, 0, "{run:#?}");
            }
            Some(run) if run.code == 0 => {}
            Some(run) if run.code != 130 => panic!("{run:#?}"),
            _ => {
                assert_eq!(victim.look(), (None, vec![]));
                victim.place.backup(&["disk", "vm"]);
            }
        }
        let (published, incomplete) = victim.look();
        assert_eq!(incomplete, Vec::<String>::new());
        let uid = published.unwrap();
        victim.published.insert(uid.clone(), content);

        let _ = std::fs::remove_file(victim.place.path("out"));
        let moment = Instant::now() + victim.moment(victim.restore_time);
        let run = interrupt(victim.place.command(&["restore", &uid, "out"]), moment);
        println!("restore: {run:?}");
        match run {
            Some(run) if run.code == 130 => {
                let run = run_named(&victim.place, &run.stderr, "to continue, run: ");
                assert_eq!(run.code, 0, "{run:#?}");
            }
            Some(run) => assert_eq!(run.code, 0, "{run:#?}"),
            None => {
                victim.place.ok(&["restore", "-f", &uid, "out"]);
            }
        }
        assert!(victim.place.read("out") == image(content), "version {uid} differs");
        if round % 5 == 4 {
            // Nothing frees the store yet: begin a new one before the disk is full.
            victim.check_all();
            victim = Victim::new(victim.rng);
        }
    }
    victim.check_all();
    assert!(continued > 0, "no signal left anything to continue");
}
