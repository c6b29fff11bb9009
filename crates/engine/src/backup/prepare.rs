//! From what the user asks for to where the backup begins: base, position, draft of the manifest.

use std::time::Duration;

use backy_core::environment::Timestamp;
use backy_core::ids::VersionUid;
use backy_core::map::MapRoot;
use backy_core::names;
use backy_core::policy::hints::union;
use backy_core::records::manifest::{Manifest, Origin, Statistics, check_name, check_name_length};
use backy_core::units::{BlockCount, BlockIndex, BlockRange, BlockSize};
use backy_core::{Error, ErrorKind, Result, ResultExt};
use tracing::{info, warn};

use super::assembler::Beginning;
use super::{BackupRequest, BaseChoice};
use crate::repository::Repository;
use crate::repository::damage::{Damage, LostBlocks, LostMapPart};
use crate::repository::leases::Lease;
use crate::repository::packs::is_about_content;
use crate::repository::versions::{VersionEntry, VersionSpec, VersionState, choose};

/// How many versions a manifest names that it has gone on from; each takes 35 bytes of it.
const CONTINUES_MAX: usize = 16;

/// How often the newest version is looked for when it turns out to be of no use.
const TRIES_FOR_BASE: u32 = 4;

/// Where a backup begins, and what the planner must know of the base.
pub(super) struct Prepared {
    /// What the assembler begins with.
    pub beginning: Beginning,
    /// The size of the base's volume, if there is a base.
    pub base_bytes: Option<u64>,
    /// Blocks of the map that are missing or damaged.
    pub lost: Vec<BlockRange>,
    /// Nothing but the lost blocks is read.
    pub reads_lost_only: bool,
}

/// Checks the request and finds the base, or the version to continue.
pub(super) fn prepare(
    repository: &Repository,
    lease: &Lease,
    request: &BackupRequest<'_>,
    damage: &Damage,
) -> Result<Prepared> {
    check_name(&request.name)?;
    check_name_length(&request.snapshot_name)?;
    request.label.check()?;
    match &request.continued {
        Some(spec) => continue_version(repository, lease, request, spec, damage),
        None => begin_version(repository, lease, request, damage),
    }
}

fn begin_version(
    repository: &Repository,
    lease: &Lease,
    request: &BackupRequest<'_>,
    damage: &Damage,
) -> Result<Prepared> {
    let now = repository.environment().clock.now();
    let base = take_base(repository, lease, request)?;
    let block_size = match (&base, request.block_size) {
        (_, Some(block_size)) => block_size,
        (Some(base), None) => base.manifest.block_size,
        (None, None) => request.block_size_default,
    };
    let base = usable_base(request, base, block_size)?;
    refuse_empty_hints(request, base.is_some())?;
    if let (Some(base), true) = (&base, request.hints.is_some()) {
        info!("what the hints leave out is taken from version {}", base.manifest.uid);
    }
    let lost = match &base {
        Some(base) => {
            lost_of_base(repository, base, damage).context(|| format!("read base version {}", base.manifest.uid))?
        }
        None => LostBlocks::default(),
    };
    let draft = draft(repository, lease, request, base.as_ref(), block_size, now);
    let used: Vec<VersionUid> = draft.base.into_iter().chain([draft.uid]).collect();
    lease.use_versions(&used)?;
    let base_bytes = base.as_ref().map(|base| base.manifest.size_bytes);
    let map = match base {
        Some(base) => Some(usable_map(repository, base.manifest.map, &lost, &draft)?),
        None => None,
    };
    let beginning = Beginning { draft, map, position: BlockIndex(0), continued: None };
    Ok(Prepared { beginning, base_bytes, lost: lost.blocks, reads_lost_only: false })
}

fn refuse_empty_hints(request: &BackupRequest<'_>, has_base: bool) -> Result<()> {
    if request.hints.as_ref().is_some_and(Vec::is_empty) && !has_base && !request.may_be_empty {
        return Err(Error::new(
            ErrorKind::Refused,
            "the hints are empty and there is no base version: the backup would be all zero",
        ));
    }
    Ok(())
}

