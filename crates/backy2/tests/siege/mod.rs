//! A repository under siege: what was promised of it, and the processes that work on it.
//!
//! ```text
//!  mod      the repository, what is promised, the end      actions   what a worker does next
//!  ledger   which version must be there, and be what
//! ```

mod actions;
mod ledger;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backy_testkit::proxy::{Proxy, Trouble};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::actions::Worker;
use self::ledger::Ledger;
use crate::buckets::Bucket;
use crate::disks::fast_folder;
use crate::support::{Place, Run, bare, finish};

/// How many hosts there are: state folders of their own.
pub const HOSTS: usize = 3;
/// How many processes run at once.
const WORKERS: usize = 4;
/// How many of a thousand connections to a bucket have trouble.
const TROUBLE_PERMILLE: u32 = 30;

/// Where the repository of a siege is.
pub enum Ground {
    /// In a folder of this machine.
    Folder,
    /// In a bucket, behind a network that fails now and then.
    Bucket(Box<Bucket>, Proxy),
}

impl Ground {
    /// Returns a bucket behind a bad network.
    pub fn bucket(seed: u64) -> Ground {
        let bucket = Bucket::new();
        let proxy = Proxy::start(bucket.address(), seed).unwrap();
        Ground::Bucket(Box::new(bucket), proxy)
    }

    /// Returns the lines of a configuration that say where the repository is.
    fn lines(&self, folder: &Path) -> String {
        match self {
            Ground::Folder => format!("repository = {:?}\n", folder.join("repository").display().to_string()),
            Ground::Bucket(bucket, proxy) => bucket.lines(&format!("http://{}", proxy.address())),
        }
    }

    /// Returns the names of all objects below a prefix.
    fn objects(&self, place: &Place, prefix: &str) -> Vec<String> {
        match self {
            Ground::Folder => {
                let files = place.files(&format!("repository/{prefix}"));
                files.iter().map(|path| path.display().to_string()).collect()
            }
            Ground::Bucket(bucket, _) => bucket.objects(prefix),
        }
    }
}

/// The repository, and all that is known of it.
pub struct Siege {
    pub place: Place,
    ground: Ground,
    pub ledger: Mutex<Ledger>,
    /// Ends all workers when one of them has failed.
    is_over: AtomicBool,
    numbers: AtomicU64,
    seed: u64,
    pub has_scrub: bool,
}

impl Siege {
    /// Makes the repository.
    pub fn new(seed: u64, ground: Ground) -> Siege {
        let folder = tempfile::tempdir_in(fast_folder(3 << 30)).unwrap();
        let place = Place { folder };
        let path = |name: &str| place.path(name).display().to_string();
        place.write("key", &[7; 32]);
        std::fs::set_permissions(place.path("key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        for host in 0..HOSTS {
            let text = format!(
                "{}state_dir = {:?}\nkey_file = {:?}\ncheckpoint_interval = 1\nworkers = 1\n",
                ground.lines(place.folder.path()),
                path(&format!("state-{host}")),
                path("key"),
            );
            place.write(&config(host), text.as_bytes());
        }
        let siege = Siege {
            place,
            ground,
            ledger: Mutex::default(),
            is_over: AtomicBool::new(false),
            numbers: AtomicU64::new(0),
            seed,
            has_scrub: finish({
                let mut command = bare("/".as_ref());
                command.args(["scrub", "--help"]);
                command
            })
            .code
                == 0,
        };
        siege.ok(0, &["init"]);
        if let Ground::Bucket(_, proxy) = &siege.ground {
            proxy.trouble(TROUBLE_PERMILLE, &[Trouble::Cut, Trouble::Reset, Trouble::Truncate, Trouble::Delay]);
        }
        siege
    }

    /// Lets the workers work for so long; then all that was promised must be there, and nothing else.
    pub fn withstand(&self, time: Duration) {
        self.run(time);
        self.tidy_up();
        self.compare_all();
        self.leave_nothing();
    }

    /// Lets the workers work for so long.
    fn run(&self, time: Duration) {
        let end = Instant::now() + time;
        std::thread::scope(|scope| {
            for number in 0..WORKERS {
                scope.spawn(move || {
                    let _guard = EndAll(&self.is_over);
                    let rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_mul(31).wrapping_add(number as u64));
                    let mut worker = Worker { siege: self, number, rng };
                    while Instant::now() < end && !self.is_over.load(Ordering::Relaxed) {
                        worker.act();
                    }
                });
            }
        });
        self.ledger.lock().unwrap().say();
    }

