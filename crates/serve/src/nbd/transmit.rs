//! Requests and replies, until one side goes away.
//!
//! Several threads serve one connection: whoever is free takes the next request off the socket, does it, and replies; so
//! replies come in any order and no request waits in a queue. What a connection has in memory is bounded.

use std::net::Shutdown;
use std::sync::{Condvar, Mutex, PoisonError};

use backy_core::units::ByteRange;
use backy_core::{Error, Result};

use super::export::{Export, errno};
use super::negotiate::{ALLOCATION_ID, Session};
use super::stream::Stream;
use super::wire::PAYLOAD_BYTES_MAX;
use super::wire::transmission::{
    ChunkHeader, Errno, Request, SimpleReply, StatusRange, chunk, command, command_flags, encode_error, encode_status,
    status,
};

/// How many requests of a connection are worked on at once.
const THREADS: usize = 8;
/// How many bytes of requests a connection has in memory at once, also when its client does not read its replies: one of
/// the largest.
const MEMORY_BYTES_MAX: u64 = PAYLOAD_BYTES_MAX as u64;
/// A buffer that is larger is not kept for the next request.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// A longer question about block status is answered for the beginning.
const STATUS_BYTES_MAX: u64 = 1 << 30;
/// As many ranges are told of at once.
const STATUS_RANGES_MAX: usize = 4096;
/// From this length on, zeros are not sent but told of.
const HOLE_READ_BYTES_MIN: u32 = 64 << 10;
/// What a discard is rounded to: a part of a page costs more than it frees.
const TRIM_BYTES: u64 = 4096;

/// Serves a client until it goes away.
///
/// # Errors
/// Why the connection was ended, if the client did not end it.
pub(super) fn transmit(stream: &Stream, session: &Session) -> Result<()> {
    let conversation = Conversation {
        stream,
        session,
        is_over: Mutex::new(false),
        writing: Mutex::default(),
        failure: Mutex::default(),
        memory: Memory { free_bytes: Mutex::new(MEMORY_BYTES_MAX), changed: Condvar::new() },
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS {
            scope.spawn(|| conversation.work());
        }
        conversation.work();
    });
    let failure = conversation.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(()), Err)
}

struct Conversation<'a> {
    stream: &'a Stream,
    session: &'a Session,
    /// Held by the thread that takes a request off the socket.
    is_over: Mutex<bool>,
    /// Held by the thread that replies.
    writing: Mutex<()>,
    failure: Mutex<Option<Error>>,
    memory: Memory,
}

/// What a reply says.
enum Answer {
    Done,
    Data(ByteRange),
    Status(Vec<StatusRange>),
}

