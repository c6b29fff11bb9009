//! `backy2 protect, unprotect, add-tag, remove-tag, expire`: what is said of a version, and may change.

use std::collections::BTreeSet;

use backy_core::environment::Timestamp;
use backy_core::records::label::{Expiry, LabelChange};
use backy_engine::label;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::app::App;
use crate::args::versions::{AddTag, Expire, RemoveTag};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::{dates, version_spec};

pub(super) fn protect(app: &App, version: &str, is_protected: bool) -> Result<Exit, Failure> {
    change(app, version, LabelChange { protected: Some(is_protected), ..LabelChange::default() })
}

pub(super) fn add_tags(app: &App, arguments: &AddTag) -> Result<Exit, Failure> {
    let add_tags = parse_tags(&arguments.tags)?;
    change(app, &arguments.version, LabelChange { add_tags, ..LabelChange::default() })
}

pub(super) fn remove_tags(app: &App, arguments: &RemoveTag) -> Result<Exit, Failure> {
    let remove_tags = parse_tags(&arguments.tags)?;
    change(app, &arguments.version, LabelChange { remove_tags, ..LabelChange::default() })
}

pub(super) fn expire(app: &App, arguments: &Expire) -> Result<Exit, Failure> {
    let expire = Some(parse_expiry(&arguments.date, &app.output.zone)?);
    change(app, &arguments.version, LabelChange { expire, ..LabelChange::default() })
}

/// Reads a list of tags with commas between them.
pub(super) fn parse_tags(text: &str) -> Result<BTreeSet<String>, Failure> {
    let tags: BTreeSet<String> =
        text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
    if tags.is_empty() { Err(Failure::usage("there is no tag in the list")) } else { Ok(tags) }
}

/// Reads when a version expires; `never` and an empty text are words of their own.
pub(super) fn parse_expiry(text: &str, zone: &TimeZone) -> Result<Expiry, Failure> {
    match text.trim() {
        "" | "never" => Ok(Expiry::Never),
        date => dates::parse_moment(date, zone).map(Expiry::At).map_err(Failure::usage),
    }
}

fn change(app: &App, version: &str, change: LabelChange) -> Result<Exit, Failure> {
    change.check().map_err(Failure::of_request)?;
    let spec = version_spec::parse(version, &app.output.zone)?;
    let repository = app.repository()?;
    let (uid, label) = label::run(&repository, &spec, &change).map_err(Failure::of_version)?;
    let tags: Vec<&str> = label.tags.iter().map(String::as_str).collect();
    match app.output.format {
        Format::Table => {
            let protected = if label.is_protected { "protected" } else { "not protected" };
            let expires = |moment: Timestamp| format!("expires {}", dates::in_zone(moment, &app.output.zone));
            let expire = label.expire.map_or_else(|| "does not expire".to_owned(), expires);
            output::line(&format!("Version {uid}: {protected}, {expire}, tags [{}]", tags.join(",")))?;
        }
        Format::Machine => output::line(&uid.to_string())?,
        Format::Json => app.output.json(&json!({
            "uid": uid.to_string(),
            "protected": label.is_protected,
            "expire": label.expire.map(dates::rfc3339),
            "tags": tags,
        }))?,
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_dates_are_checked() {
        assert_eq!(parse_tags("a, b,,a").unwrap(), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert!(parse_tags(" ,").is_err());
        assert_eq!(parse_expiry("never", &TimeZone::UTC).unwrap(), Expiry::Never);
        assert_eq!(parse_expiry("", &TimeZone::UTC).unwrap(), Expiry::Never);
        assert!(parse_expiry("soon", &TimeZone::UTC).is_err());
    }
}