    /// Gives up the leases of the dead, removes what is half, and cleans up.
    fn tidy_up(&self) {
        for lease in self.ok(0, &["-ms", "leases", "-f", "lease"]).lines() {
            self.ok(0, &["leases", "--give-up", lease]);
        }
        let ledger = self.ledger.lock().unwrap();
        // The first cleanup rechecks what was published by jobs whose lease was given up.
        self.clean();
        for version in self.versions() {
            ledger.refuse_removed(&version.uid);
            if version.state != "valid" {
                ledger.refuse_promised(&version.uid, &version.state);
                self.ok(0, &["rm", "-f", &version.uid]);
            }
        }
        let there: Vec<String> = self.versions().into_iter().map(|version| version.uid).collect();
        ledger.refuse_lost(&there);
        drop(ledger);
        for _ in 0..2 {
            self.clean();
        }
        let report = self.checked();
        assert_eq!(number(&report, "/removed_versions"), 0);
    }

    /// Restores every version on some host and compares it with what its source was.
    fn compare_all(&self) {
        let versions = self.versions();
        let ledger = self.ledger.lock().unwrap();
        for (index, version) in versions.iter().enumerate() {
            let _ = std::fs::remove_file(self.place.path("out-end"));
            self.ok(index % HOSTS, &["restore", &version.uid, "out-end"]);
            let is_equal =
                std::fs::read(self.place.path("out-end")).unwrap() == ledger.content(&version.snapshot).bytes();
            assert!(is_equal, "version {} ({}) differs", version.uid, version.snapshot);
        }
        println!("{} versions are there at the end, and equal", versions.len());
    }

    /// Removes all versions; then no pack is left.
    fn leave_nothing(&self) {
        for version in self.versions() {
            self.ok(0, &["rm", "-f", &version.uid]);
        }
        self.clean();
        assert_eq!(self.ground.objects(&self.place, "packs/"), Vec::<String>::new());
        assert_eq!(self.ground.objects(&self.place, "labels/"), Vec::<String>::new());
        self.checked();
    }

    fn clean(&self) {
        let run = self.finish(0, &["cleanup", "--compact-below", "100"]);
        // 20 says that the recheck of a version failed whose lease was given up.
        assert!([0, 20].contains(&run.code), "{run:#?}");
    }

    /// Checks the repository, which must be clean and without anything left over.
    fn checked(&self) -> serde_json::Value {
        let report: serde_json::Value = serde_json::from_str(&self.ok(1, &["--json", "check"])).unwrap();
        for field in ["/orphans/packs", "/unused/slots", "/packs_of_several_generations", "/orphan_damage_records"] {
            assert_eq!(number(&report, field), 0, "{field}: {report:#}");
        }
        assert_eq!(report["findings"].as_array().unwrap().len(), 0, "{report:#}");
        report
    }

    /// Lists what there is.
    pub fn versions(&self) -> Vec<Listed> {
        let text = self.ok(0, &["-ms", "ls", "-f", "uid,state,snapshot_name"]);
        let version = |line: &str| {
            let mut fields = line.split('|').map(str::to_owned);
            Listed { uid: fields.next().unwrap(), state: fields.next().unwrap(), snapshot: fields.next().unwrap() }
        };
        text.lines().map(version).collect()
    }

    /// Returns a number that was not used before.
    pub fn next(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub fn command(&self, host: usize, arguments: &[&str]) -> std::process::Command {
        let mut command = bare(self.place.folder.path());
        command.arg("-c").arg(config(host)).args(arguments);
        command
    }

    pub fn finish(&self, host: usize, arguments: &[&str]) -> Run {
        finish(self.command(host, arguments))
    }

    pub fn ok(&self, host: usize, arguments: &[&str]) -> String {
        let run = self.finish(host, arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {run:#?}");
        run.stdout
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.place.folder.disable_cleanup(true);
            println!("the repository stays for a look: {}", self.place.folder.path().display());
        }
    }
}

/// A version as it is listed.
pub struct Listed {
    pub uid: String,
    pub state: String,
    pub snapshot: String,
}

/// Ends all workers when this one fails.
struct EndAll<'a>(&'a AtomicBool);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn config(host: usize) -> String {
    format!("host-{host}.toml")
}

fn number(report: &serde_json::Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap()
}
