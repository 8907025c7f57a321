//! What is going on in the process, so that a test can tell "nothing left to do" from "not done yet" without sleeping.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::watch;

/// Counts what is going on. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    steps: AtomicU64,
    working: AtomicUsize,
    pending: AtomicUsize,
    delayed: AtomicUsize,
}

/// Something under way, counted until dropped.
#[derive(Debug)]
pub struct Ongoing {
    counts: Arc<Counts>,
    of: fn(&Counts) -> &AtomicUsize,
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        (self.of)(&self.counts).fetch_sub(1, Ordering::SeqCst);
        self.counts.steps.fetch_add(1, Ordering::SeqCst);
    }
}

impl Activity {
    fn begin(&self, of: fn(&Counts) -> &AtomicUsize) -> Ongoing {
        self.counts.steps.fetch_add(1, Ordering::SeqCst);
        of(&self.counts).fetch_add(1, Ordering::SeqCst);
        Ongoing {
            counts: Arc::clone(&self.counts),
            of,
        }
    }

    /// Work that ends by itself, such as a call of the store.
    #[must_use]
    pub fn work(&self) -> Ongoing {
        self.begin(|counts| &counts.working)
    }

    /// A request or operation that may have to wait for the clock.
    #[must_use]
    pub fn pending(&self) -> Ongoing {
        self.begin(|counts| &counts.pending)
    }

    /// A message that waits on the wire for the clock.
    #[must_use]
    pub fn delayed(&self) -> Ongoing {
        self.begin(|counts| &counts.delayed)
    }

    /// Grows with everything that begins or ends.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.counts.steps.load(Ordering::SeqCst)
    }

    /// Whether a call is under way that ends without anybody moving the clock. Blocking jobs are not counted.
    #[must_use]
    pub fn is_working(&self) -> bool {
        self.counts.working.load(Ordering::SeqCst) > 0
    }

    /// Requests and operations under way.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.counts.pending.load(Ordering::SeqCst)
    }

    /// Messages held up on the wire.
    #[must_use]
    pub fn delayed_count(&self) -> usize {
        self.counts.delayed.load(Ordering::SeqCst)
    }
}

/// One run of one server, from its start to its crash. Clones share it.
#[derive(Clone, Debug)]
pub struct Life {
    over: Arc<watch::Sender<bool>>,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            over: Arc::new(watch::Sender::new(false)),
        }
    }
}

impl Life {
    /// The process is gone from now on: nothing it still does has an effect.
    pub fn end(&self) {
        self.over.send_replace(true);
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// Completes when it ends.
    pub async fn over(&self) {
        // Fails only when the sender is gone, and `self` has it.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// Goes on only if the process still runs: what a dead process was about to do never happens.
    pub async fn survive(&self) {
        if self.is_over() {
            std::future::pending::<()>().await;
        }
    }
}