impl Conversation<'_> {
    fn work(&self) {
        let mut buffer = Vec::new();
        while let Some((request, memory)) = self.next(&mut buffer) {
            let outcome = self.perform(request, &mut buffer);
            let replied = match &outcome {
                Ok(answer) => self.reply(request, answer, &buffer),
                Err((errno, message)) => self.reply_error(request, *errno, message),
            };
            drop(memory);
            if buffer.len() > KEPT_BYTES_MAX {
                buffer = Vec::new();
            }
            if let Err(error) = replied {
                self.end(Some(error));
            }
        }
    }

    /// Takes the next request off the socket, the data of a write into `buffer`; none when it is over.
    fn next(&self, buffer: &mut Vec<u8>) -> Option<(Request, Share<'_>)> {
        let mut is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_over {
            return None;
        }
        match self.take(buffer) {
            Ok(Some(next)) => Some(next),
            Ok(None) => {
                *is_over = true;
                None
            }
            Err(error) => {
                *is_over = true;
                self.end(Some(error));
                None
            }
        }
    }

    fn take(&self, buffer: &mut Vec<u8>) -> Result<Option<(Request, Share<'_>)>> {
        let mut header = [0; Request::BYTES];
        if !self.stream.read_or_end(&mut header)? {
            return Ok(None);
        }
        let request = Request::decode(&header)?;
        let needs = match request.command {
            command::DISCONNECT => return Ok(None),
            command::READ | command::WRITE => request.length_bytes,
            _ => 0,
        };
        if request.command == command::WRITE {
            if needs > PAYLOAD_BYTES_MAX {
                return Err(Error::invalid(format!("the client writes {needs} bytes at once")));
            }
            let memory = self.memory.take(needs);
            self.stream.read(prepared(buffer, needs))?;
            return Ok(Some((request, memory)));
        }
        Ok(Some((request, self.memory.take(needs.min(PAYLOAD_BYTES_MAX)))))
    }

    /// Ends the connection: nothing more is read, and who waits for it is woken.
    fn end(&self, why: Option<Error>) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *failure = failure.take().or(why);
        self.stream.socket().end(Shutdown::Both);
    }

    fn perform(&self, request: Request, buffer: &mut Vec<u8>) -> Result<Answer, (Errno, String)> {
        let export = self.session.export.as_ref();
        check(request, export, self.session)?;
        let range = ByteRange { offset_bytes: request.offset_bytes, length_bytes: u64::from(request.length_bytes) };
        let outcome = perform(request, range, export, buffer);
        export.note(&outcome);
        outcome.map_err(|error| (errno(&error), error.to_string()))
    }

    fn reply(&self, request: Request, answer: &Answer, buffer: &[u8]) -> Result<()> {
        let cookie = request.cookie;
        match answer {
            Answer::Data(range) if self.session.has_structured_replies => self.reply_chunks(request, *range, buffer),
            Answer::Data(range) => {
                let data = &buffer[..usize::try_from(range.length_bytes).unwrap_or_default()];
                self.write(&[&SimpleReply { error: 0, cookie }.encode(), data])
            }
            Answer::Status(ranges) => {
                let payload = encode_status(ALLOCATION_ID, ranges);
                self.write(&[&header(chunk::DONE, chunk::BLOCK_STATUS, cookie, payload.len()), &payload])
            }
            Answer::Done if self.session.has_structured_replies => {
                self.write(&[&header(chunk::DONE, chunk::NONE, cookie, 0)])
            }
            Answer::Done => self.write(&[&SimpleReply { error: 0, cookie }.encode()]),
        }
    }

    /// Replies with data, and with holes where a large read has some.
    fn reply_chunks(&self, request: Request, range: ByteRange, buffer: &[u8]) -> Result<()> {
        let is_one_piece = request.flags & command_flags::DF != 0 || request.length_bytes < HOLE_READ_BYTES_MIN;
        let whole = vec![range];
        let data = if is_one_piece { whole } else { self.data_of(range).unwrap_or(whole) };
        let mut parts = Vec::new();
        let mut position_bytes = range.offset_bytes;
        for data in data {
            parts.push((ByteRange::between(position_bytes, data.offset_bytes), false));
            parts.push((data, true));
            position_bytes = data.end_bytes();
        }
        parts.push((ByteRange::between(position_bytes, range.end_bytes()), false));
        parts.retain(|(part, _)| !part.is_empty());
        let last = parts.len().saturating_sub(1);
        // Between the chunks other replies may be sent.
        for (number, (part, is_data)) in parts.into_iter().enumerate() {
            let flags = if number == last { chunk::DONE } else { 0 };
            let offset_bytes = part.offset_bytes.to_be_bytes();
            if is_data {
                let from = usize::try_from(part.offset_bytes - range.offset_bytes).unwrap_or_default();
                let length = usize::try_from(part.length_bytes).unwrap_or_default();
                let header = header(flags, chunk::OFFSET_DATA, request.cookie, length + 8);
                self.write(&[&header, &offset_bytes, &buffer[from..from + length]])?;
            } else {
                let length_bytes = u32::try_from(part.length_bytes).unwrap_or_default().to_be_bytes();
                let header = header(flags, chunk::OFFSET_HOLE, request.cookie, 12);
                self.write(&[&header, &offset_bytes, &length_bytes])?;
            }
        }
        Ok(())
    }

    /// Returns the data of a range that was just read, unless it has changed since: then the buffer is what counts.
    fn data_of(&self, range: ByteRange) -> Option<Vec<ByteRange>> {
        let disk = self.session.export.disk();
        if disk.target().is_some() {
            return None;
        }
        disk.source().data_ranges(range).ok()
    }

    fn reply_error(&self, request: Request, errno: Errno, message: &str) -> Result<()> {
        if !self.session.has_structured_replies {
            return self.write(&[&SimpleReply { error: errno as u32, cookie: request.cookie }.encode()]);
        }
        let payload = encode_error(errno, message);
        self.write(&[&header(chunk::DONE, chunk::ERROR, request.cookie, payload.len()), &payload])
    }

    fn write(&self, parts: &[&[u8]]) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.stream.write(parts)
    }
}

/// Says what is wrong with a request before anything is done.
fn check(request: Request, export: &Export, session: &Session) -> Result<(), (Errno, String)> {
    let refuse = |errno, message: &str| Err((errno, message.to_owned()));
    let known_flags = match request.command {
        command::READ => command_flags::DF,
        command::WRITE | command::TRIM | command::FLUSH => command_flags::FUA,
        command::WRITE_ZEROES => command_flags::FUA | command_flags::NO_HOLE,
        command::BLOCK_STATUS if session.has_allocation => command_flags::REQ_ONE,
        command::BLOCK_STATUS => return refuse(Errno::Invalid, "block status was not agreed upon"),
        _ => return refuse(Errno::Invalid, "unknown command"),
    };
    // FUA is harmless everywhere; some clients always set it.
    if request.flags & !(known_flags | command_flags::FUA) != 0 {
        return refuse(Errno::Invalid, "unknown flag");
    }
    if request.command == command::FLUSH {
        return Ok(());
    }
    let is_writing = matches!(request.command, command::WRITE | command::TRIM | command::WRITE_ZEROES);
    if is_writing && export.disk().target().is_none() {
        return refuse(Errno::NotPermitted, "the export is read-only");
    }
    if request.length_bytes == 0 {
        return refuse(Errno::Invalid, "a request of no bytes");
    }
    if request.command == command::READ && request.length_bytes > PAYLOAD_BYTES_MAX {
        return refuse(Errno::Invalid, "a read of more than 32 MiB");
    }
    let end_bytes = request.offset_bytes.checked_add(u64::from(request.length_bytes));
    if end_bytes.is_none_or(|end_bytes| end_bytes > export.disk().source().size_bytes()) {
        let is_filling = matches!(request.command, command::WRITE | command::WRITE_ZEROES);
        return refuse(if is_filling { Errno::NoSpace } else { Errno::Invalid }, "beyond the end of the export");
    }
    Ok(())
}

