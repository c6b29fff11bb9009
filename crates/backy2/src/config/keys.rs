//! The keys of the configuration: one row each, in the order of `etc/backy2.toml`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use backy_store::s3::{Addressing, Secret};
use tracing::Level;

use super::values::{Given, Values};
use crate::size;

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name in files.
    pub name: &'static str,
    /// The environment variable that sets it too.
    pub variable: Option<&'static str>,
    /// Checks a value and takes it over.
    pub take: fn(&mut Values, &Given<'_>) -> Result<(), String>,
    /// Returns the value in force; nothing if it is not set. Secrets are not shown.
    pub show: fn(&Values) -> String,
}

/// All keys.
pub const KEYS: &[Key] = &[
    Key {
        name: "repository",
        variable: Some("BACKY2_REPOSITORY"),
        take: |values, given| optional_url(given).map(|url| values.repository = url),
        show: |values| values.repository.clone().unwrap_or_default(),
    },
    Key {
        name: "state_dir",
        variable: Some("BACKY2_STATE_DIR"),
        take: |values, given| {
            // Nothing leaves the default, which depends on the user.
            if let Some(path) = optional_path(given)? {
                values.state_dir = path;
            }
            Ok(())
        },
        show: |values| values.state_dir.display().to_string(),
    },
    Key {
        name: "passphrase_file",
        variable: Some("BACKY2_PASSPHRASE_FILE"),
        take: |values, given| optional_path(given).map(|path| values.passphrase_file = path),
        show: |values| show_path(values.passphrase_file.as_ref()),
    },
    Key {
        name: "passphrase_command",
        variable: Some("BACKY2_PASSPHRASE_COMMAND"),
        take: |values, given| optional_text(given).map(|text| values.passphrase_command = text),
        show: |values| {
            values.passphrase_command.as_ref().map_or_else(String::new, |_| "*** (set, and not shown)".to_owned())
        },
    },
    Key {
        name: "key_file",
        variable: Some("BACKY2_KEY_FILE"),
        take: |values, given| optional_path(given).map(|path| values.key_file = path),
        show: |values| show_path(values.key_file.as_ref()),
    },
    Key {
        name: "block_size",
        variable: None,
        take: |values, given| sized(given, size::parse_block_size).map(|size| values.block_size = size),
        show: |values| size::exact(values.block_size.bytes_u64()),
    },
    Key {
        name: "compression_level",
        variable: None,
        take: |values, given| integer(given, -7, 19).map(|level| values.compression_level = level),
        show: |values| values.compression_level.to_string(),
    },
    Key {
        name: "simultaneous_reads",
        variable: None,
        take: |values, given| count(given).map(|count| values.simultaneous_reads = count),
        show: |values| values.simultaneous_reads.to_string(),
    },
    Key {
        name: "simultaneous_writes",
        variable: None,
        take: |values, given| count(given).map(|count| values.simultaneous_writes = count),
        show: |values| values.simultaneous_writes.to_string(),
    },
    Key {
        name: "workers",
        variable: None,
        take: |values, given| {
            integer(given, 0, COUNT_MAX).map(|count: usize| values.workers = NonZeroUsize::new(count))
        },
        show: |values| values.workers.map_or(0, NonZeroUsize::get).to_string(),
    },
    Key {
        name: "bandwidth_read",
        variable: None,
        take: |values, given| rate(given).map(|rate| values.bandwidth_read = rate),
        show: |values| values.bandwidth_read.map_or_else(String::new, size::exact),
    },
    Key {
        name: "bandwidth_write",
        variable: None,
        take: |values, given| rate(given).map(|rate| values.bandwidth_write = rate),
        show: |values| values.bandwidth_write.map_or_else(String::new, size::exact),
    },
    Key {
        name: "store_patience",
        variable: None,
        take: |values, given| duration(given).map(|duration| values.store_patience = duration),
        show: |values| format!("{}s", values.store_patience.as_secs()),
    },
    Key {
        name: "s3_endpoint",
        variable: Some("BACKY2_S3_ENDPOINT"),
        take: |values, given| optional_text(given).map(|text| values.s3_endpoint = text),
        // A password has no business there, and is refused later; until then it is not shown either.
        show: |values| values.s3_endpoint.as_ref().map_or_else(String::new, |url| without_password(url)),
    },
    Key {
        name: "s3_region",
        variable: Some("BACKY2_S3_REGION"),
        take: |values, given| optional_text(given).map(|text| values.s3_region = text),
        show: |values| values.s3_region.clone().unwrap_or_default(),
    },
    Key {
        name: "s3_addressing",
        variable: None,
        take: |values, given| addressing(given).map(|addressing| values.s3_addressing = addressing),
        show: |values| show_addressing(values.s3_addressing).to_owned(),
    },
    Key {
        name: "s3_ca_file",
        variable: Some("BACKY2_S3_CA_FILE"),
        take: |values, given| optional_path(given).map(|path| values.s3_ca_file = path),
        show: |values| show_path(values.s3_ca_file.as_ref()),
    },
    Key {
        name: "s3_access_key_id",
        variable: Some("BACKY2_S3_ACCESS_KEY_ID"),
        take: |values, given| optional_text(given).map(|text| values.s3_access_key_id = text),
        show: |values| values.s3_access_key_id.clone().unwrap_or_default(),
    },
    Key {
        name: "s3_secret_access_key",
        variable: Some("BACKY2_S3_SECRET_ACCESS_KEY"),
        take: |values, given| secret(given).map(|secret| values.s3_secret_access_key = secret),
        show: |values| show_secret(values.s3_secret_access_key.as_ref()),
    },
    Key {
        name: "s3_session_token",
        variable: Some("BACKY2_S3_SESSION_TOKEN"),
        take: |values, given| secret(given).map(|secret| values.s3_session_token = secret),
        show: |values| show_secret(values.s3_session_token.as_ref()),
    },
    Key {
        name: "s3_credentials_file",
        variable: Some("BACKY2_S3_CREDENTIALS_FILE"),
        take: |values, given| optional_path(given).map(|path| values.s3_credentials_file = path),
        show: |values| show_path(values.s3_credentials_file.as_ref()),
    },
    Key {
        name: "s3_profile",
        variable: Some("BACKY2_S3_PROFILE"),
        take: |values, given| optional_text(given).map(|text| values.s3_profile = text),
        show: |values| values.s3_profile.clone().unwrap_or_default(),
    },
    Key {
        name: "s3_timeout",
        variable: None,
        take: |values, given| duration(given).map(|duration| values.s3_timeout = duration),
        show: |values| format!("{}s", values.s3_timeout.as_secs()),
    },
    Key {
        name: "checkpoint_interval",
        variable: None,
        take: |values, given| duration(given).map(|duration| values.checkpoint_interval = duration),
        show: |values| format!("{}s", values.checkpoint_interval.as_secs()),
    },
    Key {
        name: "audit_percent",
        variable: None,
        take: |values, given| number(given, 0.0, 100.0).map(|percent| values.audit_percent = percent),
        show: |values| values.audit_percent.to_string(),
    },
    Key {
        name: "audit_bytes_max",
        variable: None,
        take: |values, given| sized(given, size::parse_size).map(|size| values.audit_bytes_max = size),
        show: |values| size::exact(values.audit_bytes_max),
    },
    Key {
        name: "disallow_rm_when_younger_than_days",
        variable: None,
        take: |values, given| number(given, 0.0, 36_500.0).map(|days| values.disallow_rm_when_younger_than_days = days),
        show: |values| values.disallow_rm_when_younger_than_days.to_string(),
    },
    Key {
        name: "lease_timeout",
        variable: None,
        take: |values, given| duration(given).map(|duration| values.lease_timeout = duration),
        show: |values| format!("{}s", values.lease_timeout.as_secs()),
    },
    Key {
        name: "argon_memory_mib",
        variable: None,
        take: |values, given| integer(given, 8, 1024).map(|memory| values.argon_memory_mib = memory),
        show: |values| values.argon_memory_mib.to_string(),
    },
    Key {
        name: "argon_passes",
        variable: None,
        take: |values, given| integer(given, 1, 20).map(|passes| values.argon_passes = passes),
        show: |values| values.argon_passes.to_string(),
    },
    Key {
        name: "log_level",
        variable: None,
        take: |values, given| level(given).map(|level| values.log_level = level),
        show: |values| values.log_level.to_string().to_lowercase(),
    },
];

