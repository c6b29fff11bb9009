//! Leases: put before a job looks at anything, renewed while it runs, dropped when it ends, taken back by anybody.
//!
//! ```text
//!            put                     drop: the job has ended
//!  (nothing) ---> held, renewed ---------------------------> (nothing)
//!                   |
//!                   | revoke: somebody thinks that the job is dead; for ever
//!                   v
//!                revoked: what the job publishes from now on is void
//! ```
//!
//! Revoking is safe at any moment, whether the job is dead or not; clocks decide only when somebody thinks of it. A job
//! that has lost its lease does not publish. The whole protocol: `docs/protocol.md`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backy_core::environment::{Environment, Timestamp};
use backy_core::ids::{LeaseId, VersionUid};
use backy_core::names::{self, ObjectName};
use backy_core::records::RECORD_BYTES_MAX;
use backy_core::records::lease::{Holder, JobKind, LeaseRecord, Revocation};
use backy_core::{Error, ErrorKind, Result, ResultExt};
use backy_store::ObjectStore;
use backy_store::object_store::list_all;
use tracing::{info, warn};

use super::Repository;
use super::packs::is_about_content;
use super::records::if_found;
use crate::parallel;
use crate::repeating::Repeating;

/// How many versions a lease names at most when its job begins.
const NAMED_VERSIONS_MAX: usize = 1000;
/// A lease that was renewed so far in the future by our clock comes from a clock that is wrong.
const FUTURE_MAX: Duration = Duration::from_secs(86_400);

/// Where this process runs, and what it knows of others on its host.
#[derive(Clone)]
pub struct Host {
    /// This process.
    pub holder: Holder,
    /// Says whether a process of this host is known to be gone. False where that cannot be told.
    pub is_gone: Arc<dyn Fn(&Holder) -> bool + Send + Sync>,
}

impl Default for Host {
    fn default() -> Host {
        Host { holder: Holder::default(), is_gone: Arc::new(|_| false) }
    }
}

/// A job's lease. Dropping it ends the lease; a process that is killed leaves it to others to revoke.
pub struct Lease {
    shared: Arc<Shared>,
    renewing: Option<Repeating>,
}

struct Shared {
    store: Arc<dyn ObjectStore>,
    environment: Environment,
    record: Mutex<LeaseRecord>,
    id: LeaseId,
    /// False if the store takes nothing: then the job reads without a lease.
    is_put: bool,
    is_lost: AtomicBool,
    /// Nobody drops it: others revoke it when it is overdue.
    is_left: AtomicBool,
}

/// A lease as it stands in the store.
#[derive(Clone, Debug)]
pub struct LeaseEntry {
    /// The lease.
    pub id: LeaseId,
    /// What it says; none if that cannot be read.
    pub record: Option<LeaseRecord>,
}

impl LeaseEntry {
    /// Says whether its holder may need something: every job but a cleanup, and what cannot be read.
    pub fn counts(&self) -> bool {
        self.record.as_ref().is_none_or(|record| record.kind != JobKind::Cleanup)
    }

    /// Returns who holds it, in words.
    pub fn described(&self) -> String {
        match &self.record {
            Some(record) => {
                let Holder { host, process, .. } = &record.holder;
                format!("{} on {host}, process {process}", record.kind.word())
            }
            None => "a job whose lease cannot be read".to_owned(),
        }
    }
}

impl Repository {
    /// Begins a job: puts its lease, and only then reads what was condemned.
    ///
    /// From here on nothing that the job takes from the repository is deleted, until the lease is dropped or revoked.
    pub fn begin_job(&self, kind: JobKind, versions: Vec<VersionUid>) -> Result<Lease> {
        self.begin(kind, versions, kind.only_reads())
    }

    /// Puts another lease for a job that has one, and reads what was condemned, or fails: nothing is spared, not even those
    /// who only read. Until it has looked whether it may go on under this one, the job keeps the other.
    pub(crate) fn begin_again(&self, kind: JobKind, versions: Vec<VersionUid>) -> Result<Lease> {
        self.begin(kind, versions, false)
    }

    fn begin(&self, kind: JobKind, mut versions: Vec<VersionUid>, may_go_without: bool) -> Result<Lease> {
        // To name them is a courtesy; a lease is read by everybody.
        versions.truncate(NAMED_VERSIONS_MAX);
        let id = self.new_lease_id();
        let now = self.environment.clock.now();
        let holder = self.host.holder.clone();
        let record = LeaseRecord { id, kind, holder, versions, started: now, renewed: now };
        let is_put = match self.store.put(&names::lease(id), &record.to_object()?) {
            Err(error) if may_go_without && may_be_spared(&error) => {
                warn!("this job runs without a lease; no cleanup may run beside it: {error}");
                false
            }
            put => put.context(|| "put the lease of the job").map(|()| true)?,
        };
        let shared = Arc::new(Shared {
            store: self.store.clone(),
            environment: self.environment.clone(),
            record: Mutex::new(record),
            id,
            is_put,
            is_lost: AtomicBool::new(false),
            is_left: AtomicBool::new(false),
        });
        // From here on the lease is dropped whatever happens.
        let mut lease = Lease { shared, renewing: None };
        if let (Some(interval), true) = (self.settings.lease_renewal, is_put) {
            lease.renewing = Some(start_renewing(&lease.shared, interval));
        }
        match self.follow_gc_log() {
            // Who only reads puts nothing at risk, and must not be kept from a restore.
            Err(error) if may_go_without && !is_temporary(&error) => {
                warn!("what was condemned is not known: {error}");
            }
            followed => followed?,
        }
        Ok(lease)
    }

