//! Reads credentials from a file as the AWS command line keeps it (`~/.aws/credentials`).
//!
//! ```text
//! [default]
//! aws_access_key_id = AKIA...
//! aws_secret_access_key = ...
//! aws_session_token = ...        only for temporary ones
//! ```

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use backy_core::{Error, ErrorKind, Result};
use tracing::warn;
use zeroize::Zeroizing;

use super::options::{Credentials, Secret};

/// Returns the keys of a section of the file. What it says of the file's content never includes the content.
pub(super) fn read(path: &Path, profile: &str) -> Result<Credentials> {
    let doing = || format!("read the credentials in {}", path.display());
    let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| Error::io(doing(), error))?;
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o007 != 0) {
        warn!("{} can be read by every user of this machine; chmod 600 it", path.display());
    }
    parse(&text, profile).ok_or_else(|| {
        let message = format!(
            "{}: the section [{profile}] is not there, or lacks aws_access_key_id or aws_secret_access_key",
            doing()
        );
        Error::new(ErrorKind::InvalidInput, message)
    })
}

fn parse(text: &str, profile: &str) -> Option<Credentials> {
    let (mut access_key_id, mut secret_access_key, mut session_token) = (None, None, None);
    let mut is_ours = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_ours = section.trim() == profile;
            continue;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| is_ours) else { continue };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "aws_access_key_id" => access_key_id = Some(value.to_owned()),
            "aws_secret_access_key" => secret_access_key = Some(Secret::new(value)),
            "aws_session_token" => session_token = Some(Secret::new(value)),
            _ => {}
        }
    }
    Some(Credentials::Keys { access_key_id: access_key_id?, secret_access_key: secret_access_key?, session_token })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# comment\n[default]\naws_access_key_id = A\naws_secret_access_key=S=/+\nregion = x\n\n\
        [ other ]\nAWS_ACCESS_KEY_ID = B\naws_secret_access_key = T\naws_session_token = U\n[half]\naws_access_key_id = C\n";

    fn keys(id: &str, secret: &str, token: Option<&str>) -> Credentials {
        Credentials::Keys {
            access_key_id: id.to_owned(),
            secret_access_key: Secret::new(secret),
            session_token: token.map(Secret::new),
        }
    }

    #[test]
    fn a_section_is_found_whole_or_not_at_all() {
        assert_eq!(parse(FILE, "default"), Some(keys("A", "S=/+", None)));
        assert_eq!(parse(FILE, "other"), Some(keys("B", "T", Some("U"))));
        assert_eq!(parse(FILE, "half"), None);
        assert_eq!(parse(FILE, "none"), None);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        assert_eq!(read(&path, "default").unwrap_err().kind(), ErrorKind::NotFound);
        std::fs::write(&path, "[default]\naws_secret_access_key = hush\n").unwrap();
        let error = read(&path, "default").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("[default]") && !format!("{error:?}").contains("hush"), "{error:?}");
    }
}