/// Finds the base, and reads it from the store now. One that was chosen by its date alone may have gone meanwhile, or lie
/// whole in the catalog only: then the choice is made again.
fn take_base(repository: &Repository, lease: &Lease, request: &BackupRequest<'_>) -> Result<Option<VersionEntry>> {
    let mut tries_left = TRIES_FOR_BASE;
    loop {
        let Some(mut base) = find_base(repository, request)? else { return Ok(None) };
        if base.checkpoint.is_some() {
            return Ok(Some(base));
        }
        let uid = base.manifest.uid;
        tries_left -= 1;
        match repository.take_version(lease, uid) {
            Ok(taken) => {
                base.is_void = taken.is_void;
                base.manifest = taken.manifest;
                return Ok(Some(base));
            }
            Err(error) if is_about_content(&error) && request.base == BaseChoice::Newest && tries_left > 0 => {
                warn!("version {uid} cannot be the base: {error}");
                repository.catalog().forget_object(&names::manifest(uid))?;
            }
            Err(error) => return Err(error.context("take the base version")),
        }
    }
}

fn find_base(repository: &Repository, request: &BackupRequest<'_>) -> Result<Option<VersionEntry>> {
    match &request.base {
        BaseChoice::None => Ok(None),
        BaseChoice::Version(spec) => repository.find_version(spec).map(Some).context(|| "look for the base version"),
        BaseChoice::Newest => {
            let listing = repository.versions().context(|| "look for the base version")?;
            let unreadable: Vec<VersionUid> = listing.unreadable.iter().map(|(uid, _)| *uid).collect();
            let spec = VersionSpec::Latest { name: request.name.clone() };
            let base = match choose(listing, &spec) {
                Ok(entry) => Some(entry),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error.context("look for the base version")),
            };
            if request.hints.is_some() {
                refuse_unknown_newest(base.as_ref(), &unreadable)?;
            }
            Ok(base)
        }
    }
}

/// Hints say what changed since one version. If a newer one than the base cannot be read, they may well be since that one.
fn refuse_unknown_newest(base: Option<&VersionEntry>, unreadable: &[VersionUid]) -> Result<()> {
    let is_newer = |uid: &&VersionUid| base.is_none_or(|base| uid.timestamp() >= base.manifest.uid.timestamp());
    match unreadable.iter().find(is_newer) {
        Some(uid) => Err(Error::damaged(format!(
            "version {uid} cannot be read, and may be the one that the hints are since; name the base version, or back up \
             without hints"
        ))),
        None => Ok(()),
    }
}

/// Refuses a base that cannot serve; drops one that nobody asked for by name.
fn usable_base(
    request: &BackupRequest<'_>,
    base: Option<VersionEntry>,
    block_size: BlockSize,
) -> Result<Option<VersionEntry>> {
    let Some(base) = base else { return Ok(None) };
    let uid = base.manifest.uid;
    if base.state == VersionState::Incomplete {
        return Err(Error::invalid(format!("version {uid} is incomplete and cannot be a base; continue it first")));
    }
    if base.manifest.block_size != block_size {
        let is_needed = request.hints.is_some() || matches!(request.base, BaseChoice::Version(_));
        if is_needed {
            return Err(Error::invalid(format!(
                "version {uid} has blocks of {} bytes, the backup shall have {}; they cannot be mixed",
                base.manifest.block_size.bytes(),
                block_size.bytes()
            )));
        }
        return Ok(None);
    }
    Ok(Some(base))
}

