//! A proxy on loopback that is a bad network: it cuts, delays, resets, truncates, stalls, and is down for a while.
//!
//! ```text
//!  client ---- proxy ---- server        each connection has its own fault, drawn from the seed when it is made:
//!                                       the first byte after so many goes wrong, in one direction
//! ```
//!
//! It knows nothing of what it carries. Time passes for real here: a network cannot be told to hurry.

use std::io::{Read, Result, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use socket2::SockRef;

/// What goes wrong with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The client's bytes end, as if it had hung up.
    Cut,
    /// Both sides see a reset.
    Reset,
    /// The server's bytes end, as if it had hung up.
    Truncate,
    /// Everything comes late.
    Delay,
    /// Nothing comes any more, and nobody hangs up.
    Stall,
}

/// The proxy. It ends with the process; dropped, it takes no more connections.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    target: SocketAddr,
    rng: Mutex<ChaCha8Rng>,
    /// How many of a thousand connections have trouble.
    trouble_per_mille: AtomicU32,
    troubles: Mutex<Vec<Trouble>>,
    is_down: AtomicBool,
    is_over: AtomicBool,
    connections: AtomicU64,
    troubled: AtomicU64,
}

/// The fault of one connection.
#[derive(Clone, Copy)]
struct Fault {
    trouble: Trouble,
    /// How many bytes pass before, in the direction that it concerns.
    after_bytes: u64,
}

/// The longest delay of a piece.
const DELAY: Duration = Duration::from_millis(30);

impl Proxy {
    /// Starts a proxy before `target` on a free port of 127.0.0.1; all is well until it is told otherwise.
    pub fn start(target: SocketAddr, seed: u64) -> Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            target,
            rng: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
            trouble_per_mille: AtomicU32::new(0),
            troubles: Mutex::default(),
            is_down: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            troubled: AtomicU64::new(0),
        });
        let shared = state.clone();
        std::thread::Builder::new().name("proxy".to_owned()).spawn(move || accept(&listener, &shared))?;
        Ok(Proxy { address, state })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets so many of a thousand new connections have one of these troubles.
    pub fn trouble(&self, per_mille: u32, troubles: &[Trouble]) {
        *self.state.troubles.lock().unwrap_or_else(PoisonError::into_inner) = troubles.to_vec();
        self.state.trouble_per_mille.store(per_mille, Ordering::SeqCst);
    }

    /// Breaks all connections and takes no new ones until it is called with false.
    pub fn set_down(&self, is_down: bool) {
        self.state.is_down.store(is_down, Ordering::SeqCst);
    }

    /// Returns how many connections were made, and how many of them had trouble.
    pub fn counts(&self) -> (u64, u64) {
        (self.state.connections.load(Ordering::SeqCst), self.state.troubled.load(Ordering::SeqCst))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn draw(&self) -> Option<Fault> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let is_troubled = rng.random_range(0..1000) < self.trouble_per_mille.load(Ordering::SeqCst);
        if !is_troubled || troubles.is_empty() {
            return None;
        }
        let trouble = troubles.get(rng.random_range(0..troubles.len())).copied()?;
        self.troubled.fetch_add(1, Ordering::SeqCst);
        // In the middle of a header as well as of a pack.
        let scale = rng.random_range(0..22_u32);
        Some(Fault { trouble, after_bytes: rng.random_range(0..=1_u64 << scale) })
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for client in listener.incoming() {
        if state.is_over.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        state.connections.fetch_add(1, Ordering::SeqCst);
        if state.is_down.load(Ordering::SeqCst) {
            reset(&client);
            continue;
        }
        let Ok(server) = TcpStream::connect(state.target) else { continue };
        let fault = state.draw();
        for (from, to, is_upward) in [(&client, &server, true), (&server, &client, false)] {
            if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                let state = state.clone();
                std::thread::spawn(move || carry(from, to, is_upward, fault, &state));
            }
        }
    }
}

