//! Puts a command's surroundings together: clock, randomness, configuration, store, repository.
//!
//! This is the only file that reads the wall clock.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use backy_core::ErrorKind;
use backy_core::environment::{Clock, Environment, Timestamp};
use backy_core::keys::slot::ArgonCost;
use backy_engine::Repository;
use backy_engine::repository::open::open;
use backy_engine::settings::Settings;
use backy_store::s3::S3Options;
use backy_store::{ObjectStore, OpenHow, StoreOptions};
use jiff::tz::TimeZone;
use tracing::Level;

use crate::args::Global;
use crate::bucket::{self, Variables};
use crate::config::{Config, Surroundings};
use crate::console;
use crate::exit::{Exit, Failure};
use crate::host::this_host;
use crate::output::{Format, Output};
use crate::random::SystemRandom;
use crate::secrets::Secrets;

/// How many threads share the memory that a try of a passphrase takes.
const ARGON_LANES: u32 = 4;

/// What every command works with.
pub struct App {
    /// What stood before the command.
    pub global: Global,
    /// What is in force.
    pub config: Config,
    /// Time and randomness.
    pub environment: Environment,
    /// Where results go.
    pub output: Output,
    /// The environment as it was at the start.
    variables: Variables,
}

impl App {
    /// Reads the configuration, and lets messages through from now on.
    pub fn new(global: Global) -> Result<App, Failure> {
        let variables: Variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let config = Config::load(&Surroundings {
            file: global.config.clone(),
            repository: global.repository.clone(),
            environment: variables.clone(),
            is_root: rustix::process::geteuid().is_root(),
        })?;
        let output = Output {
            format: match (global.is_machine, global.is_json) {
                (true, _) => Format::Machine,
                (_, true) => Format::Json,
                _ => Format::Table,
            },
            skips_header: global.skip_header,
            is_human_readable: global.human_readable,
            zone: TimeZone::system(),
        };
        console::log_to_stderr(level(&global, &config, output.format), global.is_debugging);
        Ok(App { global, config, environment: system_environment(), output, variables })
    }

    /// Where what is written to a version goes, if nobody names a folder.
    pub fn scratch_folder(&self) -> PathBuf {
        self.config.values.state_dir.join("scratch")
    }

    /// Opens the store of the repository, without its keys.
    pub fn store(&self, how: OpenHow) -> Result<Arc<dyn ObjectStore>, Failure> {
        let values = &self.config.values;
        let url = values.repository.as_deref().ok_or_else(|| {
            Failure::usage("no repository is named")
                .hint("name one by --repository URL, by BACKY2_REPOSITORY, or as `repository` in the configuration")
        })?;
        let options = StoreOptions {
            simultaneous_reads: values.simultaneous_reads.get(),
            simultaneous_writes: values.simultaneous_writes.get(),
            read_bytes_per_second: values.bandwidth_read,
            write_bytes_per_second: values.bandwidth_write,
            patience: values.store_patience,
            s3: if url.starts_with("s3://") { bucket::options(values, &self.variables)? } else { S3Options::default() },
        };
        backy_store::open(url, how, &options, &self.environment).map_err(|error| {
            let is_missing = error.kind() == ErrorKind::NotFound;
            let failure = Failure::of_request(error);
            if is_missing { failure.hint("is it mounted? `backy2 init` makes a new repository") } else { failure }
        })
    }

    /// Opens the repository; asks for the passphrase if nothing else is configured.
    pub fn repository(&self) -> Result<Repository, Failure> {
        let store = self.store(OpenHow::Existing)?;
        let secrets = Secrets::of_config(&self.config)?;
        let values = &self.config.values;
        let opened = open(store, &secrets, &values.state_dir, self.settings(), self.environment.clone());
        opened.map(|repository| repository.on_host(this_host())).map_err(|error| {
            let kind = error.kind();
            let failure = Failure::of_request(error);
            match kind {
                ErrorKind::NotFound => {
                    failure.hint("is the URL right, and is it mounted? `backy2 init` makes a new repository")
                }
                _ => failure,
            }
        })
    }

    /// Returns what the configuration says about the use of the machine.
    fn settings(&self) -> Settings {
        let values = &self.config.values;
        Settings {
            simultaneous_reads: values.simultaneous_reads,
            simultaneous_writes: values.simultaneous_writes,
            workers: values
                .workers
                .unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
            compression_level: values.compression_level,
            checkpoint_interval: values.checkpoint_interval,
            lease_timeout: values.lease_timeout,
            ..Settings::default()
        }
    }

    /// Returns what a try of a new passphrase shall cost.
    pub fn argon_cost(&self) -> Result<ArgonCost, Failure> {
        let values = &self.config.values;
        let memory_kib = values.argon_memory_mib.saturating_mul(1024);
        ArgonCost::new(memory_kib, values.argon_passes, ARGON_LANES)
            .map_err(|error| Failure::from(error).with_exit(Exit::Usage))
    }

    /// Returns the wall-clock time.
    pub fn now(&self) -> Timestamp {
        self.environment.clock.now()
    }

    /// Returns how the command line of this program begins: what a hint tells to run again.
    pub fn program(&self) -> String {
        let mut words = vec!["backy2".to_owned()];
        if let Some(path) = &self.global.config {
            words.extend(["-c".to_owned(), quoted(&path.display().to_string())]);
        }
        if let (Some(_), Some(url)) = (&self.global.repository, &self.config.values.repository) {
            words.extend(["--repository".to_owned(), quoted(url)]);
        }
        words.join(" ")
    }
}

/// Writes a word so that a shell reads it as one.
pub fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@%+=,".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Scripts see warnings and errors alone, unless they ask for more.
fn level(global: &Global, config: &Config, format: Format) -> Level {
    match (global.is_debugging, global.is_verbose) {
        (true, _) => Level::TRACE,
        (_, true) => Level::DEBUG,
        _ if format != Format::Table => config.values.log_level.min(Level::WARN),
        _ => config.values.log_level,
    }
}

fn system_environment() -> Environment {
    Environment { clock: Arc::new(SystemClock { start: Instant::now() }), random: Arc::new(SystemRandom) }
}

/// The system's clocks.
struct SystemClock {
    start: Instant,
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::default().plus(since)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        for word in ["plain", "file:///dev/vg0/mail", "", "a b", "it's", "$x;`y`", "-x"] {
            let command = format!("printf %s {}", if word == "-x" { "./-x".to_owned() } else { quoted(word) });
            let printed = std::process::Command::new("sh").args(["-c", &command]).output().unwrap().stdout;
            assert_eq!(printed, word.replace("-x", "./-x").as_bytes(), "{word:?}");
        }
    }
}
