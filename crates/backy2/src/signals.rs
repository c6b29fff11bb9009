//! Ctrl-C and its relatives: the first asks the job to stop where it can be continued, the second stops at once. What comes
//! within a second of the first is the same wish: `timeout` and others signal a process and its group.
//!
//! Signals are watched only while a job runs: before, at the passphrase prompt say, they end the program as usual.

use std::time::{Duration, Instant};

use backy_core::Error;
use backy_core::cancel::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::console;
use crate::exit::{Exit, Failure};

/// A signal that comes so soon after the first one says the same.
const SAME_WISH: Duration = Duration::from_secs(1);

/// Lets SIGINT, SIGTERM and SIGHUP set the returned flag from now on; a second one ends the program with code 130.
pub fn watch() -> Result<Cancel, Failure> {
    let cancel = Cancel::default();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|error| Error::io("watch for signals", error))?;
    let seen = cancel.clone();
    let watch = move || {
        let mut first: Option<Instant> = None;
        for _ in signals.forever() {
            match first {
                Some(first) if first.elapsed() < SAME_WISH => {}
                Some(_) => {
                    console::message("Stopped at once.");
                    signal_hook::low_level::exit(Exit::Interrupted as i32);
                }
                None => {
                    first = Some(Instant::now());
                    seen.cancel();
                    console::message("Stopping as soon as what is under way is done; press again to stop at once.");
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch)
        .map_err(|error| Error::io("start the thread that watches for signals", error))?;
    Ok(cancel)
}
