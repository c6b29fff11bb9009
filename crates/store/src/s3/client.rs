//! Puts the client together from the options: address, region, credentials.

use std::path::Path;

use backy_core::{Error, ErrorKind, Result, ResultExt};
use object_store::RetryConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use reqwest::Url;

use super::credentials;
use super::options::{Addressing, Credentials, Role, S3Options};
use super::transport::Transport;

/// The region if none is given: what servers other than AWS expect.
const REGION: &str = "us-east-1";

/// Two clients that share connections and credentials.
pub(super) struct Clients {
    /// For everything: deletes one by one, which every server can.
    pub(super) single: AmazonS3,
    /// Deletes a thousand objects with one request.
    pub(super) bulk: AmazonS3,
}

/// Makes the clients; nothing is asked of the server yet.
pub(super) fn connect(bucket: &str, options: &S3Options) -> Result<Clients> {
    let region = options.region.as_deref().unwrap_or(REGION);
    let is_in_host = match options.addressing {
        Addressing::Auto => options.endpoint.is_none() && !bucket.contains('.'),
        Addressing::Path => false,
        Addressing::Host => true,
    };
    let default = format!("https://s3.{region}.amazonaws.com");
    let endpoint = parse_endpoint(options.endpoint.as_deref().unwrap_or(&default))?;
    let ca = options.ca_file.as_deref().map(read_ca).transpose()?;
    let transport = Transport::new(&endpoint, ca.as_deref(), options.timeout)
        .context(|| options.ca_file.as_ref().map_or_else(String::new, |path| path.display().to_string()))?;
    let builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(region)
        .with_endpoint(if is_in_host { with_bucket(&endpoint, bucket)? } else { plain(&endpoint) })
        .with_virtual_hosted_style_request(is_in_host)
        .with_allow_http(endpoint.scheme() == "http")
        .with_conditional_put(S3ConditionalPut::Disabled)
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .with_http_connector(transport);
    let build = |builder: AmazonS3Builder| {
        builder.build().map_err(|error| Error::with_source(ErrorKind::InvalidInput, format!("bucket {bucket}"), error))
    };
    let single = build(with_credentials(builder.clone(), &options.credentials)?.with_disable_bulk_delete(true))?;
    let bulk = build(builder.with_credentials(single.credentials().clone()))?;
    Ok(Clients { single, bulk })
}

fn parse_endpoint(text: &str) -> Result<Url> {
    let wrong =
        |why: &str| Error::invalid(format!("the endpoint {why}; it looks like https://host or http://host:port"));
    let url: Url = text.parse().map_err(|_| wrong("is no URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("holds a user or password, which do not belong there"));
    }
    let is_plain = matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
    if !is_plain || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("is not that of a server"));
    }
    Ok(url)
}

fn plain(endpoint: &Url) -> String {
    endpoint.as_str().trim_end_matches('/').to_owned()
}

fn with_bucket(endpoint: &Url, bucket: &str) -> Result<String> {
    let mut url = endpoint.clone();
    let host = format!("{bucket}.{}", endpoint.host_str().unwrap_or_default());
    url.set_host(Some(&host)).map_err(|_| Error::invalid(format!("{host:?} is no name of a host")))?;
    Ok(plain(&url))
}

fn read_ca(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::io(format!("read the certificates in {}", path.display()), error))
}

fn with_credentials(builder: AmazonS3Builder, credentials: &Credentials) -> Result<AmazonS3Builder> {
    match credentials {
        Credentials::Keys { access_key_id, secret_access_key, session_token } => {
            let builder = builder.with_access_key_id(access_key_id).with_secret_access_key(secret_access_key.reveal());
            Ok(match session_token {
                Some(token) => builder.with_token(token.reveal()),
                None => builder,
            })
        }
        Credentials::File { path, profile } => with_credentials(builder, &credentials::read(path, profile)?),
        Credentials::Role(role) => Ok(with_role(builder, role)),
    }
}

fn with_role(builder: AmazonS3Builder, role: &Role) -> AmazonS3Builder {
    let with = |builder: AmazonS3Builder, key, value: &str| builder.with_config(key, value);
    if let Some((token_file, arn)) = &role.web_identity {
        let builder = with(builder, AmazonS3ConfigKey::WebIdentityTokenFile, &token_file.to_string_lossy());
        return with(builder, AmazonS3ConfigKey::RoleArn, arn);
    }
    if let Some(path) = &role.container_path {
        return with(builder, AmazonS3ConfigKey::ContainerCredentialsRelativeUri, path);
    }
    if let Some((url, token_file)) = &role.pod {
        let builder = with(builder, AmazonS3ConfigKey::ContainerCredentialsFullUri, url);
        return with(builder, AmazonS3ConfigKey::ContainerAuthorizationTokenFile, &token_file.to_string_lossy());
    }
    match &role.metadata_endpoint {
        Some(endpoint) => builder.with_metadata_endpoint(endpoint),
        None => builder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_servers_and_hold_no_password() {
        assert_eq!(plain(&parse_endpoint("https://host:7480/").unwrap()), "https://host:7480");
        let endpoint = parse_endpoint("http://host:1").unwrap();
        assert_eq!(with_bucket(&endpoint, "b").unwrap(), "http://b.host:1");
        for wrong in ["", "host", "host:7480", "ftp://host", "https://", "https://host?x=1"] {
            assert_eq!(parse_endpoint(wrong).unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong}");
        }
        let error = parse_endpoint("https://user:hush@host").unwrap_err().to_string();
        assert!(error.contains("password") && !error.contains("hush"), "{error}");
    }
}