/// Carries bytes in one direction until somebody hangs up, or the fault says so.
fn carry(mut from: TcpStream, mut to: TcpStream, is_upward: bool, fault: Option<Fault>, state: &State) {
    let mut buffer = [0; 16 << 10];
    let mut carried_bytes = 0;
    let fault = fault.filter(|fault| match fault.trouble {
        Trouble::Cut => is_upward,
        Trouble::Truncate => !is_upward,
        _ => true,
    });
    // So that an outage is noticed in a connection on which nothing moves.
    let _ = from.set_read_timeout(Some(Duration::from_millis(50)));
    loop {
        let length = match from.read(&mut buffer) {
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                if state.is_down.load(Ordering::SeqCst) {
                    return both(&from, &to, reset);
                }
                continue;
            }
            Ok(0) | Err(_) => return both(&from, &to, hang_up),
            Ok(length) => length,
        };
        if state.is_down.load(Ordering::SeqCst) {
            return both(&from, &to, reset);
        }
        let mut piece = buffer.get(..length).unwrap_or_default();
        if let Some(fault) = fault {
            let left = usize::try_from(fault.after_bytes.saturating_sub(carried_bytes)).unwrap_or(usize::MAX);
            if fault.trouble == Trouble::Delay {
                std::thread::sleep(DELAY);
            } else if left < piece.len() {
                piece = piece.get(..left).unwrap_or_default();
                let _ = to.write_all(piece);
                match fault.trouble {
                    Trouble::Reset => both(&from, &to, reset),
                    // Held open, and silent, until the other side gives up.
                    Trouble::Stall => while matches!(from.read(&mut buffer), Ok(length) if length > 0) {},
                    _ => both(&from, &to, hang_up),
                }
                return;
            }
        }
        if to.write_all(piece).is_err() {
            return both(&from, &to, hang_up);
        }
        carried_bytes += piece.len() as u64;
    }
}

fn both(one: &TcpStream, other: &TcpStream, end: fn(&TcpStream)) {
    end(one);
    end(other);
}

fn hang_up(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}

/// Ends a connection so that the other side sees a reset once the last handle is dropped.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    // Wakes the thread of the other direction; the reset follows when both have let go.
    let _ = stream.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each connection with all bytes that it has got, once the client has ended them.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                std::thread::spawn(move || {
                    let mut length = [0; 4];
                    if stream.read_exact(&mut length).is_ok() {
                        let mut body = vec![0; u32::from_le_bytes(length) as usize];
                        if stream.read_exact(&mut body).is_ok() {
                            let _ = stream.write_all(&body);
                        }
                    }
                });
            }
        });
        address
    }

    fn ask(proxy: &Proxy, body: &[u8]) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect(proxy.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(&u32::try_from(body.len()).unwrap().to_le_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| answer)
    }

    #[test]
    fn in_good_weather_everything_passes() {
        let proxy = Proxy::start(echo(), 1).unwrap();
        for size in [0, 1, 70_000, 2 << 20] {
            let body = vec![7; size];
            assert!(ask(&proxy, &body).unwrap() == body, "{size}");
        }
    }

    #[test]
    fn each_trouble_is_seen_and_nothing_wrong_comes_through() {
        for trouble in [Trouble::Cut, Trouble::Reset, Trouble::Truncate] {
            let proxy = Proxy::start(echo(), 2).unwrap();
            proxy.trouble(1000, &[trouble]);
            let body = vec![7; 4 << 20];
            let answer = ask(&proxy, &body).unwrap_or_default();
            assert!(answer.len() < body.len() && body.starts_with(&answer), "{trouble:?}");
            assert_eq!(proxy.counts(), (1, 1));
        }
    }

    #[test]
    fn it_is_down_and_up_again() {
        let proxy = Proxy::start(echo(), 3).unwrap();
        proxy.set_down(true);
        assert!(ask(&proxy, b"x").unwrap_or_default().is_empty());
        proxy.set_down(false);
        assert_eq!(ask(&proxy, b"x").unwrap(), b"x");
    }
}
