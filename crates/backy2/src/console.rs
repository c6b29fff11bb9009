//! Messages on standard error, with the progress bar kept below them.
//!
//! Results go to standard output (see `output`); everything that only a person reads goes through here. Control
//! characters are made visible, so that a name or path in a message cannot play with the terminal.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// The bar that is shown, if one is.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Writes a line to standard error; nothing is done about it if that fails.
pub fn message(text: &str) {
    let text = printable(text);
    let write = || {
        let _ = writeln!(std::io::stderr(), "{text}");
    };
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Shows a bar below the messages, or none any more.
pub fn show_bar(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

/// Makes control characters visible: `\n`, `\x1b`.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Sends log events of `level` and above to standard error; with time and place for those who look closer.
pub fn log_to_stderr(level: Level, is_debugging: bool) {
    let layer = Log { level, is_debugging };
    // It fails only if somebody has done it before.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

struct Log {
    level: Level,
    is_debugging: bool,
}

impl<S: Subscriber> Layer<S> for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level && metadata.target().starts_with("backy")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let metadata = event.metadata();
        let word = match *metadata.level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            Level::INFO => "",
            Level::DEBUG => "debug: ",
            Level::TRACE => "trace: ",
        };
        let place = if self.is_debugging { format!(" [{}]", metadata.target()) } else { String::new() };
        message(&format!("{word}{}{place}", line.0));
    }
}

/// The message of an event, and then its fields.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text =
            if field.name() == "message" { format!("{value:?}") } else { format!(" {}={value:?}", field.name()) };
        if field.name() == "message" {
            self.0.insert_str(0, &text);
        } else {
            let _ = self.0.write_str(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_play_with_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\nö"), "a\\u{1b}[31mb\\nö");
    }
}
