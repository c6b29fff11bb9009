//! The kind `s3://BUCKET/PREFIX`: each call of the seam, in one or a few requests.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backy_core::environment::Environment;
use backy_core::names::ObjectName;
use backy_core::{Error, ErrorKind, Result};
use bytes::Bytes;
use futures_util::StreamExt;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, ObjectStore as _, ObjectStoreExt as _, PutOptions, PutPayload, PutResult,
};

use super::answer::{Asked, error};
use super::client::{Clients, connect};
use super::network::Network;
use super::options::S3Options;
use super::verify::{Check, Tags};
use crate::object_store::{ObjectInfo, ObjectRange, ObjectStore};
use crate::probe::SCRATCH_PREFIX;

/// In how large pieces, in bytes, a body is handed to the network; each piece that is taken counts as progress.
const PIECE_BYTES: usize = 128 << 10;

/// How many bytes are worth reading with one request: half a large pack, which takes longer than asking for it.
const PIECE_READ_BYTES: u32 = 16 << 20;

/// How many objects one request deletes at most; a limit of the protocol.
const DELETE_MAX: usize = 1000;

/// The longest time that a server can ask us to stay away.
const STAY_AWAY_MAX: Duration = Duration::from_secs(300);

/// No object is larger, in bytes (5 TiB); a longer suffix would overflow the numbers of some servers.
const OBJECT_BYTES_MAX: u64 = 5 << 40;

/// A bucket, or what lies below a prefix in it. See the module.
pub struct S3Store {
    clients: Clients,
    network: Network,
    environment: Environment,
    bucket: String,
    /// What stands before all names: nothing, or a prefix and a slash.
    root: String,
    tags: Tags,
    /// Whether the server can delete several objects with one request, as far as we know.
    deletes_many: AtomicBool,
    /// Until when the server has asked us to stay away, on the clock that never goes backwards.
    stay_away_until: Mutex<Duration>,
}

/// A call that failed, with the status if the server answered.
struct Failed {
    status: Option<u16>,
    error: Error,
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Error {
        failed.error
    }
}

impl S3Store {
    /// Prepares the place for a new repository: the bucket must be there, and nothing below the prefix.
    pub fn create(bucket: &str, prefix: &str, options: &S3Options, environment: Environment) -> Result<S3Store> {
        let store = S3Store::open(bucket, prefix, options, environment)?;
        let mut found = None;
        store.list_pages("", &mut |page| {
            found = page.into_iter().find(|(key, _)| !key.starts_with(SCRATCH_PREFIX)).map(|(key, _)| key);
            Ok(found.is_none())
        })?;
        match found {
            None => Ok(store),
            Some(key) => {
                Err(Error::new(ErrorKind::AlreadyExists, format!("{} is not empty: it holds {key:?}", store.url())))
            }
        }
    }

    /// Gets ready to use a bucket; nothing is asked of the server yet.
    pub fn open(bucket: &str, prefix: &str, options: &S3Options, environment: Environment) -> Result<S3Store> {
        Ok(S3Store {
            clients: connect(bucket, options)?,
            network: Network::new(options.timeout)?,
            environment,
            bucket: bucket.to_owned(),
            root: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            tags: Tags::default(),
            deletes_many: AtomicBool::new(true),
            stay_away_until: Mutex::default(),
        })
    }

