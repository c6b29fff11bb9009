//! Sockets that clients connect to, and a thread for each connection.
//!
//! When the user stops the server, connections take no more requests, those under way are answered, and it ends. A client
//! that does not come to terms, or does not read its replies then, is cut off.

use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backy_core::cancel::Cancel;
use backy_core::{Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::ServerConfig;
use tracing::{debug, warn};

use super::export::Exports;
use super::negotiate::negotiate;
use super::stream::{Socket, Stream};
use super::transmit::transmit;

/// As many clients are served at once.
const CONNECTIONS_MAX: usize = 64;
/// How long a handshake may take between two messages.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the listeners look whether the user wants to stop.
const LOOK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// How long requests that are under way may take when the server stops.
const FAREWELL: Duration = Duration::from_secs(10);

/// A socket that waits for clients.
pub struct Listener {
    socket: ListeningSocket,
}

enum ListeningSocket {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

impl Listener {
    /// Listens on a Unix socket that only our user may connect to. A socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// `Busy` if somebody listens there, `AlreadyExists` if something else has that name.
    pub fn unix(path: &Path) -> Result<Listener> {
        let failed = |error| Error::io(format!("listen on {}", path.display()), error);
        if let Ok(found) = std::fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                let message = format!("{} is there already, and no socket", path.display());
                return Err(Error::new(ErrorKind::AlreadyExists, message));
            }
            if UnixStream::connect(path).is_ok() {
                return Err(Error::new(ErrorKind::Busy, format!("somebody listens on {} already", path.display())));
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Listener { socket: ListeningSocket::Unix(listener, path.to_owned()) })
    }

    /// Listens on a port.
    pub fn tcp(address: SocketAddr) -> Result<Listener> {
        let failed = |error| Error::io(format!("listen on {address}"), error);
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Listener { socket: ListeningSocket::Tcp(listener) })
    }

    /// Returns how clients find it, as an NBD URI without an export; `nbds` with TLS.
    pub fn uri(&self, has_tls: bool) -> String {
        let scheme = if has_tls { "nbds" } else { "nbd" };
        match &self.socket {
            ListeningSocket::Unix(_, path) => format!("{scheme}+unix:///?socket={}", path.display()),
            ListeningSocket::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("{scheme}://{address}/"),
                Err(_) => format!("{scheme}://?/"),
            },
        }
    }

    /// Returns the port of a TCP socket.
    pub fn port(&self) -> Option<u16> {
        match &self.socket {
            ListeningSocket::Unix(..) => None,
            ListeningSocket::Tcp(listener) => listener.local_addr().ok().map(|address| address.port()),
        }
    }

    /// Takes a client that waits; none if there is none after all.
    fn accept(&self) -> std::io::Result<Option<Socket>> {
        let accepted = match &self.socket {
            ListeningSocket::Unix(listener, _) => listener.accept().map(|(socket, _)| Socket::Unix(socket)),
            ListeningSocket::Tcp(listener) => listener.accept().map(|(socket, _)| Socket::Tcp(socket)),
        };
        match accepted {
            Ok(socket) => {
                match &socket {
                    Socket::Unix(socket) => socket.set_nonblocking(false)?,
                    Socket::Tcp(socket) => {
                        socket.set_nonblocking(false)?;
                        socket.set_nodelay(true)?;
                        // A client whose machine is gone is found out within hours at most.
                        rustix::net::sockopt::set_socket_keepalive(socket, true)?;
                    }
                }
                Ok(Some(socket))
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            ListeningSocket::Unix(listener, _) => listener.as_fd(),
            ListeningSocket::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let ListeningSocket::Unix(_, path) = &self.socket {
            // Somebody else may have taken it away.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Serves clients until the user stops it.
pub fn serve(
    listeners: &[Listener],
    exports: &dyn Exports,
    tls: Option<&Arc<ServerConfig>>,
    cancel: &Cancel,
) -> Result<()> {
    let connections = Connections::default();
    std::thread::scope(|scope| {
        let mut number = 0;
        while !cancel.is_cancelled() {
            for socket in wait(listeners)? {
                number += 1;
                let Some(socket) = connections.add(number, socket) else { continue };
                let connections = &connections;
                let run = move || {
                    match converse(socket, exports, tls) {
                        Ok(()) => debug!("client {number} has gone."),
                        Err(error) => warn!("client {number} was cut off: {error}"),
                    }
                    connections.remove(number);
                };
                let spawned = std::thread::Builder::new().name("client".to_owned()).spawn_scoped(scope, run);
                if let Err(error) = spawned {
                    warn!("client {number} cannot be served: {error}");
                    connections.remove(number);
                }
            }
        }
        connections.end();
        Ok(())
    })
}

/// Waits a little for clients.
fn wait(listeners: &[Listener]) -> Result<Vec<Socket>> {
    let mut fds: Vec<PollFd<'_>> =
        listeners.iter().map(|listener| PollFd::from_borrowed_fd(listener.fd(), PollFlags::IN)).collect();
    match poll(&mut fds, Some(&LOOK_INTERVAL)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(Error::io("wait for clients", errno.into())),
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let mut sockets = Vec::new();
    for (listener, _) in listeners.iter().zip(ready).filter(|(_, is_ready)| *is_ready) {
        match listener.accept() {
            Ok(socket) => sockets.extend(socket),
            // Too many open files, say: the others are served on.
            Err(error) => warn!("a client cannot be taken: {error}"),
        }
    }
    Ok(sockets)
}

fn converse(socket: Arc<Socket>, exports: &dyn Exports, tls: Option<&Arc<ServerConfig>>) -> Result<()> {
    socket.set_timeout(Some(HANDSHAKE_TIMEOUT))?;
    let mut stream = Stream::new(socket);
    let Some(session) = negotiate(&mut stream, exports, tls)? else { return Ok(()) };
    stream.socket().set_timeout(None)?;
    debug!("a client has opened {}.", session.export.description());
    let outcome = transmit(&stream, &session);
    stream.socket().end(Shutdown::Both);
    outcome
}

/// The connections that are up.
#[derive(Default)]
struct Connections {
    sockets: Mutex<BTreeMap<u64, Arc<Socket>>>,
    changed: Condvar,
}

impl Connections {
    fn add(&self, number: u64, socket: Socket) -> Option<Arc<Socket>> {
        let socket = Arc::new(socket);
        let mut sockets = self.lock();
        if sockets.len() >= CONNECTIONS_MAX {
            warn!("a client is sent away: there are {CONNECTIONS_MAX} already");
            return None;
        }
        sockets.insert(number, socket.clone());
        Some(socket)
    }

    fn remove(&self, number: u64) {
        self.lock().remove(&number);
        self.changed.notify_all();
    }

    /// Lets requests that are under way be answered, then ends what is left.
    fn end(&self) {
        let sockets = self.lock();
        sockets.values().for_each(|socket| socket.end(Shutdown::Read));
        let waited = self.changed.wait_timeout_while(sockets, FAREWELL, |sockets| !sockets.is_empty());
        let (sockets, _) = waited.unwrap_or_else(PoisonError::into_inner);
        sockets.values().for_each(|socket| socket.end(Shutdown::Both));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Socket>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