fn continue_version(
    repository: &Repository,
    lease: &Lease,
    request: &BackupRequest<'_>,
    spec: &VersionSpec,
    damage: &Damage,
) -> Result<Prepared> {
    let entry = repository.find_version(spec).context(|| "look for the version to continue")?;
    let uid = entry.manifest.uid;
    let Some(checkpoint) = entry.checkpoint else {
        return read_missing_again(repository, lease, request, entry, damage);
    };
    lease.use_versions(&[uid])?;
    repository.refuse_second_writer(lease, uid)?;
    let (checkpoint, is_void) = repository.take_checkpoint(lease, uid, checkpoint.number)?;
    let earlier = checkpoint.version;
    let wanted_size = request.block_size.unwrap_or(earlier.block_size);
    if !request.snapshot_name.is_empty() && request.snapshot_name != earlier.snapshot_name {
        return Err(Error::invalid(format!(
            "version {uid} was begun from snapshot {:?}, not from {:?}; half of each would be neither",
            earlier.snapshot_name, request.snapshot_name
        )));
    }
    if earlier.name != request.name
        || earlier.size_bytes != request.source.size_bytes()
        || wanted_size != earlier.block_size
    {
        return Err(Error::invalid(format!(
            "version {uid} is of {:?} with {} bytes in blocks of {}; this backup is of {:?} with {} bytes in blocks of {}",
            earlier.name,
            earlier.size_bytes,
            earlier.block_size.bytes(),
            request.name,
            request.source.size_bytes(),
            wanted_size.bytes()
        )));
    }
    refuse_other_source(&earlier, request)?;
    refuse_empty_hints(request, earlier.base.is_some())?;
    info!("continuing version {uid} at block {}", checkpoint.position);
    let mut lost = lost_blocks(repository, earlier.map, BlockCount(1), damage)
        .context(|| format!("read incomplete version {uid}"))?;
    if let (Some(part), false) = (lost.map_parts.first(), is_void) {
        let problem =
            format!("version {uid} cannot be continued, begin a new one; its block map is damaged: {}", part.problem);
        return Err(Error::damaged(problem));
    }
    // Also where it is not void: it may go on from one that was, and not have been read to its end.
    add_condemned(repository, earlier.map, &mut lost)?;
    let mut draft = Manifest {
        // No two jobs ever write under one uid: who wrote the checkpoint may be alive, and end later.
        uid: VersionUid::generate(repository.environment()),
        continues: continued_by(&earlier, uid),
        label: entry.label.as_change(),
        lease: lease.id(),
        encryption_version: repository.encryption_version(),
        origin: Origin {
            is_hinted: earlier.origin.is_hinted || request.hints.is_some(),
            ..origin(request, &earlier.origin)
        },
        ..earlier
    };
    lease.use_versions(&[draft.uid])?;
    draft.map = usable_map(repository, draft.map, &lost, &draft)?;
    // Without a base what was lost is read again all the same: the checkpoint stands for one.
    let base_bytes = Some(draft.base_bytes.unwrap_or(draft.size_bytes));
    let map = Some(draft.map);
    let mut beginning = Beginning { draft, map, position: checkpoint.position, continued: Some(uid) };
    if let Some(first) = lost.blocks.first().filter(|first| first.start < checkpoint.position) {
        beginning.go_back_to(first.start);
    }
    Ok(Prepared { beginning, base_bytes, lost: lost.blocks, reads_lost_only: false })
}

/// Adds a version to those that an earlier one has gone on from: the last ones of many.
fn continued_by(earlier: &Manifest, uid: VersionUid) -> Vec<VersionUid> {
    let mut continues = earlier.continues.clone();
    continues.push(uid);
    continues.drain(..continues.len().saturating_sub(CONTINUES_MAX));
    continues
}

/// A complete version is never changed. If some of its blocks were unreadable, a new version takes the others over and
/// reads those again.
fn read_missing_again(
    repository: &Repository,
    lease: &Lease,
    request: &BackupRequest<'_>,
    entry: VersionEntry,
    damage: &Damage,
) -> Result<Prepared> {
    let uid = entry.manifest.uid;
    if entry.state != VersionState::Invalid {
        return Err(Error::invalid(format!("version {uid} is complete and valid; there is nothing to continue")));
    }
    let is_same = entry.manifest.name == request.name && entry.manifest.size_bytes == request.source.size_bytes();
    if !is_same || request.block_size.is_some_and(|size| size != entry.manifest.block_size) {
        return Err(Error::invalid(format!(
            "version {uid} is of {:?}, of another size or block size",
            entry.manifest.name
        )));
    }
    refuse_other_source(&entry.manifest, request)?;
    // With void versions of which nothing is missing, all may be there; then nothing is read, and the new one is good.
    let mut lost = repository.lost_blocks(entry.manifest.map, damage).context(|| format!("read version {uid}"))?;
    if repository.take_version(lease, uid)?.is_void {
        add_condemned(repository, entry.manifest.map, &mut lost)?;
    }
    let now = repository.environment().clock.now();
    let draft = draft(repository, lease, request, Some(&entry), entry.manifest.block_size, now);
    lease.use_versions(&[uid, draft.uid])?;
    let base_bytes = Some(entry.manifest.size_bytes);
    let map = Some(usable_map(repository, entry.manifest.map, &lost, &draft)?);
    let beginning = Beginning { draft, map, position: BlockIndex(0), continued: None };
    Ok(Prepared { beginning, base_bytes, lost: lost.blocks, reads_lost_only: true })
}

/// One version holds one source.
fn refuse_other_source(earlier: &Manifest, request: &BackupRequest<'_>) -> Result<()> {
    let (was, is) = (&earlier.origin.source_url, request.source.url());
    if *was == is {
        Ok(())
    } else {
        Err(Error::invalid(format!("version {} was begun from {was}, not from {is}", earlier.uid)))
    }
}

