//! Finishes packs and puts them into the store. Several uploaders run at once.

use crossbeam_channel::{Receiver, Sender};

use super::deduplicator::Deduplicator;
use super::flow::{Durable, PackJob, indexed};
use super::stop::Stop;
use crate::progress::Progress;
use crate::repository::Repository;

/// What an uploader works with.
pub(super) struct Uploader<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Knows which blocks are under way.
    pub deduplicator: &'a Deduplicator<'a>,
    /// Where packs come from.
    pub packs: Receiver<PackJob>,
    /// Where used memory goes.
    pub free_packs: Sender<Vec<u8>>,
    /// Who waits for durable packs.
    pub durable: Sender<Durable>,
    /// How far the job is.
    pub progress: &'a Progress,
    /// When to stop.
    pub stop: &'a Stop<'a>,
}

impl Uploader<'_> {
    /// Uploads until no pack comes. After a failure packs are taken and dropped, so that nobody waits for ever.
    pub(super) fn run(self) {
        for job in &self.packs {
            let memory = if self.stop.has_failed() { Vec::new() } else { self.upload(job) };
            let _ = self.free_packs.send(memory);
        }
    }

    /// Uploads one pack and returns its memory.
    fn upload(&self, job: PackJob) -> Vec<u8> {
        let number = job.number;
        let Some(mut pack) = self.stop.check(self.repository.put_pack(job.writer)) else { return Vec::new() };
        let size_bytes = pack.bytes.len() as u64;
        self.repository.index_pack(&pack, size_bytes);
        // Only now, for the catalog has the blocks: in between they would be found nowhere.
        self.deduplicator.remove_pending(&pack);
        self.progress.written_bytes.add(size_bytes);
        let _ = self.durable.send(Durable { number, indexed: indexed(&pack, size_bytes) });
        std::mem::take(&mut pack.bytes)
    }
}
