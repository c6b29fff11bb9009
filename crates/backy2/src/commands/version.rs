//! `backy2 version`: the release, and the formats that it knows.

use backy_core::records::repository::FORMAT;
use serde_json::json;

use crate::args::Global;
use crate::exit::{Exit, Failure};
use crate::output;

/// The release of this program.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

pub(super) fn run(global: &Global) -> Result<Exit, Failure> {
    let (os, machine) = (std::env::consts::OS, std::env::consts::ARCH);
    if global.is_json {
        output::line(
            &json!({"version": RELEASE, "repository_format": FORMAT, "os": os, "machine": machine}).to_string(),
        )?;
    } else if global.is_machine {
        output::line(RELEASE)?;
    } else {
        output::line(&format!("backy2 {RELEASE} for {machine}-{os}\nrepository format {FORMAT}"))?;
    }
    Ok(Exit::Success)
}
