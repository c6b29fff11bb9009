//! A connection: a socket, plain or with TLS on top. One thread reads while another writes.

use std::io::{ErrorKind as Io, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use backy_core::{Error, ErrorKind, Result};

use super::tls::TlsSession;

/// A socket of either kind.
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A connection.
pub(crate) struct Stream {
    socket: Arc<Socket>,
    tls: Option<TlsSession>,
}

impl Socket {
    pub(crate) fn read(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = match self {
                Socket::Unix(socket) => (&mut &*socket).read(buffer),
                Socket::Tcp(socket) => (&mut &*socket).read(buffer),
            };
            match read {
                Err(error) if error.kind() == Io::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Writes all of `parts`, one behind the other.
    pub(crate) fn write_all(&self, parts: &[&[u8]]) -> std::io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let written = match self {
                Socket::Unix(socket) => (&mut &*socket).write_vectored(rest),
                Socket::Tcp(socket) => (&mut &*socket).write_vectored(rest),
            };
            match written {
                Ok(0) => return Err(Io::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut rest, count),
                Err(error) if error.kind() == Io::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends one direction or both; who waits is woken. It fails only if the other side has ended it already.
    pub(crate) fn end(&self, how: Shutdown) {
        let _ = match self {
            Socket::Unix(socket) => socket.shutdown(how),
            Socket::Tcp(socket) => socket.shutdown(how),
        };
    }
}

impl Stream {
    pub(crate) fn new(socket: Arc<Socket>) -> Stream {
        Stream { socket, tls: None }
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Goes on with TLS.
    pub(crate) fn encrypt(&mut self, config: Arc<rustls::ServerConfig>) -> Result<()> {
        self.tls = Some(TlsSession::accept(&self.socket, config)?);
        Ok(())
    }

    /// Fills `buffer`; false if the client has gone away before the first byte.
    pub(crate) fn read_or_end(&self, buffer: &mut [u8]) -> Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = &mut buffer[filled..];
            let read = match &self.tls {
                None => self.socket.read(rest),
                Some(tls) => tls.read(&self.socket, rest),
            };
            match read {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(Error::new(ErrorKind::Unavailable, "the client went away in the middle")),
                Ok(count) => filled += count,
                Err(error) => return Err(Error::io("read from the client", error)),
            }
        }
        Ok(true)
    }

    /// Fills `buffer`.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<()> {
        if buffer.is_empty() || self.read_or_end(buffer)? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "the client went away"))
    }

    /// Writes all of `parts`; two threads must not do so at once.
    pub(crate) fn write(&self, parts: &[&[u8]]) -> Result<()> {
        let written = match &self.tls {
            None => self.socket.write_all(parts),
            Some(tls) => tls.write_all(&self.socket, parts),
        };
        written.map_err(|error| Error::io("write to the client", error))
    }
}
