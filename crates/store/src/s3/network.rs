//! From blocking calls to futures: a small runtime that nobody outside sees.
//!
//! A call runs on the thread that makes it; two threads of the runtime's own drive the connections. A call in which no
//! byte moves for the timeout is given up, whatever its size: a slow line may take its time, a dead one may not.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use backy_core::{Error, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout_at};

use super::answer::{Conversation, Failure, State};
use super::transport::CONVERSATION;

/// How many threads drive connections.
const THREADS: usize = 2;

/// What became of a call, and what was seen of it.
pub(super) struct Outcome<T> {
    /// What the client library returned; nothing if the call was given up.
    pub(super) result: Option<object_store::Result<T>>,
    /// What was seen.
    pub(super) state: State,
}

/// The runtime, and the patience of its calls.
pub(super) struct Network {
    /// Always there, until it is dropped.
    runtime: Option<Runtime>,
    timeout: Duration,
}

impl Network {
    pub(super) fn new(timeout: Duration) -> Result<Network> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("s3")
            .enable_all()
            .build()
            .map_err(|error| Error::io("start the threads of the network", error))?;
        Ok(Network { runtime: Some(runtime), timeout })
    }

    /// Waits for a call, as long as bytes move.
    pub(super) fn wait<T>(&self, call: impl Future<Output = object_store::Result<T>>) -> Outcome<T> {
        let conversation = std::sync::Arc::new(Conversation::new());
        let watched = async {
            let mut call = pin!(call);
            loop {
                let deadline = conversation.lock().moved_at + self.timeout;
                match timeout_at(deadline, call.as_mut()).await {
                    Ok(result) => return Some(result),
                    Err(_) if conversation.lock().moved_at + self.timeout <= Instant::now() => return None,
                    Err(_) => {}
                }
            }
        };
        let scoped = CONVERSATION.scope(conversation.clone(), watched);
        let result = self.runtime.as_ref().and_then(|runtime| runtime.block_on(scoped));
        let mut state = conversation.lock().clone();
        if result.is_none() {
            let text = format!("no byte has moved for {} seconds", self.timeout.as_secs());
            state.failure = Some(Failure { text, is_distrust: false });
        }
        Outcome { result, state }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Not by waiting: the system's resolver may hang for as long as it likes.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
