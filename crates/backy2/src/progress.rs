//! How far a job is: a bar on a terminal, a plain line now and then in a log, and the name of the process.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use backy_core::environment::Environment;
use backy_engine::progress::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::app::App;
use crate::{console, size, title};

const BAR_INTERVAL: Duration = Duration::from_millis(250);
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// The rate is that of the last so many seconds.
const RATE_SPAN: Duration = Duration::from_secs(10);

/// What a job does, in the words of its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// `dedup` and `written` are shown.
    Backup,
    /// `written` is shown.
    Restore,
    /// The same.
    Cleanup,
    /// Nothing is written.
    Scrub,
    /// Nothing is written.
    Check,
}

/// Runs `work`, and shows how far it is in the meantime.
pub fn watch<R>(app: &App, job: Job, name: &str, work: impl FnOnce(&Progress) -> R) -> R {
    let progress = Progress::default();
    let environment = &app.environment;
    let shows = app.output.is_for_people();
    std::thread::scope(|scope| {
        let (stop, stopped) = channel::<()>();
        let progress = &progress;
        scope.spawn(move || {
            title::show(None, name);
            if shows && std::io::stderr().is_terminal() {
                draw_bar(job, progress, environment, &stopped, name);
            } else {
                write_lines(job, progress, environment, &stopped, name, shows);
            }
        });
        let result = work(progress);
        drop(stop);
        result
    })
}

fn draw_bar(job: Job, progress: &Progress, environment: &Environment, stopped: &Receiver<()>, name: &str) {
    let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("[{bar:10}] {wide_msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    console::show_bar(Some(bar.clone()));
    let mut rate = Rate::default();
    while is_running(stopped, BAR_INTERVAL) {
        let now = Now::of(progress, &mut rate, environment.clock.elapsed());
        bar.set_position(now.permille().unwrap_or(0));
        bar.set_message(now.short_text(job));
        title::show(now.permille().map(|permille| permille / 10), name);
    }
    console::show_bar(None);
    bar.finish_and_clear();
}

fn write_lines(
    job: Job,
    progress: &Progress,
    environment: &Environment,
    stopped: &Receiver<()>,
    name: &str,
    shows: bool,
) {
    let mut rate = Rate::default();
    rate.at(environment.clock.elapsed(), progress.done_bytes.get());
    while is_running(stopped, LINE_INTERVAL) {
        let now = Now::of(progress, &mut rate, environment.clock.elapsed());
        if shows {
            console::message(&now.text(job));
        }
        title::show(now.permille().map(|permille| permille / 10), name);
    }
}

fn is_running(stopped: &Receiver<()>, interval: Duration) -> bool {
    stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout)
}

/// What was done at some moments of the last seconds.
#[derive(Default)]
struct Rate(VecDeque<(Duration, u64)>);

impl Rate {
    /// Takes a new moment and returns the bytes per second.
    fn at(&mut self, elapsed: Duration, done_bytes: u64) -> u64 {
        self.0.push_back((elapsed, done_bytes));
        while self.0.len() > 2 && self.0.get(1).is_some_and(|(moment, _)| elapsed.saturating_sub(*moment) >= RATE_SPAN)
        {
            self.0.pop_front();
        }
        let Some((start, start_bytes)) = self.0.front() else { return 0 };
        let milliseconds = elapsed.saturating_sub(*start).as_millis();
        let bytes = u128::from(done_bytes.saturating_sub(*start_bytes));
        (bytes * 1000).checked_div(milliseconds).and_then(|rate| u64::try_from(rate).ok()).unwrap_or(0)
    }
}

/// How far a job is at one moment.
struct Now {
    total_bytes: u64,
    done_bytes: u64,
    deduplicated_bytes: u64,
    written_bytes: u64,
    bad_bytes: u64,
    bytes_per_second: u64,
}

