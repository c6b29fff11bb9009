//! Connections, TLS, throttling, and the metadata service of a virtual machine.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, HttpResponse};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::bucket::Bucket;
use crate::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};

/// The name of the role that the metadata service has credentials for.
const ROLE: &str = "backup-role";
/// The token that the metadata service wants to see.
const TOKEN: &str = "metadata-token";

/// What stands before the bucket.
pub(crate) struct Front {
    service: S3Service,
    tls: Option<TlsAcceptor>,
    pub(crate) requests: AtomicUsize,
    /// How many requests are still to be slowed down, and for how long.
    slow: Mutex<(usize, Duration)>,
}

impl Front {
    /// Makes it, and the certificate of its authority if it speaks TLS.
    pub(crate) fn new(bucket: Bucket, is_tls: bool) -> (Front, Option<String>) {
        let mut builder = S3ServiceBuilder::new(bucket);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        let (tls, ca_pem) = is_tls.then(tls).unzip();
        (Front { service: builder.build(), tls, requests: AtomicUsize::new(0), slow: Mutex::default() }, ca_pem)
    }

    pub(crate) fn slow_down(&self, count: usize, pause: Duration) {
        *self.slow.lock().unwrap() = (count, pause);
    }

    pub(crate) async fn serve(self: Arc<Front>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let front = self.clone();
            tokio::spawn(async move {
                match front.tls.clone() {
                    None => front.talk(stream).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            front.talk(stream).await;
                        }
                    }
                }
            });
        }
    }

    async fn talk(self: Arc<Front>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(|request| {
            let front = self.clone();
            async move { front.answer(request).await }
        });
        // A client that goes away is no matter.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: http::Request<Incoming>) -> Result<HttpResponse, HttpError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        if let Some(answer) = self.slowed() {
            return Ok(answer);
        }
        if request.uri().path().starts_with("/latest/") {
            return Ok(metadata(&request));
        }
        self.service.call(request.map(Body::from)).await
    }

    fn slowed(&self) -> Option<HttpResponse> {
        let mut slow = self.slow.lock().unwrap();
        slow.0 = slow.0.checked_sub(1)?;
        let body = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>later</Message></Error>";
        let response = http::Response::builder().status(503).header("retry-after", slow.1.as_secs());
        Some(response.body(Body::from(body.to_owned())).unwrap())
    }
}

/// Answers as the metadata service does, in its second version.
fn metadata(request: &http::Request<Incoming>) -> HttpResponse {
    let has_token = request.headers().get("x-aws-ec2-metadata-token").is_some_and(|token| token == TOKEN);
    let credentials = "/latest/meta-data/iam/security-credentials/";
    let (status, body) = match (request.method().as_str(), request.uri().path()) {
        ("PUT", "/latest/api/token") => (200, TOKEN.to_owned()),
        ("GET", path) if has_token && path == credentials => (200, ROLE.to_owned()),
        ("GET", path) if has_token && path == format!("{credentials}{ROLE}") => (
            200,
            format!(
                "{{\"AccessKeyId\":\"{ACCESS_KEY_ID}\",\"SecretAccessKey\":\"{SECRET_ACCESS_KEY}\",\"Token\":\"t\",\
                 \"Expiration\":\"2999-01-01T00:00:00Z\",\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\
                 \"LastUpdated\":\"2020-01-01T00:00:00Z\"}}"
            ),
        ),
        _ => (401, String::new()),
    };
    http::Response::builder().status(status).body(Body::from(body)).unwrap()
}

/// Makes an authority and a certificate for 127.0.0.1 and localhost.
fn tls() -> (TlsAcceptor, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), authority.pem())
}