    /// Lists the leases that are held.
    pub fn held_leases(&self) -> Result<Vec<LeaseEntry>> {
        let leases = self.lease_objects()?.into_iter();
        let held: Vec<LeaseId> = leases.filter(|(_, presence)| presence.is_held()).map(|(id, _)| id).collect();
        let read = parallel::map(self.settings.simultaneous_reads.get(), &held, |&id| {
            match if_found(self.store.get(&names::lease(id), RECORD_BYTES_MAX)) {
                Ok(Some(object)) => Ok(Some(LeaseEntry { id, record: LeaseRecord::from_object(id, &object).ok() })),
                // It was dropped in between.
                Ok(None) => Ok(None),
                Err(error) if is_about_content(&error) => Ok(Some(LeaseEntry { id, record: None })),
                Err(error) => Err(error.context(format!("read lease {id}"))),
            }
        })?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Says whether the process of a lease is known to be gone.
    pub fn is_gone(&self, entry: &LeaseEntry) -> bool {
        entry.record.as_ref().is_some_and(|record| (self.host.is_gone)(&record.holder))
    }

    /// Revokes a lease for ever; durable when it returns. What its job publishes from now on is void.
    pub fn revoke_lease(&self, id: LeaseId, reason: &str) -> Result<()> {
        let revocation = Revocation {
            id,
            by: self.host.holder.clone(),
            revoked: self.environment.clock.now(),
            reason: reason.to_owned(),
        };
        self.store.put(&names::revocation(id), &revocation.to_object()?).context(|| format!("revoke lease {id}"))?;
        self.store.delete(&names::lease(id)).context(|| format!("remove revoked lease {id}"))
    }

    /// Revokes the leases of jobs that are known to be dead, or have not been heard of for too long.
    pub(crate) fn revoke_overdue(&self, own: &Lease) -> Result<Vec<LeaseEntry>> {
        let now = self.environment.clock.now();
        let mut revoked = Vec::new();
        for entry in self.held_leases()?.into_iter().filter(|entry| entry.id != own.id()) {
            let Some(reason) = self.overdue(&entry, now) else { continue };
            info!("gave up the lease {} of {}: {reason}", entry.id, entry.described());
            self.revoke_lease(entry.id, &reason)?;
            revoked.push(entry);
        }
        Ok(revoked)
    }

    /// Fails if another backup writes this version: its lease was put before ours, or both fail.
    pub(crate) fn refuse_second_writer(&self, own: &Lease, uid: VersionUid) -> Result<()> {
        self.revoke_overdue(own)?;
        let writes = |entry: &LeaseEntry| {
            let of_version = |record: &LeaseRecord| record.kind == JobKind::Backup && record.versions.contains(&uid);
            entry.id != own.id() && entry.record.as_ref().is_some_and(of_version)
        };
        match self.held_leases()?.into_iter().find(writes) {
            None => Ok(()),
            Some(entry) => {
                let message = format!("version {uid} is in use by {}: lease {}", entry.described(), entry.id);
                Err(Error::new(ErrorKind::Busy, message))
            }
        }
    }

    /// Says whether a lease is revoked.
    pub(crate) fn is_revoked(&self, id: LeaseId) -> Result<bool> {
        is_revoked(self.store.as_ref(), id)
    }

    /// Returns the leases that are revoked.
    pub(crate) fn revoked_leases(&self) -> Result<std::collections::BTreeSet<LeaseId>> {
        let objects = self.lease_objects()?;
        Ok(objects.into_iter().filter(|(_, presence)| presence.is_revoked).map(|(id, _)| id).collect())
    }

    /// Returns what is left of leases that are revoked: their jobs have renewed them once more, and died. The revocations stay.
    pub(crate) fn revoked_leases_left(&self) -> Result<Vec<ObjectName>> {
        let is_left = |presence: &Presence| presence.is_there && presence.is_revoked;
        let leases = self.lease_objects()?.into_iter();
        Ok(leases.filter(|(_, presence)| is_left(presence)).map(|(id, _)| names::lease(id)).collect())
    }

    fn overdue(&self, entry: &LeaseEntry, now: Timestamp) -> Option<String> {
        let Some(record) = &entry.record else {
            // What cannot be read is judged by the time in its id.
            let is_old = now.since(entry.id.timestamp()) > self.settings.lease_timeout.saturating_mul(2);
            return is_old.then(|| "it cannot be read, and is old".to_owned());
        };
        if (self.host.is_gone)(&record.holder) {
            return Some("its process is gone".to_owned());
        }
        let silence = now.since(record.renewed);
        if silence > self.settings.lease_timeout {
            return Some(format!("not heard of for {} minutes", silence.as_secs() / 60));
        }
        let is_future = record.renewed.since(now) > FUTURE_MAX;
        is_future.then(|| "its clock is more than a day ahead of ours".to_owned())
    }

    fn lease_objects(&self) -> Result<BTreeMap<LeaseId, Presence>> {
        let mut leases: BTreeMap<LeaseId, Presence> = BTreeMap::new();
        for object in list_all(self.store.as_ref(), names::LEASES).context(|| "list the leases")? {
            let Ok((id, is_revocation)) = names::parse_lease(&object.name) else { continue };
            let presence = leases.entry(id).or_default();
            if is_revocation { presence.is_revoked = true } else { presence.is_there = true }
        }
        Ok(leases)
    }
}

/// What there is of a lease.
#[derive(Clone, Copy, Default)]
struct Presence {
    is_there: bool,
    is_revoked: bool,
}

impl Presence {
    fn is_held(self) -> bool {
        self.is_there && !self.is_revoked
    }
}

impl Lease {
    /// Returns its id.
    pub fn id(&self) -> LeaseId {
        self.shared.id
    }

