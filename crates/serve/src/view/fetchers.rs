//! Threads that read the repository for those who wait, and ahead of those who will come.
//!
//! Two bounded queues: what somebody waits for goes before what is read ahead. The threads end when the last view does.
//! Nobody waits for them to end: a store that hangs must not keep a program from ending.

use std::num::NonZeroUsize;
use std::time::Duration;

use backy_core::{Error, ErrorKind, Result};
use backy_engine::repository::runs::SlotReader;
use crossbeam_channel::{Receiver, Sender, bounded, select_biased};

/// How many tasks wait in each queue at most.
const QUEUE_MAX: usize = 1024;

/// One thing to read; it tells those who wait by itself.
pub(crate) type Task = Box<dyn FnOnce(&mut SlotReader) + Send>;

/// The threads.
pub(crate) struct Fetchers {
    urgent: Sender<Task>,
    ahead: Sender<Task>,
}

impl Fetchers {
    /// Starts the threads.
    pub(crate) fn start(threads: NonZeroUsize) -> Result<Fetchers> {
        let (urgent, urgent_tasks) = bounded(QUEUE_MAX);
        let (ahead, ahead_tasks) = bounded(QUEUE_MAX);
        for _ in 0..threads.get() {
            let (urgent_tasks, ahead_tasks) = (urgent_tasks.clone(), ahead_tasks.clone());
            let reader = SlotReader::new()?;
            std::thread::Builder::new()
                .name("fetch".to_owned())
                .spawn(move || work(&urgent_tasks, &ahead_tasks, reader))
                .map_err(|error| Error::io("start a thread", error))?;
        }
        Ok(Fetchers { urgent, ahead })
    }

    /// Has a task done as soon as possible; waits up to `patience` for room in the queue.
    ///
    /// # Errors
    /// `Unavailable` if there is no room: everything waits for the store.
    pub(crate) fn submit(&self, task: Task, patience: Duration) -> Result<()> {
        self.urgent
            .send_timeout(task, patience)
            .map_err(|_| Error::new(ErrorKind::Unavailable, "too many reads wait for the store"))
    }

    /// Has a task done when nothing else is to do, or not at all.
    pub(crate) fn submit_ahead(&self, task: Task) {
        // A task that is dropped tells those who wait.
        let _ = self.ahead.try_send(task);
    }
}

fn work(urgent: &Receiver<Task>, ahead: &Receiver<Task>, mut reader: SlotReader) {
    loop {
        let task = select_biased! {
            recv(urgent) -> task => task,
            recv(ahead) -> task => task,
        };
        match task {
            Ok(task) => task(&mut reader),
            // The other end is gone, that of both queues.
            Err(_) => return,
        }
    }
}
