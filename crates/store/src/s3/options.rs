//! What must be known to reach a bucket. Values only: where they come from is the caller's matter.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

/// A text that is never shown, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(Zeroizing::new(text.into()))
    }

    /// Returns the text, for whom it is meant.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How a bucket is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Options {
    /// The server, as `https://rgw.example.org:7480`; AWS in the region if there is none.
    pub endpoint: Option<String>,
    /// The region that requests are signed for; `us-east-1` if there is none.
    pub region: Option<String>,
    /// Where the name of the bucket stands.
    pub addressing: Addressing,
    /// A file with certificates (PEM). If it is given, they alone are trusted.
    pub ca_file: Option<PathBuf>,
    /// Who we are.
    pub credentials: Credentials,
    /// How long a connection may move no byte before it counts as dead.
    pub timeout: Duration,
}

impl Default for S3Options {
    fn default() -> S3Options {
        S3Options {
            endpoint: None,
            region: None,
            addressing: Addressing::Auto,
            ca_file: None,
            credentials: Credentials::default(),
            timeout: Duration::from_secs(60),
        }
    }
}

/// Where the name of the bucket stands in the address of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// With an endpoint in the path; at AWS in the host, unless the name has dots, which no certificate covers.
    #[default]
    Auto,
    /// `https://host/bucket/object`.
    Path,
    /// `https://bucket.host/object`.
    Host,
}

/// Where the credentials are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Here.
    Keys {
        /// The name of the key; no secret.
        access_key_id: String,
        /// The secret key.
        secret_access_key: Secret,
        /// The token of temporary credentials.
        session_token: Option<Secret>,
    },
    /// In a file as the AWS command line keeps it; it is read when the store is opened.
    File {
        /// The file.
        path: PathBuf,
        /// Its section.
        profile: String,
    },
    /// Given to this machine, pod or task by its surroundings, and renewed by itself.
    Role(Role),
}

impl Default for Credentials {
    fn default() -> Credentials {
        Credentials::Role(Role::default())
    }
}

/// Who hands out the credentials of a machine, pod or task; the first that is complete. Without any, it is the
/// metadata service of EC2 (IMDSv2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// A file with a web identity token, and the role that it is for.
    pub web_identity: Option<(PathBuf, String)>,
    /// The path of a task's credentials at the container agent.
    pub container_path: Option<String>,
    /// The address of a pod's credentials, and the file with its token.
    pub pod: Option<(String, PathBuf)>,
    /// Another address of the metadata service.
    pub metadata_endpoint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let options = S3Options {
            credentials: Credentials::Keys {
                access_key_id: "id".to_owned(),
                secret_access_key: Secret::new("very-secret"),
                session_token: Some(Secret::new("very-secret")),
            },
            ..S3Options::default()
        };
        let shown = format!("{options:?}");
        assert!(shown.contains("***") && !shown.contains("very-secret"), "{shown}");
    }
}