    /// Makes one call, and says what it means if it fails.
    fn call<T>(
        &self,
        asked: Asked,
        doing: &dyn Fn() -> String,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Failed> {
        self.stay_away();
        let outcome = self.network.wait(call);
        let state = outcome.state;
        let said = match outcome.result {
            Some(Ok(value)) => return Ok(value),
            Some(Err(object_store::Error::InvalidPath { source })) => {
                let message = format!("{}: there is an object whose name we cannot handle: {source}", doing());
                return Err(Failed { status: None, error: Error::new(ErrorKind::Unsupported, message) });
            }
            Some(Err(error)) => error.to_string(),
            None => String::new(),
        };
        let error = error(&state, asked, &doing(), &said);
        if let (ErrorKind::Busy, Some(pause)) = (error.kind(), state.retry_after) {
            let until = self.environment.clock.elapsed().saturating_add(pause.min(STAY_AWAY_MAX));
            let mut stay_away_until = self.stay_away_until.lock().unwrap_or_else(PoisonError::into_inner);
            *stay_away_until = until.max(*stay_away_until);
        }
        Err(Failed { status: state.status.filter(|_| state.failure.is_none()), error })
    }

    /// Waits as long as the server has asked for, whichever call it told.
    fn stay_away(&self) {
        let until = *self.stay_away_until.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = until.saturating_sub(self.environment.clock.elapsed());
        if !pause.is_zero() {
            self.environment.clock.sleep(pause);
        }
    }

    fn path(&self, name: &ObjectName) -> Result<Path> {
        let key = format!("{}{name}", self.root);
        Path::parse(&key).map_err(|error| Error::with_source(ErrorKind::InvalidInput, format!("name {key}"), error))
    }

    /// Returns the size of an object in bytes.
    fn size_bytes(&self, name: &ObjectName) -> Result<u64> {
        let path = self.path(name)?;
        let meta = self.call(Asked::Other, &|| format!("look at {name}"), self.clients.single.head(&path))?;
        Ok(meta.size)
    }

    /// Reads what was asked for into `buffer`; `check` says from range and size whether it is wanted.
    fn read(
        &self,
        name: &ObjectName,
        range: Option<GetRange>,
        buffer: &mut Vec<u8>,
        check: impl Fn(&GetResult) -> Result<()>,
    ) -> Result<(), Failed> {
        let without_status = |error| Failed { status: None, error };
        let path = self.path(name).map_err(without_status)?;
        let options = GetOptions { range, ..GetOptions::default() };
        let wanted = self.call(Asked::Other, &|| format!("read {name}"), async {
            let result = self.clients.single.get_opts(&path, options).await?;
            if let Err(error) = check(&result) {
                return Ok(Err(error));
            }
            let length_bytes = result.range.end - result.range.start;
            // Grows as bytes come in: what a server says of a length is no reason to take that much memory.
            let mut stream = result.into_stream();
            while let Some(piece) = stream.next().await {
                buffer.extend_from_slice(&piece?);
            }
            Ok(Ok(length_bytes))
        })?;
        let length_bytes = wanted.map_err(without_status)?;
        if buffer.len() as u64 == length_bytes {
            return Ok(());
        }
        let message = format!("read {name}: {} of {length_bytes} bytes came", buffer.len());
        Err(without_status(Error::new(ErrorKind::Unavailable, message)))
    }

    /// Looks whether the server has stored what was sent.
    fn verify(&self, name: &ObjectName, body: &[u8], result: &PutResult) -> Result<()> {
        let differs = |what: &str| Err(Error::new(ErrorKind::Unavailable, format!("put {name}: {what}")));
        match self.tags.check(body, result.e_tag.as_deref()) {
            Check::Done => Ok(()),
            Check::Length if self.size_bytes(name)? == body.len() as u64 => Ok(()),
            Check::Length => differs("what was stored has another length than what was sent"),
            Check::Content => match self.get(name, body.len() as u64) {
                Ok(stored) if stored == body => {
                    self.tags.note_others();
                    Ok(())
                }
                Err(error) if error.kind() != ErrorKind::Damaged => Err(error),
                Ok(_) | Err(_) => differs("what was stored is not what was sent"),
            },
        }
    }

    /// Hands over page after page of what lies below `root` and `prefix`, until `visit` says that it is enough.
    fn list_pages(&self, prefix: &str, visit: &mut dyn FnMut(Vec<(String, u64)>) -> Result<bool>) -> Result<()> {
        let full = format!("{}{prefix}", self.root);
        let mut last = String::new();
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions { page_token, ..PaginatedListOptions::default() };
            let doing = || format!("list {prefix:?} in {}", self.url());
            let page = self.call(
                Asked::Other,
                &doing,
                self.clients
                    .single
                    .list_paginated(Some(&full).filter(|full| !full.is_empty()).map(String::as_str), options),
            )?;
            let mut keys = Vec::with_capacity(page.result.objects.len());
            for object in page.result.objects {
                let key = String::from(object.location);
                // A listing out of order would let a repeated one skip objects.
                if key <= last {
                    let message = format!("{}: the server lists {key:?} after {last:?}", doing());
                    return Err(Error::new(ErrorKind::Unsupported, message));
                }
                if let Some(own) = key.strip_prefix(&self.root) {
                    keys.push((own.to_owned(), object.size));
                }
                last = key;
            }
            let is_empty = keys.is_empty();
            page_token = page.page_token;
            if !visit(keys)? || page_token.is_none() {
                return Ok(());
            }
            if is_empty {
                let message = format!("{}: the server sends an empty page and says that more follows", doing());
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        }
    }

    /// Deletes up to [`DELETE_MAX`] objects with one request; nothing if that is not for this server.
    fn delete_page(&self, names: &[ObjectName]) -> Option<Vec<Result<()>>> {
        let paths: Vec<Path> = names.iter().map(|name| self.path(name)).collect::<Result<_>>().ok()?;
        let doing = || format!("delete {} objects", names.len());
        let stream = futures_util::stream::iter(paths.into_iter().map(Ok)).boxed();
        let answers = self.call(Asked::Delete, &doing, async {
            let answers: Vec<_> = self.clients.bulk.delete_stream(stream).collect().await;
            // An answer for each, or one error for all.
            match <[_; 1]>::try_from(answers) {
                Ok([Err(error)]) if names.len() != 1 => Err(error),
                Ok(answers) => Ok(Vec::from(answers)),
                Err(answers) => Ok(answers),
            }
        });
        match answers {
            // What a server says of one object is asked again for that object alone, which gives a plain answer.
            Ok(answers) if answers.len() == names.len() => {
                let each = names.iter().zip(answers);
                Some(each.map(|(name, answer)| if answer.is_ok() { Ok(()) } else { self.delete(name) }).collect())
            }
            Ok(_) => None,
            Err(failed) if matches!(failed.error.kind(), ErrorKind::Busy | ErrorKind::Unavailable) => {
                let again = || Error::new(failed.error.kind(), failed.error.to_string());
                Some(names.iter().map(|_| Err(again())).collect())
            }
            Err(_) => None,
        }
    }
}

impl ObjectStore for S3Store {
    fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
        let path = self.path(name)?;
        let doing = || format!("put {name} of {} bytes", body.len());
        let result =
            self.call(Asked::Other, &doing, self.clients.single.put_opts(&path, payload(body), PutOptions::default()))?;
        self.verify(name, body, &result)
    }

    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        self.read(name, None, &mut body, |result| {
            let size_bytes = result.meta.size;
            if size_bytes <= size_bytes_max {
                return Ok(());
            }
            Err(Error::damaged(format!(
                "read {name}: it has {size_bytes} bytes, more than the {size_bytes_max} that are possible"
            )))
        })?;
        Ok(body)
    }

    fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.clear();
        let wanted = match range {
            // There is no such range in HTTP.
            ObjectRange::Exact { length_bytes: 0, .. } | ObjectRange::Suffix { length_bytes: 0 } => {
                return range.within(name, self.size_bytes(name)?).map(|_| ());
            }
            ObjectRange::Exact { offset_bytes, length_bytes } => match offset_bytes.checked_add(length_bytes) {
                Some(end_bytes) => GetRange::Bounded(offset_bytes..end_bytes),
                None => return range.within(name, self.size_bytes(name)?).map(|_| ()),
            },
            ObjectRange::Suffix { length_bytes } => GetRange::Suffix(length_bytes.min(OBJECT_BYTES_MAX)),
        };
        if let ObjectRange::Exact { length_bytes, .. } = range {
            // What we have asked for, not what a server says: it does not grow in steps, with twice the memory.
            buffer.reserve_exact(usize::try_from(length_bytes.min(u64::from(PIECE_READ_BYTES))).unwrap_or_default());
        }
        let outcome = self.read(name, Some(wanted), buffer, |result| {
            let (offset_bytes, length_bytes) = range.within(name, result.meta.size)?;
            let is_right = result.range == (offset_bytes..offset_bytes + length_bytes);
            if is_right { Ok(()) } else { Err(Error::damaged(format!("read {name}: the server sends another part"))) }
        });
        outcome.or_else(|failed| {
            buffer.clear();
            match failed.status {
                // Nothing of the object lies in the range: it is shorter, or empty.
                Some(416) => range.within(name, self.size_bytes(name)?).map(|_| ()),
                Some(200) => Err(failed.error.with_kind(ErrorKind::Unsupported)),
                _ => Err(failed.error),
            }
        })
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        self.list_pages(prefix, &mut |page| {
            for (key, size_bytes) in page {
                if let Ok(name) = ObjectName::new(key) {
                    visit(ObjectInfo { name, size_bytes })?;
                }
            }
            Ok(true)
        })
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let path = self.path(name)?;
        match self.call(Asked::Delete, &|| format!("delete {name}"), self.clients.single.delete(&path)) {
            Err(failed) if failed.error.kind() == ErrorKind::NotFound => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    fn delete_many(&self, names: &[ObjectName]) -> Vec<Result<()>> {
        let mut outcomes = Vec::with_capacity(names.len());
        for page in names.chunks(DELETE_MAX) {
            let is_worth_it = page.len() > 1 && self.deletes_many.load(Ordering::Relaxed);
            let at_once = if is_worth_it { self.delete_page(page) } else { None };
            if is_worth_it && at_once.is_none() {
                self.deletes_many.store(false, Ordering::Relaxed);
            }
            outcomes.extend(at_once.unwrap_or_else(|| page.iter().map(|name| self.delete(name)).collect()));
        }
        outcomes
    }

    fn piece_bytes(&self) -> u32 {
        PIECE_READ_BYTES
    }

    fn url(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.root).trim_end_matches('/').to_owned()
    }
}

/// Copies a body once, in pieces that share the copy.
fn payload(body: &[u8]) -> PutPayload {
    let whole = Bytes::copy_from_slice(body);
    (0..body.len()).step_by(PIECE_BYTES).map(|at| whole.slice(at..body.len().min(at + PIECE_BYTES))).collect()
}
