//! Group commit: batches from all rooms go to the database together, so that one `fsync` serves many of them.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use nabe_store::{Batch, Store};
use tokio::sync::{mpsc, oneshot};

use crate::error::ServiceError;
use crate::metric;

/// Where batches are handed in. Cheap to share.
pub(crate) struct CommitQueue {
    sender: Mutex<Option<mpsc::Sender<Submitted>>>,
}

/// The other end: the one task that writes.
pub(crate) struct CommitWorker {
    receiver: mpsc::Receiver<Submitted>,
}

struct Submitted {
    batch: Batch,
    done: oneshot::Sender<Result<(), ServiceError>>,
}

impl CommitQueue {
    pub(crate) fn new() -> (Self, CommitWorker) {
        let (sender, receiver) = mpsc::channel(QUEUED);
        (
            Self {
                sender: Mutex::new(Some(sender)),
            },
            CommitWorker { receiver },
        )
    }

    /// Waits until `batch` is durable. The batch is written even if the caller stops waiting.
    pub(crate) async fn commit(&self, batch: Batch) -> Result<(), ServiceError> {
        if batch.0.is_empty() {
            return Ok(());
        }
        let sender = self
            .sender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or(ServiceError::ShuttingDown)?;
        let (done, outcome) = oneshot::channel();
        sender
            .send(Submitted { batch, done })
            .await
            .map_err(|_| ServiceError::ShuttingDown)?;
        outcome.await.unwrap_or(Err(ServiceError::ShuttingDown))
    }

    /// Takes no further batches. The worker ends when all that was handed in is written.
    pub(crate) async fn close(&self) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // Acquiring every slot means the worker has taken all batches off the queue.
            let _ = sender.reserve_many(QUEUED).await;
        }
    }
}

impl CommitWorker {
    /// Writes until the queue is closed and empty.
    pub(crate) async fn run(mut self, store: Arc<dyn Store>) {
        let mut taken = Vec::with_capacity(COALESCED);
        while self.receiver.recv_many(&mut taken, COALESCED).await > 0 {
            write(&*store, mem::take(&mut taken)).await;
        }
    }
}

async fn write(store: &dyn Store, submitted: Vec<Submitted>) {
    metrics::histogram!(metric::COMMIT_BATCHES).record(submitted.len() as f64);
    let (batches, waiting): (Vec<_>, Vec<_>) = submitted
        .into_iter()
        .map(|Submitted { batch, done }| (batch, done))
        .unzip();
    match store.commit(batches).await {
        Ok(results) => {
            for (result, done) in results.into_iter().zip(waiting) {
                // Nobody listening any more is fine: the batch is written all the same.
                let _ = done.send(result.map_err(ServiceError::from));
            }
        }
        Err(error) => {
            tracing::error!(%error, batches = waiting.len(), "the database refused a commit");
            metrics::counter!(metric::COMMIT_FAILURES).increment(1);
            let error = ServiceError::from(error);
            for done in waiting {
                let _ = done.send(Err(error.clone()));
            }
        }
    }
}

/// Batches that can wait before those who hand them in have to.
const QUEUED: usize = 1024;

/// Most batches in one database transaction. More would make the first of them wait without saving further syncs.
const COALESCED: usize = 256;
