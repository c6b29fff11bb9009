//! The NBD server, spoken to by hand: right, wrong, and beyond the end.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod nbd_client;

use std::sync::Arc;

use backy_core::environment::Random;
use backy_core::units::ByteRange;
use backy_device::Target;
use backy_serve::Overlay;
use backy_serve::nbd::export::{Disk, Export, Exports};
use backy_serve::nbd::listen::{CONNECTIONS_MAX, OPTION_TIME_MAX};
use backy_serve::nbd::wire::handshake::{ContextRequest, ExportRequest, OptionHeader, option, reply};
use backy_serve::nbd::wire::transmission::{
    Request, StatusRange, chunk, command, command_flags, decode_status, status,
};
use backy_testkit::device::{DeviceFaults, MemoryDevice};
use backy_testkit::random::SeededRandom;
use nbd_client::Server;

const MIB: usize = 1 << 20;
const EPERM: u32 = 1;
const EIO: u32 = 5;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;

fn noise(length: usize) -> Vec<u8> {
    backy_testkit::pattern::bytes(backy_device::null::Pattern::Random, 1, length)
}

/// A disk of 4 MiB and a little: data, a hole of 1 MiB at 1 MiB, data.
fn disk() -> (MemoryDevice, Vec<u8>) {
    let mut bytes = noise(4 * MIB + 100);
    bytes[MIB..2 * MIB].fill(0);
    let device = MemoryDevice::with_bytes(&bytes);
    device.zero_range(ByteRange { offset_bytes: MIB as u64, length_bytes: MIB as u64 }).unwrap();
    (device, bytes)
}

fn read_only(device: MemoryDevice) -> Export {
    Export::new(Disk::ReadOnly(Arc::new(device)), "a disk".to_owned(), 4096)
}

fn writable(device: MemoryDevice) -> Export {
    let overlay = Overlay::unnamed(Arc::new(device), &std::env::temp_dir()).unwrap();
    Export::new(Disk::Writable(Arc::new(overlay)), "a disk".to_owned(), 4096)
}

#[test]
fn a_disk_is_read_and_its_holes_are_told() {
    let (device, bytes) = disk();
    let server = Server::start([("a", read_only(device))]);
    let mut client = server.open("a");
    for (start, length) in [(0, 1), (0, 4 * MIB + 100), (MIB - 5, 10), (2 * MIB - 5, 70_000), (4 * MIB + 99, 1)] {
        assert!(client.read_disk(start as u64, length as u32).unwrap() == bytes[start..start + length], "{start}");
    }
    let chunks = client.call(command::READ, 0, 0, 3 * MIB as u32).unwrap();
    assert_eq!(chunks.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [1, 2, 1], "the hole is not sent");
    let chunks = client.call(command::READ, command_flags::DF, 0, 3 * MIB as u32).unwrap();
    assert_eq!((chunks.len(), chunks[0].0), (1, chunk::OFFSET_DATA));

    let ranges = |chunks: Vec<(u16, Vec<u8>)>| decode_status(&chunks[0].1).unwrap().1;
    let data = |length: usize| StatusRange { length_bytes: length as u32, flags: 0 };
    let hole = |length: usize| StatusRange { length_bytes: length as u32, flags: status::HOLE | status::ZERO };
    let all = client.call(command::BLOCK_STATUS, 0, 0, 4 * MIB as u32 + 100).unwrap();
    assert_eq!(ranges(all), [data(MIB), hole(MIB), data(2 * MIB + 100)]);
    let one = client.call(command::BLOCK_STATUS, command_flags::REQ_ONE, MIB as u64 + 4096, 2 * MIB as u32).unwrap();
    assert_eq!(ranges(one), [hole(MIB - 4096)]);
}

#[test]
fn a_disk_is_written_and_every_connection_sees_it() {
    let (device, mut bytes) = disk();
    let server = Server::start([("a", writable(device.clone()))]);
    let (mut one, mut two) = (server.open("a"), server.open("a"));
    one.write_disk(0, 5000, &[1; 10_000]).unwrap();
    bytes[5000..15_000].fill(1);
    two.write_disk(command_flags::FUA, 14_000, &[2; 10_000]).unwrap();
    bytes[14_000..24_000].fill(2);
    one.call(command::WRITE_ZEROES, 0, 3 * MIB as u64 + 5, MIB as u32).unwrap();
    one.call(command::WRITE_ZEROES, command_flags::NO_HOLE, 100, 50).unwrap();
    bytes[3 * MIB + 5..4 * MIB + 5].fill(0);
    bytes[100..150].fill(0);
    // Only whole pages of it.
    two.call(command::TRIM, 0, 40_000, 10_000).unwrap();
    bytes[40_960..49_152].fill(0);
    one.call(command::FLUSH, 0, 0, 0).unwrap();
    for client in [&mut one, &mut two] {
        assert!(client.read_disk(0, bytes.len() as u32).unwrap() == bytes);
    }
    let below = device.bytes(ByteRange::between(0, 30_000));
    assert!(below == disk().1[..30_000], "the disk below was touched");
}