const COUNT_MAX: i64 = 256;

/// Returns the key that `--repository` sets.
pub(super) fn repository() -> &'static Key {
    const { &KEYS[0] }
}

fn text<'a>(given: &Given<'a>) -> Result<&'a str, String> {
    match given {
        Given::Text(text) | Given::Typed(text) => Ok(text.trim()),
        other => Err(format!("it is text, in quotes, not {}", what(other))),
    }
}

fn optional_text(given: &Given<'_>) -> Result<Option<String>, String> {
    text(given).map(|text| (!text.is_empty()).then(|| text.to_owned()))
}

fn optional_path(given: &Given<'_>) -> Result<Option<PathBuf>, String> {
    optional_text(given)?.map(|path| absolute(Path::new(&path), given)).transpose()
}

fn optional_url(given: &Given<'_>) -> Result<Option<String>, String> {
    let Some(url) = optional_text(given)? else { return Ok(None) };
    if url.contains("://") {
        return Ok(Some(url));
    }
    Ok(Some(absolute(Path::new(&url), given)?.display().to_string()))
}

/// In a file, which is read from any folder, a relative path would mean something else each time.
fn absolute(path: &Path, given: &Given<'_>) -> Result<PathBuf, String> {
    match given {
        Given::Typed(_) => std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display())),
        _ if path.is_absolute() => Ok(path.to_owned()),
        _ => Err(format!("{} is no absolute path", path.display())),
    }
}