fn origin(request: &BackupRequest<'_>, earlier: &Origin) -> Origin {
    Origin {
        source_url: request.source.url(),
        host: request.host.clone(),
        program: request.program.clone(),
        ..earlier.clone()
    }
}
/// What cannot be taken over from a base: what is missing or damaged, and of a void one also what is condemned.
fn lost_of_base(repository: &Repository, base: &VersionEntry, damage: &Damage) -> Result<LostBlocks> {
    let Manifest { map, missing_blocks, .. } = base.manifest;
    if !base.is_void {
        return lost_blocks(repository, map, missing_blocks, damage);
    }
    let mut lost = repository.lost_blocks(map, damage)?;
    add_condemned(repository, map, &mut lost)?;
    Ok(lost)
}

/// Adds what must not be relied on in a void map. If one of its own slots is among that, the map is written anew.
fn add_condemned(repository: &Repository, map: MapRoot, lost: &mut LostBlocks) -> Result<()> {
    let (blocks, map_slot) = repository.condemned_blocks(map)?;
    lost.blocks = union(std::mem::take(&mut lost.blocks).into_iter().chain(blocks).collect());
    if let (Some(address), true) = (map_slot, lost.map_parts.is_empty()) {
        let blocks = BlockRange { start: BlockIndex(0), count: BlockCount(0) };
        lost.map_parts.push(LostMapPart { blocks, address, problem: "a cleanup has condemned it".to_owned() });
    }
    Ok(())
}

/// A walk through the map costs as much as the map is large, so it is spared where nothing can be lost.
fn lost_blocks(
    repository: &Repository,
    map: MapRoot,
    missing_blocks: BlockCount,
    damage: &Damage,
) -> Result<LostBlocks> {
    let is_whole = missing_blocks.0 == 0 && damage.is_empty();
    if is_whole { Ok(LostBlocks::default()) } else { repository.lost_blocks(map, damage) }
}

/// A map of which parts cannot be read is written anew, as far as it goes: the new version must not point to them.
fn usable_map(repository: &Repository, map: MapRoot, lost: &LostBlocks, draft: &Manifest) -> Result<MapRoot> {
    if lost.map_parts.is_empty() {
        return Ok(map);
    }
    repository.salvaged_map(map, draft.lease).context(|| "salvage the block map of the base")
}

/// After a backup has failed on what is stored: looks through the map that it began with, and notes down damaged parts.
/// Says whether there are any, so that another try will do better.
pub(super) fn note_damaged_map(repository: &Repository, request: &BackupRequest<'_>) -> Result<bool> {
    let entry = match &request.continued {
        Some(spec) => Some(repository.find_version(spec)?),
        None => find_base(repository, request)?,
    };
    let Some(entry) = entry.filter(|entry| entry.checkpoint.is_none()) else { return Ok(false) };
    let parts = repository.lost_blocks(entry.manifest.map, &Damage::default())?.map_parts;
    let Some(first) = parts.first() else { return Ok(false) };
    let uid = entry.manifest.uid;
    warn!("the block map of version {uid} is damaged, its blocks are read again: {}", first.problem);
    repository.record_damage(&parts.iter().map(|part| part.address).collect(), uid, &first.problem)?;
    Ok(true)
}

fn draft(
    repository: &Repository,
    lease: &Lease,
    request: &BackupRequest<'_>,
    base: Option<&VersionEntry>,
    block_size: BlockSize,
    now: Timestamp,
) -> Manifest {
    let size_bytes = request.source.size_bytes();
    Manifest {
        uid: VersionUid::generate(repository.environment()),
        name: request.name.clone(),
        snapshot_name: request.snapshot_name.clone(),
        // The newest version is the one that the next backup goes on from, also where clocks jump or differ.
        created: base.map_or(now, |base| now.max(base.manifest.created.plus(Duration::from_millis(1)))),
        size_bytes,
        block_size,
        base: base.map(|base| base.manifest.uid),
        base_bytes: base.map(|base| base.manifest.size_bytes),
        lease: lease.id(),
        encryption_version: repository.encryption_version(),
        map: MapRoot { blocks: block_size.count(size_bytes), root: None },
        missing_blocks: BlockCount(0),
        origin: Origin { is_hinted: request.hints.is_some(), ..origin(request, &Origin::default()) },
        statistics: Statistics::default(),
        audit: base.map(|base| base.manifest.audit).unwrap_or_default(),
        label: request.label.clone(),
        continues: Vec::new(),
    }
}