impl Now {
    fn of(progress: &Progress, rate: &mut Rate, elapsed: Duration) -> Now {
        let done_bytes = progress.done_bytes.get();
        Now {
            total_bytes: progress.total_bytes.get(),
            done_bytes,
            deduplicated_bytes: progress.deduplicated_bytes.get(),
            written_bytes: progress.written_bytes.get(),
            bad_bytes: progress.bad_bytes.get(),
            bytes_per_second: rate.at(elapsed, done_bytes),
        }
    }

    /// Returns how far the job is in thousandths; nothing while the end is not known.
    fn permille(&self) -> Option<u64> {
        let permille = (u128::from(self.done_bytes) * 1000).checked_div(u128::from(self.total_bytes))?;
        u64::try_from(permille.min(1000)).ok()
    }

    fn text(&self, job: Job) -> String {
        let Some(percent) = self.percent() else { return "preparing".to_owned() };
        let sizes = format!("{} of {}", size::human(self.done_bytes), size::human(self.total_bytes));
        format!("{percent}, {sizes}, {}", self.rest_of_text(job))
    }

    /// A text that fits beside the bar on a terminal of 80 columns.
    fn short_text(&self, job: Job) -> String {
        let Some(percent) = self.percent() else { return "preparing".to_owned() };
        format!("{percent} of {}, {}", size::human(self.total_bytes), self.rest_of_text(job))
    }

    fn percent(&self) -> Option<String> {
        self.permille().map(|permille| format!("{}.{}%", permille / 10, permille % 10))
    }

    fn rest_of_text(&self, job: Job) -> String {
        let mut parts = Vec::new();
        if self.bad_bytes > 0 {
            parts.push(format!("BAD {}", size::human(self.bad_bytes)));
        }
        parts.push(format!("{}/s", size::human(self.bytes_per_second)));
        let rest_bytes = self.total_bytes.saturating_sub(self.done_bytes);
        if let Some(seconds) = rest_bytes.checked_div(self.bytes_per_second) {
            parts.push(format!("ETA {}", clock_time(seconds)));
        }
        if job == Job::Backup {
            parts.push(format!("dedup {}", size::human(self.deduplicated_bytes)));
        }
        if !matches!(job, Job::Scrub | Job::Check) {
            parts.push(format!("written {}", size::human(self.written_bytes)));
        }
        parts.join(", ")
    }
}

/// `45s`, `3m05s`, `2h07m`, `5d03h`.
fn clock_time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_and_how_fast() {
        let progress = Progress::default();
        let mut rate = Rate::default();
        assert_eq!(Now::of(&progress, &mut rate, Duration::ZERO).text(Job::Backup), "preparing");
        progress.total_bytes.set(4 << 20);
        progress.done_bytes.set(1 << 20);
        progress.written_bytes.set(1 << 10);
        let now = Now::of(&progress, &mut rate, Duration::from_secs(2));
        assert_eq!(now.text(Job::Backup), "25.0%, 1.0 MiB of 4.0 MiB, 512.0 KiB/s, ETA 6s, dedup 0 B, written 1.0 KiB");
        assert_eq!(now.short_text(Job::Restore), "25.0% of 4.0 MiB, 512.0 KiB/s, ETA 6s, written 1.0 KiB");
        assert_eq!(now.text(Job::Scrub), "25.0%, 1.0 MiB of 4.0 MiB, 512.0 KiB/s, ETA 6s");
        progress.bad_bytes.set(4096);
        let now = Now::of(&progress, &mut rate, Duration::from_secs(2));
        assert!(now.text(Job::Restore).starts_with("25.0%, 1.0 MiB of 4.0 MiB, BAD 4.0 KiB, "));
    }

    #[test]
    fn the_rate_forgets_what_is_long_ago() {
        let mut rate = Rate::default();
        rate.at(Duration::ZERO, 0);
        for second in 1..=100 {
            rate.at(Duration::from_secs(second), second.min(50) * 1000);
        }
        assert_eq!(rate.at(Duration::from_secs(101), 50_000), 0);
    }

    #[test]
    fn times_are_short() {
        for (seconds, text) in [(5, "5s"), (185, "3m05s"), (7620, "2h07m"), (442_800, "5d03h")] {
            assert_eq!(clock_time(seconds), text);
        }
    }
}
