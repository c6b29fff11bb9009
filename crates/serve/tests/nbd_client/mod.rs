//! A client that speaks the protocol by hand, right and wrong, and a server for it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails may panic")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use backy_core::cancel::Cancel;
use backy_core::{Error, ErrorKind, Result};
use backy_serve::nbd::export::{Export, Exports};
use backy_serve::nbd::listen::{Listener, serve};
use backy_serve::nbd::wire::handshake::{
    ContextRequest, ExportRequest, Greeting, Information, OptionHeader, OptionReplyHeader, option, reply,
};
use backy_serve::nbd::wire::transmission::{ChunkHeader, Request, SimpleReply, chunk, decode_error};
use backy_testkit::clock::SimulatedClock;

/// Exports that do not change.
#[derive(Default)]
pub struct Fixed(pub BTreeMap<String, Arc<Export>>);

impl Exports for Fixed {
    fn names(&self) -> Result<Vec<String>> {
        Ok(self.0.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> Result<Arc<Export>> {
        let found = self.0.get(name).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no {name:?}")))
    }
}

/// A running server.
pub struct Server {
    folder: tempfile::TempDir,
    cancel: Cancel,
    pub clock: Arc<SimulatedClock>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Server {
    /// Starts a server of these exports.
    pub fn start(exports: impl IntoIterator<Item = (&'static str, Export)>) -> Server {
        let exports = exports.into_iter().map(|(name, export)| (name.to_owned(), Arc::new(export)));
        Server::start_with(Arc::new(Fixed(exports.collect())))
    }

    /// Starts a server.
    pub fn start_with(exports: Arc<dyn Exports>) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let listener = Listener::unix(&folder.path().join("socket")).unwrap();
        let cancel = Cancel::default();
        let stop = cancel.clone();
        let clock = Arc::new(SimulatedClock::default());
        let now = clock.clone();
        let thread = std::thread::spawn(move || serve(&[listener], exports.as_ref(), None, &stop, now.as_ref()));
        Server { folder, cancel, clock, thread: Some(thread) }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Connects, and sends the flags.
    pub fn connect(&self) -> Client {
        let mut client = Client { socket: UnixStream::connect(self.path()).unwrap(), has_structured_replies: false };
        let greeting = Greeting::decode(&client.read(Greeting::BYTES)).unwrap();
        assert_eq!(greeting.flags, 3);
        client.send(&3u32.to_be_bytes());
        client
    }

    /// Connects and opens an export with everything that there is.
    pub fn open(&self, name: &str) -> Client {
        let mut client = self.connect();
        assert_eq!(client.ask(option::STRUCTURED_REPLY, &[]).0, reply::ACK);
        client.has_structured_replies = true;
        let request = ContextRequest { name: name.to_owned(), queries: vec!["base:allocation".to_owned()] };
        assert_eq!(client.ask(option::SET_META_CONTEXT, &request.encode()).0, reply::ACK);
        client.go(name);
        client
    }

    /// Asks the server to stop, without waiting for it.
    pub fn begin_to_stop(&self) {
        self.cancel.cancel();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

/// A client.
pub struct Client {
    pub socket: UnixStream,
    pub has_structured_replies: bool,
}

impl Client {
    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.socket.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Says whether the server has ended the connection; reads what it still sent.
    pub fn is_cut_off(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.socket.read_to_end(&mut rest) {
            Ok(_) => true,
            // What was sent was not read.
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Sends an option and returns the last reply to it, and those before.
    pub fn ask(&mut self, code: u32, data: &[u8]) -> (u32, Vec<(u32, Vec<u8>)>) {
        let header = OptionHeader { code, length_bytes: u32::try_from(data.len()).unwrap() };
        self.send(&[&header.encode(), data].concat());
        let mut replies = Vec::new();
        loop {
            let header = OptionReplyHeader::decode(&self.read(OptionReplyHeader::BYTES)).unwrap();
            assert_eq!(header.code, code);
            let data = self.read(header.length_bytes as usize);
            if header.kind == reply::ACK || header.kind >= reply::ERROR_UNSUPPORTED {
                return (header.kind, replies);
            }
            replies.push((header.kind, data));
        }
    }

    /// Opens an export and returns its size and flags.
    pub fn go(&mut self, name: &str) -> (u64, u16) {
        let request = ExportRequest { name: name.to_owned(), information: vec![] };
        let (kind, replies) = self.ask(option::GO, &request.encode());
        assert_eq!(kind, reply::ACK);
        let information: Vec<Information> =
            replies.iter().filter_map(|(_, data)| Information::decode(data).unwrap()).collect();
        let sizes = information.iter().find_map(|information| match information {
            Information::Export { size_bytes, flags } => Some((*size_bytes, *flags)),
            _ => None,
        });
        sizes.unwrap()
    }

    /// Sends a request.
    pub fn request(&mut self, command: u16, flags: u16, offset_bytes: u64, length_bytes: u32) {
        self.send(&Request { flags, command, cookie: offset_bytes ^ 77, offset_bytes, length_bytes }.encode());
    }

    /// Reads the simple reply to a request other than a read; 0 or the error.
    pub fn simple(&mut self) -> u32 {
        SimpleReply::decode(&self.read(SimpleReply::BYTES)).unwrap().error
    }

    /// Reads all chunks of a reply, or the error.
    pub fn chunks(&mut self) -> Result<Vec<(u16, Vec<u8>)>, u32> {
        let mut chunks = Vec::new();
        loop {
            let header = ChunkHeader::decode(&self.read(ChunkHeader::BYTES)).unwrap();
            let payload = self.read(header.length_bytes as usize);
            if header.kind == chunk::ERROR {
                assert_eq!(header.flags, chunk::DONE);
                return Err(decode_error(&payload).unwrap().0);
            }
            chunks.push((header.kind, payload));
            if header.flags == chunk::DONE {
                return Ok(chunks);
            }
        }
    }

    /// Sends a request and returns what comes back.
    pub fn call(
        &mut self,
        command: u16,
        flags: u16,
        offset_bytes: u64,
        length: u32,
    ) -> Result<Vec<(u16, Vec<u8>)>, u32> {
        self.request(command, flags, offset_bytes, length);
        self.chunks()
    }

    /// Reads bytes of the disk.
    pub fn read_disk(&mut self, offset_bytes: u64, length_bytes: u32) -> Result<Vec<u8>, u32> {
        let mut bytes = vec![0xee; length_bytes as usize];
        for (kind, payload) in self.call(0, 0, offset_bytes, length_bytes)? {
            let at = (u64::from_be_bytes(payload[..8].try_into().unwrap()) - offset_bytes).try_into().unwrap();
            let part: &mut [u8] = &mut bytes[at..];
            match kind {
                chunk::OFFSET_DATA => part[..payload.len() - 8].copy_from_slice(&payload[8..]),
                chunk::OFFSET_HOLE => {
                    let length = u32::from_be_bytes(payload[8..].try_into().unwrap());
                    part[..length as usize].fill(0);
                }
                kind => panic!("a chunk of kind {kind}"),
            }
        }
        Ok(bytes)
    }

    /// Writes bytes of the disk.
    pub fn write_disk(&mut self, flags: u16, offset_bytes: u64, bytes: &[u8]) -> Result<(), u32> {
        self.request(1, flags, offset_bytes, u32::try_from(bytes.len()).unwrap());
        self.send(bytes);
        self.chunks().map(|_| ())
    }
}
