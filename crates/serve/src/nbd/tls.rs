//! TLS for connections over a network: certificates from files, and one thread that reads while another writes.
//!
//! The lock is held while bytes are encrypted or decrypted, never while the socket is waited for.

use std::io::{Cursor, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backy_core::{Error, ErrorKind, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::stream::Socket;

/// How much of the socket is read at once: one record of TLS.
const RECORD_BYTES: usize = 17 << 10;
/// How much is encrypted before it is sent.
const PIECE_BYTES: usize = 64 << 10;

/// Where the certificates are, as PEM files.
#[derive(Clone, Copy, Debug)]
pub struct Certificates<'a> {
    /// The certificate of the server, and those up to its authority.
    pub chain: &'a Path,
    /// The key of the certificate.
    pub key: &'a Path,
    /// The authority whose certificates clients must have; none: every client is let in.
    pub client_authority: Option<&'a Path>,
}

/// Reads the certificates.
///
/// # Errors
/// `InvalidInput` if they are no certificates, or do not fit together.
pub fn server_config(certificates: Certificates<'_>) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Error::with_source(ErrorKind::Unsupported, "set up TLS", error))?;
    let builder = match certificates.client_authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let refused = |message: String| Error::invalid(format!("use {}: {message}", path.display()));
            let mut roots = RootCertStore::empty();
            for certificate in read_certificates(path)? {
                roots.add(certificate).map_err(|error| refused(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| refused(error.to_string()))?)
        }
    };
    let chain = read_certificates(certificates.chain)?;
    let key = PrivateKeyDer::from_pem_file(certificates.key).map_err(|error| pem_error(certificates.key, &error))?;
    let config = builder.with_single_cert(chain, key).map_err(|error| {
        Error::invalid(format!("use {} with {}: {error}", certificates.chain.display(), certificates.key.display()))
    })?;
    Ok(Arc::new(config))
}

/// The encrypted side of a connection.
pub(crate) struct TlsSession {
    connection: Mutex<ServerConnection>,
    /// What was read off the socket and not yet decrypted.
    pending: Mutex<Cursor<Vec<u8>>>,
}

impl TlsSession {
    /// Comes to terms with the client.
    pub(crate) fn accept(socket: &Socket, config: Arc<ServerConfig>) -> Result<TlsSession> {
        let failed = |error: std::io::Error| Error::with_source(ErrorKind::InvalidInput, "begin TLS", error);
        let mut connection = ServerConnection::new(config).map_err(|error| failed(std::io::Error::other(error)))?;
        let mut both = Both(socket);
        while connection.is_handshaking() {
            connection.complete_io(&mut both).map_err(failed)?;
        }
        // The last message of the server may still be waiting.
        while connection.wants_write() {
            connection.write_tls(&mut both).map_err(failed)?;
        }
        Ok(TlsSession { connection: Mutex::new(connection), pending: Mutex::default() })
    }

    /// Reads some plain bytes; 0 when the client has said goodbye.
    pub(crate) fn read(&self, socket: &Socket, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.lock().reader().read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            if pending.position() == pending.get_ref().len() as u64 {
                let mut record = std::mem::take(&mut *pending).into_inner();
                record.resize(RECORD_BYTES, 0);
                let count = socket.read(&mut record)?;
                record.truncate(count);
                *pending = Cursor::new(record);
                if count == 0 {
                    return Ok(0);
                }
            }
            // Not all of it at once: the library refuses more while plain bytes wait to be read.
            let mut connection = self.lock();
            connection.read_tls(&mut *pending)?;
            let processed = connection.process_new_packets();
            processed.map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?;
        }
    }

    /// Writes all of `parts`.
    pub(crate) fn write_all(&self, socket: &Socket, parts: &[&[u8]]) -> std::io::Result<()> {
        let mut sealed = Vec::new();
        for piece in parts.iter().flat_map(|part| part.chunks(PIECE_BYTES)) {
            let mut connection = self.lock();
            let mut rest = piece;
            while !rest.is_empty() {
                let count = connection.writer().write(rest)?;
                rest = &rest[count..];
                while connection.wants_write() {
                    connection.write_tls(&mut sealed)?;
                }
            }
            drop(connection);
            if sealed.len() >= PIECE_BYTES {
                socket.write_all(&[&sealed])?;
                sealed.clear();
            }
        }
        socket.write_all(&[&sealed])
    }

    fn lock(&self) -> MutexGuard<'_, ServerConnection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket as a library wants it.
struct Both<'a>(&'a Socket);

impl Read for Both<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Both<'_> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.0.write_all(&[buffer]).map(|()| buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| pem_error(path, &error))?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|error| pem_error(path, &error))?;
    if certificates.is_empty() {
        return Err(Error::invalid(format!("{} holds no certificate", path.display())));
    }
    Ok(certificates)
}

fn pem_error(path: &Path, error: &rustls::pki_types::pem::Error) -> Error {
    Error::invalid(format!("read {}: {error}", path.display()))
}