    /// Adds versions that the job uses, so that nobody removes them without knowing.
    pub(crate) fn use_versions(&self, versions: &[VersionUid]) -> Result<()> {
        {
            let mut record = self.shared.record.lock().unwrap_or_else(PoisonError::into_inner);
            record.versions.extend_from_slice(versions);
        }
        self.shared.renew().context(|| "name the versions that the job uses")
    }

    /// Says whether the renewing thread has found that the lease was revoked; asks nobody.
    pub(crate) fn is_lost(&self) -> bool {
        self.shared.is_lost.load(Ordering::SeqCst)
    }

    /// Fails if the renewing thread has found that the lease was revoked; asks nobody.
    pub(crate) fn refuse_lost(&self) -> Result<()> {
        if self.is_lost() { Err(lost(self.shared.id)) } else { Ok(()) }
    }

    /// Ends the job and leaves the lease as it is: others revoke it when they find it overdue.
    pub(crate) fn leave(self) {
        self.shared.is_left.store(true, Ordering::SeqCst);
    }

    /// Asks the store whether the lease was revoked.
    pub(crate) fn is_revoked(&self) -> Result<bool> {
        is_revoked(self.shared.store.as_ref(), self.shared.id)
    }

    /// Asks the store whether the lease was revoked, and fails if so.
    pub(crate) fn refuse_revoked(&self) -> Result<()> {
        if self.is_revoked()? { Err(lost(self.shared.id)) } else { Ok(()) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Nothing is renewed any more when the lease is dropped.
        drop(self.renewing.take());
        if !self.shared.is_put || self.shared.is_left.load(Ordering::SeqCst) {
            return;
        }
        let name = names::lease(self.shared.id);
        if let Err(error) = self.shared.store.delete(&name) {
            warn!("the lease of this job stays until somebody finds it overdue: {error}");
        }
    }
}

impl Shared {
    /// Says again that the job is alive.
    fn renew(&self) -> Result<()> {
        if !self.is_put {
            return Ok(());
        }
        // Held while it is put: an older state must not land last.
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.renewed = self.environment.clock.now();
        self.store.put(&names::lease(self.id), &record.to_object()?)
    }

    fn renew_or_lose(&self) -> Result<()> {
        if is_revoked(self.store.as_ref(), self.id)? {
            self.is_lost.store(true, Ordering::SeqCst);
            return Ok(());
        }
        self.renew()
    }
}

fn start_renewing(shared: &Arc<Shared>, interval: Duration) -> Repeating {
    let shared = shared.clone();
    Repeating::start(shared.environment.clock.clone(), interval, move || {
        // The next time may go better; until it is overdue the lease holds.
        if let Err(error) = shared.renew_or_lose() {
            warn!("the lease of this job could not be renewed: {error}");
        }
        if shared.is_lost.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

fn is_revoked(store: &dyn ObjectStore, id: LeaseId) -> Result<bool> {
    let revocation = names::revocation(id);
    let found = list_all(store, revocation.as_str()).context(|| format!("look for a revocation of lease {id}"))?;
    Ok(!found.is_empty())
}

fn lost(id: LeaseId) -> Error {
    let message = format!(
        "the lease {id} of this job was revoked: another host has not heard of it for too long, or was told to give it up"
    );
    Error::new(ErrorKind::Busy, message)
}

/// Says whether a job that only reads goes on without its lease: a store that is full or read-only still restores.
fn may_be_spared(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NoSpace)
}

/// Says whether trying again may help.
fn is_temporary(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Busy | ErrorKind::PermissionDenied | ErrorKind::Io)
}
