//! One request over HTTP, for the client library, which signs it and reads what comes back.
//!
//! It notes in the call's [`Conversation`] what was answered and when the last byte moved, and keeps to plain HTTP/1.1:
//! several connections carry more than several streams of one. No request follows a redirect: the signature would not.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backy_core::{Error, ErrorKind, Result};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt, Limited};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response, Url};

use super::answer::{Conversation, Failure, code_in};

tokio::task_local! {
    /// The call that the running future belongs to.
    pub(super) static CONVERSATION: Arc<Conversation>;
}

/// How long it may take to reach the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long it may take to reach what is on this machine or next to it, as a metadata service is, if there is one.
const CONNECT_TIMEOUT_NEAR: Duration = Duration::from_secs(3);

/// How much of the body of an error is looked at, in bytes.
const ERROR_BODY_MAX: usize = 64 << 10;

/// What makes requests. Clones share their connections.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    /// For the store, through the proxy of the environment if there is one.
    client: Client,
    /// For addresses of this machine and its surroundings, where a proxy has no business.
    direct: Client,
    /// The host and port of the server.
    server: (String, Option<u16>),
}

impl Transport {
    /// Prepares for requests to `endpoint`; with `ca` (PEM), only those certificates are trusted.
    pub(super) fn new(endpoint: &Url, ca: Option<&[u8]>, timeout: Duration) -> Result<Transport> {
        let server = (endpoint.host_str().unwrap_or_default().to_owned(), endpoint.port_or_known_default());
        let trusted = ca.map(certificates).transpose()?;
        let build = |is_direct: bool| {
            let mut builder = Client::builder()
                .user_agent(concat!("backy2/", env!("CARGO_PKG_VERSION")))
                .http1_only()
                .redirect(Policy::none())
                .connect_timeout(if is_direct { CONNECT_TIMEOUT_NEAR } else { CONNECT_TIMEOUT })
                .tcp_keepalive(timeout)
                .tcp_user_timeout(timeout)
                .tcp_nodelay(true);
            if is_direct {
                builder = builder.no_proxy();
            }
            // Without TLS the machine's certificates are not looked for: a small container may have none.
            builder = match &trusted {
                Some(trusted) => builder.tls_certs_only(trusted.clone()),
                None if is_direct || endpoint.scheme() == "http" => builder.tls_certs_only([]),
                None => builder,
            };
            let failed = |error| Error::with_source(ErrorKind::Io, "prepare for requests over HTTP", error);
            builder.build().map_err(failed)
        };
        Ok(Transport { client: build(false)?, direct: build(true)?, server })
    }

    /// Says whether `url` is of the server, with the bucket in the host or not.
    fn is_of_server(&self, url: &Url) -> bool {
        let (host, port) = &self.server;
        url.host_str().is_some_and(|own| own.ends_with(host)) && url.port_or_known_default() == *port
    }

    fn client_for(&self, url: &Url) -> &Client {
        let is_near = matches!(url.host_str(), Some("localhost" | "[::1]" | "[fd00:ec2::254]"))
            || url.host_str().is_some_and(|host| host.starts_with("127.") || host.starts_with("169.254."));
        if is_near && url.scheme() == "http" { &self.direct } else { &self.client }
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate>> {
    let certificates = Certificate::from_pem_bundle(pem)
        .map_err(|error| Error::with_source(ErrorKind::InvalidInput, "these are no certificates (PEM)", error))?;
    if certificates.is_empty() {
        return Err(Error::invalid("there is no certificate (PEM) in it"));
    }
    Ok(certificates)
}

impl HttpConnector for Transport {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let conversation = CONVERSATION.get();
        let (parts, body) = request.into_parts();
        let url: Url = parts
            .uri
            .to_string()
            .parse()
            .map_err(|error| HttpError::new_boxed(HttpErrorKind::Unknown, format!("{error}").into()))?;
        conversation.begin(!self.is_of_server(&url));
        let client = self.client_for(&url).clone();
        let mut outgoing = reqwest::Request::new(parts.method, url);
        *outgoing.headers_mut() = parts.headers;
        let length = body.content_length();
        if length > 0 {
            // A body that is watched does not say its length by itself, and no S3 takes one without.
            outgoing.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
            let sending = conversation.clone();
            *outgoing.body_mut() = Some(reqwest::Body::wrap(body.map_frame(move |frame| {
                sending.moved();
                frame
            })));
        }
        let response = client.execute(outgoing).await.map_err(|error| failed(&conversation, error))?;
        conversation.moved();
        note(&conversation, &response);
        let is_success = response.status().is_success();
        let (parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
        if !is_success {
            let body = Limited::new(body, ERROR_BODY_MAX).collect().await.map(|body| body.to_bytes());
            let body = body.unwrap_or_else(|_| Bytes::new());
            conversation.lock().code = code_in(&String::from_utf8_lossy(&body));
            return Ok(HttpResponse::from_parts(parts, body.into()));
        }
        let receiving = conversation.clone();
        let body = body
            .map_frame(move |frame| {
                receiving.moved();
                frame
            })
            .map_err(move |error| failed(&conversation, error));
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

fn note(conversation: &Conversation, response: &Response) {
    let mut state = conversation.lock();
    state.status = Some(response.status().as_u16());
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    state.retry_after = retry_after.and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
}

/// Notes what went wrong below HTTP, in all the words that the libraries have for it, but without the address.
fn failed(conversation: &Conversation, error: reqwest::Error) -> HttpError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut is_distrust = false;
    let mut inner = error.source();
    while let Some(source) = inner {
        let words = source.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        is_distrust |= is_certificate_refused(source);
        inner = source.source();
    }
    conversation.lock().failure = Some(Failure { text, is_distrust });
    HttpError::new(HttpErrorKind::Interrupted, error)
}

/// Says whether the server's certificate was refused. The TLS library's error lies within one or more of the system's.
fn is_certificate_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return matches!(error, rustls::Error::InvalidCertificate(_));
    }
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    inner.is_some_and(|inner| is_certificate_refused(inner))
}