#[test]
fn what_cannot_be_is_answered_with_the_right_error() {
    let (device, bytes) = disk();
    let server = Server::start([("r", read_only(device.clone())), ("w", writable(device))]);
    let size = bytes.len() as u64;
    for (start, length) in [(size, 1), (size - 1, 2), (u64::MAX, 1), (u64::MAX - 10, 11), (0, 0)] {
        for name in ["r", "w"] {
            let mut client = server.open(name);
            assert_eq!(client.read_disk(start, length).unwrap_err(), EINVAL, "{start} {length}");
            assert_eq!(client.call(command::BLOCK_STATUS, 0, start, length).unwrap_err(), EINVAL);
            let expected = if name == "r" {
                EPERM
            } else if length == 0 {
                EINVAL
            } else {
                ENOSPC
            };
            assert_eq!(client.write_disk(0, start, &vec![1; length as usize]).unwrap_err(), expected);
            assert_eq!(client.call(command::WRITE_ZEROES, 0, start, length).unwrap_err(), expected);
            assert_eq!(client.read_disk(0, 5).unwrap(), bytes[..5], "the connection goes on");
        }
    }
    let mut client = server.open("w");
    assert_eq!(client.call(99, 0, 0, 1).unwrap_err(), EINVAL, "unknown command");
    assert_eq!(client.call(command::READ, 1 << 9, 0, 1).unwrap_err(), EINVAL, "unknown flag");
    assert_eq!(client.read_disk(0, 33 << 20).unwrap_err(), EINVAL, "too much at once");
}

#[test]
fn a_bad_block_is_an_error_and_its_neighbours_are_not() {
    let (device, bytes) = disk();
    let bad = ByteRange { offset_bytes: 8192, length_bytes: 4096 };
    device.set_faults(DeviceFaults { unreadable: vec![bad], ..DeviceFaults::default() });
    let server = Server::start([("a", read_only(device))]);
    let mut client = server.open("a");
    assert_eq!(client.read_disk(8192, 4096).unwrap_err(), EIO);
    assert_eq!(client.read_disk(0, 20_000).unwrap_err(), EIO);
    assert!(client.read_disk(4096, 4096).unwrap() == bytes[4096..8192]);
    assert!(client.read_disk(12_288, 4096).unwrap() == bytes[12_288..16_384]);
}

#[test]
fn clients_of_the_old_way_are_served_too() {
    let (device, bytes) = disk();
    let server = Server::start([("a", read_only(device))]);
    let mut client = server.connect();
    client.send(&[&OptionHeader { code: option::EXPORT_NAME, length_bytes: 1 }.encode()[..], b"a"].concat());
    assert_eq!(client.read(8), (bytes.len() as u64).to_be_bytes());
    let flags = u16::from_be_bytes(client.read(2).try_into().unwrap());
    assert_eq!(flags & 3, 3, "read-only");
    client.request(command::READ, 0, 100, 50);
    assert_eq!(client.simple(), 0);
    assert!(client.read(50) == bytes[100..150]);
    client.request(command::WRITE, 0, 0, 5);
    client.send(&[0; 5]);
    assert_eq!(client.simple(), EPERM);
    client.request(command::BLOCK_STATUS, 0, 0, 5);
    assert_eq!(client.simple(), EINVAL, "it was not agreed upon");
    client.request(command::DISCONNECT, 0, 0, 0);
    assert!(client.is_cut_off());
}

