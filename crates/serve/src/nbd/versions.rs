//! The versions of a repository as exports.
//!
//! Everybody who has an export open sees the same disk. `NAME@latest` is looked up when nobody has it open under that name,
//! so who connects a second time, while the first connection is up, does not get a newer version by surprise. A disk that
//! can be written lasts as long as the server, and so does what its name means.
//!
//! One version is opened at a time, as that may have to wait for the store; who asks for one that is open does not wait.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use backy_core::ids::VersionUid;
use backy_core::{Error, ErrorKind, Result};
use backy_device::Target;
use backy_engine::repository::versions::{VersionSpec, VersionState};

use super::export::{Disk, Export, Exports};
use crate::overlay::Overlay;
use crate::view::VersionView;
use crate::view::view_cache::ViewCache;

/// Where writes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Nowhere: the exports are read-only.
    Refused,
    /// Into files in this folder that are gone when the server ends.
    Scratch(PathBuf),
    /// Into this file, which is kept; for a single version.
    Kept(PathBuf),
}

/// How the name of an export is read.
pub type ReadName = Box<dyn Fn(&str) -> Result<VersionSpec> + Send + Sync>;

/// The exports. See the module.
pub struct VersionExports {
    cache: Arc<ViewCache>,
    /// What is offered, by the names that it was given; none: everything there is.
    offered: Option<Vec<(String, VersionUid)>>,
    writes: Writes,
    read_name: ReadName,
    /// Held by whoever opens a version.
    opening: Mutex<()>,
    /// Never held while the store is waited for.
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    by_uid: HashMap<VersionUid, Weak<Export>>,
    by_name: HashMap<String, Weak<Export>>,
    /// Those that last as long as the server.
    kept: Vec<(Arc<Export>, Arc<Overlay>)>,
}

impl VersionExports {
    /// Offers the versions of `offered` under the names that stand with them; if it is empty, all of the repository.
    pub fn new(
        cache: Arc<ViewCache>,
        offered: Vec<(String, VersionUid)>,
        writes: Writes,
        read_name: ReadName,
    ) -> VersionExports {
        let offered = (!offered.is_empty()).then_some(offered);
        VersionExports { cache, offered, writes, read_name, opening: Mutex::default(), opened: Mutex::default() }
    }

    /// Makes durable what is kept.
    pub fn flush(&self) -> Result<()> {
        let kept = self.opened().kept.clone();
        kept.iter().try_for_each(|(_, overlay)| overlay.flush())
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Result<VersionUid> {
        let unknown = || Error::new(ErrorKind::NotFound, format!("there is no export {name:?}"));
        if let Some(offered) = &self.offered {
            let is_meant = |(given, uid): &&(String, VersionUid)| given == name || uid.to_string() == name;
            return match offered.as_slice() {
                [(_, uid)] if name.is_empty() => Ok(*uid),
                offered => offered.iter().find(is_meant).map(|(_, uid)| *uid).ok_or_else(unknown),
            };
        }
        let spec = (self.read_name)(name).map_err(|_| unknown())?;
        let entry = self.cache.repository().find_version(&spec).map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => error.with_kind(ErrorKind::NotFound),
            _ => error,
        })?;
        if entry.state == VersionState::Incomplete {
            return Err(Error::new(ErrorKind::NotFound, format!("version {} is incomplete", entry.manifest.uid)));
        }
        Ok(entry.manifest.uid)
    }

    fn make(&self, uid: VersionUid) -> Result<Arc<Export>> {
        let view = Arc::new(VersionView::open(&self.cache, uid)?);
        let manifest = view.manifest();
        let description = format!("{} of {}", uid, manifest.name);
        let preferred_bytes = manifest.block_size.bytes();
        let overlay = match &self.writes {
            Writes::Refused => None,
            Writes::Scratch(folder) => Some(Overlay::unnamed(view.clone(), folder)?),
            Writes::Kept(path) => Some(Overlay::kept(view.clone(), path, uid)?),
        };
        let Some(overlay) = overlay.map(Arc::new) else {
            return Ok(Arc::new(Export::new(Disk::ReadOnly(view), description, preferred_bytes)));
        };
        let export = Arc::new(Export::new(Disk::Writable(overlay.clone()), description, preferred_bytes));
        self.opened().kept.push((export.clone(), overlay));
        Ok(export)
    }
}

impl Exports for VersionExports {
    fn names(&self) -> Result<Vec<String>> {
        if let Some(offered) = &self.offered {
            let names: BTreeSet<String> =
                offered.iter().flat_map(|(name, uid)| [name.clone(), uid.to_string()]).collect();
            return Ok(names.into_iter().collect());
        }
        let mut versions = self.cache.repository().versions()?.versions;
        versions.retain(|entry| entry.state != VersionState::Incomplete);
        let latest: BTreeSet<String> = versions.iter().map(|entry| format!("{}@latest", entry.manifest.name)).collect();
        let uids = versions.iter().map(|entry| entry.manifest.uid.to_string());
        Ok(latest.into_iter().chain(uids).collect())
    }

    fn open(&self, name: &str) -> Result<Arc<Export>> {
        let find_open = || self.opened().by_name.get(name).and_then(Weak::upgrade);
        if let Some(export) = find_open() {
            return Ok(export);
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(export) = find_open() {
            return Ok(export);
        }
        let uid = self.find(name)?;
        let by_uid = self.opened().by_uid.get(&uid).and_then(Weak::upgrade);
        let export = by_uid.map_or_else(|| self.make(uid), Ok)?;
        let mut opened = self.opened();
        opened.by_name.retain(|_, export| export.strong_count() > 0);
        opened.by_uid.retain(|_, export| export.strong_count() > 0);
        opened.by_uid.insert(uid, Arc::downgrade(&export));
        opened.by_name.insert(name.to_owned(), Arc::downgrade(&export));
        Ok(export)
    }
}
