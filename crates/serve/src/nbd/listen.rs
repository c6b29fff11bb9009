//! Sockets that clients connect to, and a thread for each connection.
//!
//! ```text
//!  new --come to terms--> served --goes away, or the server stops--> gone
//!   '-- takes too long, or is the oldest when there is no room: cut off -^
//! ```
//!
//! Whoever reaches the socket can connect and be silent, so who has not come to terms never keeps others out. When the user
//! stops the server, connections take no more requests, those under way are answered, and it ends; a client that does not
//! read its replies then is cut off.

use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backy_core::cancel::Cancel;
use backy_core::environment::Clock;
use backy_core::{Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::ServerConfig;
use tracing::{debug, warn};

use super::export::Exports;
use super::negotiate::negotiate;
use super::stream::{Socket, Stream};
use super::transmit::transmit;

/// As many clients are connected at once.
pub const CONNECTIONS_MAX: usize = 64;
/// How long a client may take for each option until it has come to terms, the answer included. It may ask about hundreds
/// of versions first.
pub const OPTION_TIME_MAX: Duration = Duration::from_secs(120);
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

/// Serves clients until the user stops it. `clock` says who takes too long.
pub fn serve(
    listeners: &[Listener],
    exports: &dyn Exports,
    tls: Option<&Arc<ServerConfig>>,
    cancel: &Cancel,
    clock: &dyn Clock,
) -> Result<()> {
    let connections = Connections::default();
    std::thread::scope(|scope| {
        let mut number = 0;
        while !cancel.is_cancelled() {
            for socket in wait(listeners)? {
                number += 1;
                let Some(socket) = connections.add(number, socket, clock.elapsed()) else { continue };
                let connections = &connections;
                let run = move || {
                    let change = |state| connections.change(number, state);
                    match converse(socket, exports, tls, clock, &change) {
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
            connections.end_late(clock.elapsed());
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
            // Too many open files, say: the others are served on. It would be tried again at once, and fail again.
            Err(error) => {
                warn!("a client cannot be taken: {error}");
                let _ = poll(&mut [], Some(&LOOK_INTERVAL));
            }
        }
    }
    Ok(sockets)
}

fn converse(
    socket: Arc<Socket>,
    exports: &dyn Exports,
    tls: Option<&Arc<ServerConfig>>,
    clock: &dyn Clock,
    change: &dyn Fn(State),
) -> Result<()> {
    let mut stream = Stream::new(socket);
    let heard = || change(State::New(clock.elapsed()));
    let Some(session) = negotiate(&mut stream, exports, tls, &heard)? else { return Ok(()) };
    change(State::Served);
    debug!("a client has opened {}.", session.export.description());
    let outcome = transmit(&stream, &session);
    stream.socket().end(Shutdown::Both);
    outcome
}

/// The connections that are up, by their numbers: the oldest first.
#[derive(Default)]
struct Connections {
    up: Mutex<BTreeMap<u64, Connection>>,
    changed: Condvar,
}

struct Connection {
    socket: Arc<Socket>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Has not come to terms; last heard of then.
    New(Duration),
    Served,
    /// Its thread has not noticed yet.
    CutOff,
}

impl Connections {
    /// Takes a client in; none if there is no room, and nobody who has to make some.
    fn add(&self, number: u64, socket: Socket, now: Duration) -> Option<Arc<Socket>> {
        let mut up = self.lock();
        let up_count = up.len();
        if up.values().filter(|connection| connection.state != State::CutOff).count() >= CONNECTIONS_MAX {
            let oldest = up.values_mut().find(|connection| matches!(connection.state, State::New(_)));
            // Those who are cut off are soon gone, but not while they wait for the store.
            let Some(oldest) = oldest.filter(|_| up_count < 2 * CONNECTIONS_MAX) else {
                warn!("a client is sent away: there are {CONNECTIONS_MAX} already");
                return None;
            };
            debug!("a client that has not come to terms makes room for another one.");
            oldest.cut_off();
        }
        let socket = Arc::new(socket);
        up.insert(number, Connection { socket: socket.clone(), state: State::New(now) });
        Some(socket)
    }

    fn change(&self, number: u64, state: State) {
        if let Some(connection) = self.lock().get_mut(&number)
            && connection.state != State::CutOff
        {
            connection.state = state;
        }
    }

    fn remove(&self, number: u64) {
        self.lock().remove(&number);
        self.changed.notify_all();
    }

    /// Cuts off who takes too long to come to terms.
    fn end_late(&self, now: Duration) {
        let is_late = |connection: &&mut Connection| matches!(connection.state, State::New(since) if now.saturating_sub(since) > OPTION_TIME_MAX);
        self.lock().values_mut().filter(is_late).for_each(Connection::cut_off);
    }

    /// Lets requests that are under way be answered, then ends what is left.
    fn end(&self) {
        let up = self.lock();
        up.values().for_each(|connection| connection.socket.end(Shutdown::Read));
        let waited = self.changed.wait_timeout_while(up, FAREWELL, |up| !up.is_empty());
        let (up, _) = waited.unwrap_or_else(PoisonError::into_inner);
        up.values().for_each(|connection| connection.socket.end(Shutdown::Both));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Connection>> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Ends it; its thread, which may be reading or writing, is woken.
    fn cut_off(&mut self) {
        self.socket.end(Shutdown::Both);
        self.state = State::CutOff;
    }
}