#[test]
fn the_handshake_answers_every_question() {
    let (device, _) = disk();
    let server = Server::start([("a", read_only(device.clone())), ("ünï/@latest", read_only(device))]);
    let mut client = server.connect();
    let (kind, replies) = client.ask(option::LIST, &[]);
    assert_eq!((kind, replies.len()), (reply::ACK, 2));
    assert_eq!(replies[1].1[4..], *"ünï/@latest".as_bytes());
    assert_eq!(client.ask(option::LIST, b"x").0, reply::ERROR_INVALID);
    assert_eq!(client.ask(99, b"anything").0, reply::ERROR_UNSUPPORTED);
    assert_eq!(client.ask(option::STARTTLS, &[]).0, reply::ERROR_POLICY);
    let absent = ExportRequest { name: "b".to_owned(), information: vec![] };
    assert_eq!(client.ask(option::INFO, &absent.encode()).0, reply::ERROR_UNKNOWN);
    assert_eq!(client.ask(option::GO, &absent.encode()).0, reply::ERROR_UNKNOWN);
    assert_eq!(client.ask(option::GO, b"??").0, reply::ERROR_INVALID);
    let contexts = ContextRequest { name: "a".to_owned(), queries: vec![] };
    assert_eq!(client.ask(option::LIST_META_CONTEXT, &contexts.encode()).0, reply::ERROR_INVALID, "not structured");
    assert_eq!(client.ask(option::STRUCTURED_REPLY, &[]).0, reply::ACK);
    let (kind, replies) = client.ask(option::LIST_META_CONTEXT, &contexts.encode());
    assert_eq!((kind, &replies[0].1[4..]), (reply::ACK, &b"base:allocation"[..]));
    let unknown = ContextRequest { queries: vec!["qemu:dirty-bitmap:x".to_owned()], ..contexts };
    assert_eq!(client.ask(option::SET_META_CONTEXT, &unknown.encode()), (reply::ACK, vec![]));
    let known = ExportRequest { name: "ünï/@latest".to_owned(), information: vec![3] };
    assert_eq!(client.ask(option::INFO, &known.encode()).0, reply::ACK);
    assert_eq!(client.ask(option::ABORT, &[]).0, reply::ACK);
    assert!(client.is_cut_off());
}

#[test]
fn whoever_talks_nonsense_is_cut_off_alone() {
    let (device, bytes) = disk();
    let server = Server::start([("a", writable(device))]);
    let mut good = server.open("a");
    let random = SeededRandom::new(12);
    let noise = |length: usize| {
        let mut bytes = vec![0; length];
        random.fill(&mut bytes);
        bytes
    };
    let too_long = OptionHeader { code: option::LIST, length_bytes: u32::MAX };
    let huge = Request { flags: 0, command: command::WRITE, cookie: 1, offset_bytes: 0, length_bytes: u32::MAX };
    let mut handshakes = vec![too_long.encode(), b"GET / HTTP/1.1\r\n\r\n".to_vec()];
    let mut transmissions = vec![huge.encode(), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()];
    for number in 0..20 {
        handshakes.push(noise(16 + number));
        transmissions.push(noise(28 + number));
    }
    for bytes in handshakes {
        let mut bad = server.connect();
        bad.send(&bytes);
        assert!(bad.is_cut_off());
    }
    for bytes in transmissions {
        let mut bad = server.open("a");
        bad.send(&bytes);
        assert!(bad.is_cut_off());
    }
    // Those who go away in the middle of something.
    server.open("a").request(command::WRITE, 0, 0, 1000);
    server.connect().send(&OptionHeader { code: option::GO, length_bytes: 1000 }.encode());
    drop(std::os::unix::net::UnixStream::connect(server.path()).unwrap());
    assert!(good.read_disk(0, 1000).unwrap() == bytes[..1000], "a half write was written, or the server is gone");
}

#[test]
fn many_requests_at_once_are_all_answered() {
    let (device, bytes) = disk();
    let server = Server::start([("a", read_only(device))]);
    let mut client = server.open("a");
    let mut writer = client.socket.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for number in 0..3000u64 {
            let request = Request {
                flags: command_flags::DF,
                command: command::READ,
                cookie: number,
                offset_bytes: number * 1000,
                length_bytes: 1000,
            };
            std::io::Write::write_all(&mut writer, &request.encode()).unwrap();
        }
    });
    let mut seen = vec![false; 3000];
    for _ in 0..3000 {
        let (kind, payload) = client.chunks().unwrap().remove(0);
        let offset = u64::from_be_bytes(payload[..8].try_into().unwrap()) as usize;
        assert_eq!(kind, chunk::OFFSET_DATA);
        assert!(payload[8..] == bytes[offset..offset + 1000]);
        assert!(!std::mem::replace(&mut seen[offset / 1000], true), "{offset} came twice");
    }
    sender.join().unwrap();
}

#[test]
fn those_who_do_not_come_to_terms_make_room_for_those_who_do() {
    let (device, bytes) = disk();
    let server = Server::start([("a", read_only(device))]);
    let mut first = server.open("a");
    // Silent, or in the middle of an option.
    let mut idle: Vec<_> = (0..2 * CONNECTIONS_MAX).map(|_| server.connect()).collect();
    for client in &mut idle[CONNECTIONS_MAX..] {
        // It fails for the one that was cut off already.
        let half = OptionHeader { code: option::GO, length_bytes: 1000 }.encode();
        let _ = std::io::Write::write_all(&mut client.socket, &half);
    }
    for client in [&mut server.open("a"), &mut first] {
        assert!(client.read_disk(0, 1000).unwrap() == bytes[..1000]);
    }
    assert!(idle[0].is_cut_off());
}

