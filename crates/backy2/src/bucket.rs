//! How buckets are reached: from the configuration, and from the variables and files that AWS's own programs know.
//!
//! What our configuration says comes first, and nothing is mixed: a key of one place is never used with a secret of another.

use std::collections::BTreeMap;
use std::path::PathBuf;

use backy_store::s3::{Credentials, Role, S3Options, Secret};

use crate::config::Values;
use crate::exit::Failure;

/// The environment; a test brings its own.
pub type Variables = BTreeMap<String, String>;

/// Returns how buckets are reached.
///
/// # Errors
/// A usage failure if a key has no secret, or a secret no key.
pub fn options(values: &Values, variables: &Variables) -> Result<S3Options, Failure> {
    let text = |names: &[&str]| names.iter().find_map(|name| variable(variables, name));
    let endpoint = values.s3_endpoint.clone().or_else(|| text(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
    Ok(S3Options {
        endpoint,
        region: values.s3_region.clone().or_else(|| text(&["AWS_REGION", "AWS_DEFAULT_REGION"])),
        addressing: values.s3_addressing,
        ca_file: values.s3_ca_file.clone().or_else(|| text(&["AWS_CA_BUNDLE"]).map(PathBuf::from)),
        credentials: credentials(values, variables)?,
        timeout: values.s3_timeout,
    })
}

fn credentials(values: &Values, variables: &Variables) -> Result<Credentials, Failure> {
    let profile = || values.s3_profile.clone().or_else(|| variable(variables, "AWS_PROFILE"));
    let ours = keys(
        "s3_access_key_id and s3_secret_access_key",
        values.s3_access_key_id.clone(),
        values.s3_secret_access_key.clone(),
        values.s3_session_token.clone(),
    )?;
    if let Some(keys) = ours {
        return Ok(keys);
    }
    let file = |path| Credentials::File { path, profile: profile().unwrap_or_else(|| "default".to_owned()) };
    if let Some(path) = values.s3_credentials_file.clone() {
        return Ok(file(path));
    }
    let secret = |name| variable(variables, name).map(Secret::new);
    let of_environment = keys(
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        variable(variables, "AWS_ACCESS_KEY_ID"),
        secret("AWS_SECRET_ACCESS_KEY"),
        secret("AWS_SESSION_TOKEN"),
    )?;
    if let Some(keys) = of_environment {
        return Ok(keys);
    }
    let of_home = || variable(variables, "HOME").map(|home| PathBuf::from(home).join(".aws/credentials"));
    match variable(variables, "AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from) {
        Some(path) => return Ok(file(path)),
        None => {
            if let Some(path) = of_home().filter(|path| path.exists()) {
                return Ok(file(path));
            }
        }
    }
    Ok(Credentials::Role(role(variables)))
}

fn keys(
    what: &str,
    access_key_id: Option<String>,
    secret_access_key: Option<Secret>,
    session_token: Option<Secret>,
) -> Result<Option<Credentials>, Failure> {
    match (access_key_id, secret_access_key) {
        (Some(access_key_id), Some(secret_access_key)) => {
            Ok(Some(Credentials::Keys { access_key_id, secret_access_key, session_token }))
        }
        (None, None) => Ok(None),
        _ => Err(Failure::usage(format!("{what} belong together, and only one of them is set"))
            .hint("`backy2 config show` says where the values of the configuration come from")),
    }
}

fn role(variables: &Variables) -> Role {
    let text = |name| variable(variables, name);
    let path = |name| text(name).map(PathBuf::from);
    Role {
        web_identity: path("AWS_WEB_IDENTITY_TOKEN_FILE").zip(text("AWS_ROLE_ARN")),
        container_path: text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        pod: text("AWS_CONTAINER_CREDENTIALS_FULL_URI").zip(path("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")),
        metadata_endpoint: text("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
    }
}

fn variable(variables: &Variables, name: &str) -> Option<String> {
    variables.get(name).filter(|value| !value.is_empty()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn keys(id: &str, secret: &str) -> Credentials {
        Credentials::Keys { access_key_id: id.to_owned(), secret_access_key: Secret::new(secret), session_token: None }
    }

    #[test]
    fn the_configuration_comes_before_what_other_programs_use() {
        let aws = variables(&[("AWS_ACCESS_KEY_ID", "theirs"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_REGION", "r")]);
        let mut values = Values::default();
        let found = options(&values, &aws).unwrap();
        assert_eq!((found.credentials, found.region.as_deref()), (keys("theirs", "s"), Some("r")));
        values.s3_credentials_file = Some(PathBuf::from("/file"));
        let file = Credentials::File { path: PathBuf::from("/file"), profile: "default".to_owned() };
        assert_eq!(options(&values, &aws).unwrap().credentials, file);
        values.s3_access_key_id = Some("ours".to_owned());
        assert!(options(&values, &aws).is_err(), "a key of ours with a secret of theirs");
        values.s3_secret_access_key = Some(Secret::new("t"));
        assert_eq!(options(&values, &aws).unwrap().credentials, keys("ours", "t"));
    }

    #[test]
    fn without_keys_the_file_at_home_or_the_machine_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let home = variables(&[("HOME", folder.path().to_str().unwrap()), ("AWS_PROFILE", "x")]);
        let values = Values::default();
        assert_eq!(options(&values, &home).unwrap().credentials, Credentials::Role(Role::default()));
        let path = folder.path().join(".aws/credentials");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        let file = Credentials::File { path, profile: "x".to_owned() };
        assert_eq!(options(&values, &home).unwrap().credentials, file);
        let pod = variables(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"), ("AWS_ROLE_ARN", "arn")]);
        let Credentials::Role(role) = options(&values, &pod).unwrap().credentials else { panic!("no role") };
        assert_eq!(role.web_identity, Some((PathBuf::from("/token"), "arn".to_owned())));
    }
}