fn perform(request: Request, range: ByteRange, export: &Export, buffer: &mut Vec<u8>) -> Result<Answer> {
    let disk = export.disk();
    let answer = match (request.command, disk.target()) {
        (command::READ, _) => {
            disk.source().read_at(range.offset_bytes, prepared(buffer, request.length_bytes))?;
            return Ok(Answer::Data(range));
        }
        (command::BLOCK_STATUS, _) => {
            let range = ByteRange { length_bytes: range.length_bytes.min(STATUS_BYTES_MAX), ..range };
            let ranges_max = if request.flags & command_flags::REQ_ONE != 0 { 1 } else { STATUS_RANGES_MAX };
            return Ok(Answer::Status(status_of(&disk.source().data_ranges(range)?, range, ranges_max)));
        }
        (command::WRITE, Some(target)) => {
            target.write_at(range.offset_bytes, prepared(buffer, request.length_bytes))?;
            Answer::Done
        }
        (command::WRITE_ZEROES, Some(target)) if request.flags & command_flags::NO_HOLE != 0 => {
            let zeros = vec![0; usize::try_from(range.length_bytes).unwrap_or(KEPT_BYTES_MAX).min(KEPT_BYTES_MAX)];
            let mut position_bytes = range.offset_bytes;
            while position_bytes < range.end_bytes() {
                let left = usize::try_from(range.end_bytes() - position_bytes).unwrap_or(usize::MAX);
                let part = &zeros[..left.min(zeros.len())];
                target.write_at(position_bytes, part)?;
                position_bytes += part.len() as u64;
            }
            Answer::Done
        }
        (command::WRITE_ZEROES, Some(target)) => {
            target.zero_range(range)?;
            Answer::Done
        }
        (command::TRIM, Some(target)) => {
            let start_bytes = range.offset_bytes.next_multiple_of(TRIM_BYTES);
            let end_bytes = range.end_bytes() - range.end_bytes() % TRIM_BYTES;
            target.zero_range(ByteRange::between(start_bytes.min(end_bytes), end_bytes))?;
            Answer::Done
        }
        _ => Answer::Done,
    };
    let is_durable = request.command == command::FLUSH || request.flags & command_flags::FUA != 0;
    if let (true, Some(target)) = (is_durable, disk.target()) {
        target.flush()?;
    }
    Ok(answer)
}

/// Says of `range` what is data and what is not; at most `ranges_max` of it.
fn status_of(data: &[ByteRange], range: ByteRange, ranges_max: usize) -> Vec<StatusRange> {
    let mut ranges = Vec::new();
    let mut position_bytes = range.offset_bytes;
    let mut push = |start_bytes: u64, end_bytes: u64, flags: u32| {
        if start_bytes < end_bytes && ranges.len() < ranges_max {
            ranges
                .push(StatusRange { length_bytes: u32::try_from(end_bytes - start_bytes).unwrap_or(u32::MAX), flags });
        }
    };
    for data in data.iter().take(ranges_max) {
        push(position_bytes, data.offset_bytes, status::HOLE | status::ZERO);
        push(data.offset_bytes, data.end_bytes(), 0);
        position_bytes = data.end_bytes();
    }
    if data.len() <= ranges_max {
        push(position_bytes, range.end_bytes(), status::HOLE | status::ZERO);
    }
    ranges
}

fn header(flags: u16, kind: u16, cookie: u64, length: usize) -> Vec<u8> {
    ChunkHeader { flags, kind, cookie, length_bytes: u32::try_from(length).unwrap_or(u32::MAX) }.encode()
}

/// Returns the first `length_bytes` of `buffer`, which grows to it; what they hold is unspecified.
fn prepared(buffer: &mut Vec<u8>, length_bytes: u32) -> &mut [u8] {
    let length = usize::try_from(length_bytes).unwrap_or(usize::MAX);
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    &mut buffer[..length]
}

/// The memory of a connection.
struct Memory {
    free_bytes: Mutex<u64>,
    changed: Condvar,
}

/// A share of it, until it is dropped.
struct Share<'a> {
    memory: &'a Memory,
    bytes: u64,
}

impl Memory {
    /// Waits until there is room.
    fn take(&self, bytes: u32) -> Share<'_> {
        let bytes = u64::from(bytes);
        let free = self.free_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.changed.wait_while(free, |free| *free < bytes);
        *free.unwrap_or_else(PoisonError::into_inner) -= bytes;
        Share { memory: self, bytes }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.memory.free_bytes.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.memory.changed.notify_all();
    }
}