#[test]
fn as_many_as_there_is_room_for_are_served_and_the_next_one_is_sent_away() {
    let (device, bytes) = disk();
    let server = Server::start([("a", read_only(device))]);
    let mut clients: Vec<_> = (0..CONNECTIONS_MAX).map(|_| server.open("a")).collect();
    let mut next = std::os::unix::net::UnixStream::connect(server.path()).unwrap();
    let mut greeting = Vec::new();
    assert_eq!(std::io::Read::read_to_end(&mut next, &mut greeting).unwrap_or_default(), 0);
    for client in &mut clients {
        assert!(client.read_disk(0, 1000).unwrap() == bytes[..1000]);
    }
}

#[test]
fn a_client_that_takes_too_long_to_come_to_terms_is_cut_off() {
    let (device, bytes) = disk();
    let server = Server::start([("a", read_only(device))]);
    let mut good = server.open("a");
    let mut bad = [server.connect(), server.connect()];
    bad[1].send(&OptionHeader { code: option::GO, length_bytes: 1000 }.encode());
    let mut talking = server.connect();
    // It asks about one version after the other, as nbdinfo does with a large repository.
    for _ in 0..3000 {
        server.clock.advance(OPTION_TIME_MAX / 3000);
        assert_eq!(talking.ask(option::LIST, &[]).0, reply::ACK);
    }
    server.clock.advance(OPTION_TIME_MAX / 2);
    assert!(bad.iter_mut().all(nbd_client::Client::is_cut_off));
    talking.go("a");
    assert!(good.read_disk(0, 1000).unwrap() == bytes[..1000], "it had come to terms");
}

#[test]
fn a_client_that_reads_no_replies_holds_up_no_other() {
    let (device, bytes) = disk();
    let server = Server::start([("a", read_only(device))]);
    let mut deaf = server.open("a");
    deaf.socket.set_nonblocking(true).unwrap();
    let request =
        Request { flags: 0, command: command::READ, cookie: 1, offset_bytes: 2 * MIB as u64, length_bytes: MIB as u32 };
    // Until the server takes no more.
    while std::io::Write::write_all(&mut deaf.socket, &request.encode()).is_ok() {}
    let mut other = server.open("a");
    assert!(other.read_disk(0, 3 * MIB as u32).unwrap() == bytes[..3 * MIB]);
    drop(deaf);
}

/// Exports of which one waits for a store that does not answer.
struct Stuck {
    fixed: nbd_client::Fixed,
    gate: std::sync::Mutex<()>,
}

impl Exports for Stuck {
    fn names(&self) -> backy_core::Result<Vec<String>> {
        self.fixed.names()
    }

    fn open(&self, name: &str) -> backy_core::Result<Arc<Export>> {
        if name == "stuck" {
            drop(self.gate.lock().unwrap());
        }
        self.fixed.open(name)
    }
}

#[test]
fn clients_whose_export_cannot_be_opened_now_do_not_pile_up() {
    let (device, bytes) = disk();
    let fixed = nbd_client::Fixed([("a".to_owned(), Arc::new(read_only(device)))].into());
    let exports = Arc::new(Stuck { fixed, gate: std::sync::Mutex::new(()) });
    let server = Server::start_with(exports.clone());
    let stuck = exports.gate.lock().unwrap();
    let mut good = server.open("a");
    let question = ExportRequest { name: "stuck".to_owned(), information: vec![] }.encode();
    let option = OptionHeader { code: option::GO, length_bytes: question.len() as u32 }.encode();
    let mut waiting = Vec::new();
    for _ in 0..2 * CONNECTIONS_MAX - 1 {
        let mut client = server.connect();
        client.send(&[&option[..], &question].concat());
        waiting.push(client);
    }
    let mut next = std::os::unix::net::UnixStream::connect(server.path()).unwrap();
    assert_eq!(std::io::Read::read_to_end(&mut next, &mut Vec::new()).unwrap_or_default(), 0, "there is no room");
    assert!(good.read_disk(0, 1000).unwrap() == bytes[..1000]);
    drop(stuck);
    // Those who were cut off while they waited are gone soon.
    assert!(waiting[0].is_cut_off());
    let is_greeted = || {
        let mut client = std::os::unix::net::UnixStream::connect(server.path()).unwrap();
        std::io::Read::read_exact(&mut client, &mut [0; 18]).is_ok()
    };
    assert!((0..10_000).any(|_| is_greeted()), "there is no room any more");
}

#[test]
fn a_server_that_stops_lets_its_clients_go_and_removes_its_socket() {
    let (device, _) = disk();
    let server = Server::start([("a", read_only(device))]);
    let mut client = server.open("a");
    let path = server.path();
    server.begin_to_stop();
    assert!(client.is_cut_off());
    drop(server);
    assert!(!path.exists());
}