fn show_path(path: Option<&PathBuf>) -> String {
    path.map_or_else(String::new, |path| path.display().to_string())
}

fn integer<T: TryFrom<i64>>(given: &Given<'_>, min: i64, max: i64) -> Result<T, String> {
    let number = match given {
        Given::Integer(number) => Some(*number),
        Given::Text(text) | Given::Typed(text) => text.trim().parse().ok(),
        _ => None,
    };
    let number = number.filter(|number| (min..=max).contains(number)).and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("it is a whole number, {min} to {max}, not {}", what(given)))
}

fn count(given: &Given<'_>) -> Result<NonZeroUsize, String> {
    let count = integer(given, 1, COUNT_MAX)?;
    NonZeroUsize::new(count).ok_or_else(|| "it is at least 1".to_owned())
}

fn number(given: &Given<'_>, min: f64, max: f64) -> Result<f64, String> {
    #[expect(clippy::cast_precision_loss, reason = "whole numbers in the bounds are exact")]
    let number = match given {
        Given::Integer(number) => Some(*number as f64),
        Given::Float(number) => Some(*number),
        _ => None,
    };
    let number = number.filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("it is a number, {min} to {max}, not {}", what(given)))
}

fn sized<T>(given: &Given<'_>, parse: fn(&str) -> Result<T, String>) -> Result<T, String> {
    match given {
        Given::Text(text) | Given::Typed(text) => parse(text),
        Given::Integer(number) => parse(&number.to_string()),
        other => Err(format!("it is a size like \"16KiB\", not {}", what(other))),
    }
}

fn rate(given: &Given<'_>) -> Result<Option<u64>, String> {
    match given {
        Given::Text(text) | Given::Typed(text) if text.trim().is_empty() => Ok(None),
        given => sized(given, size::parse_rate).map(Some),
    }
}

fn secret(given: &Given<'_>) -> Result<Option<Secret>, String> {
    // Not what was given: it may be a secret that has lost its quotes.
    let text = text(given).map_err(|_| "it is text, in quotes".to_owned())?;
    Ok((!text.is_empty()).then(|| Secret::new(text)))
}

fn show_secret(secret: Option<&Secret>) -> String {
    secret.map_or_else(String::new, |_| "*** (set, and not shown)".to_owned())
}

fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        _ => url.to_owned(),
    }
}

fn addressing(given: &Given<'_>) -> Result<Addressing, String> {
    match text(given)? {
        "auto" => Ok(Addressing::Auto),
        "path" => Ok(Addressing::Path),
        "host" => Ok(Addressing::Host),
        other => Err(format!("it is auto, path or host, not {other:?}")),
    }
}

fn show_addressing(addressing: Addressing) -> &'static str {
    match addressing {
        Addressing::Auto => "auto",
        Addressing::Path => "path",
        Addressing::Host => "host",
    }
}

fn duration(given: &Given<'_>) -> Result<Duration, String> {
    let wrong = || format!("it is a time like \"60s\", \"5m\" or \"1h\", 1 second to 1 day, not {}", what(given));
    let seconds = match given {
        Given::Integer(seconds) => u64::try_from(*seconds).ok(),
        Given::Text(text) | Given::Typed(text) => size::parse_seconds(text),
        _ => None,
    };
    seconds.filter(|seconds| (1..=86_400).contains(seconds)).map(Duration::from_secs).ok_or_else(wrong)
}

fn level(given: &Given<'_>) -> Result<Level, String> {
    let name = text(given)?;
    let is_word = !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphabetic());
    let level = if is_word { Level::from_str(name).ok() } else { None };
    level.ok_or_else(|| format!("it is error, warn, info, debug or trace, not {name:?}"))
}

fn what(given: &Given<'_>) -> String {
    match given {
        Given::Text(text) | Given::Typed(text) => format!("{text:?}"),
        Given::Integer(number) => number.to_string(),
        Given::Float(number) => number.to_string(),
        Given::Other(what) => (*what).to_owned(),
    }
}
