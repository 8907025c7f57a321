//! Work that another thread may do meanwhile, and that is done here if none has begun it by the time it is needed. So it never takes
//! longer than one after the other, but for handing it over; on a machine with nothing to spare, waiting for another thread to be given
//! its turn would take many times as long as the work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};

/// A piece of work that is being done, or not yet. Dropped before anybody has begun it, it is not done at all.
pub struct Meanwhile<W, T> {
    shared: Arc<Shared<W>>,
    run: fn(&W) -> T,
    answer: Receiver<T>,
}

struct Shared<W> {
    work: W,
    is_begun: AtomicBool,
}

impl<W: Send + Sync + 'static, T: Send + 'static> Meanwhile<W, T> {
    /// Offers work to the threads of the pool.
    pub fn offer(work: W, run: fn(&W) -> T) -> Self {
        let shared = Arc::new(Shared {
            work,
            is_begun: AtomicBool::new(false),
        });
        let (send, answer) = mpsc::sync_channel(1);
        let theirs = Arc::clone(&shared);
        rayon::spawn(move || {
            if theirs.begin() {
                // A panic on a thread of the pool would take the process along; so it comes to pass where the answer is wanted.
                if let Ok(answer) = catch_unwind(AssertUnwindSafe(|| run(&theirs.work))) {
                    // Nobody may want it any more.
                    let _ = send.send(answer);
                }
            }
        });
        Self { shared, run, answer }
    }

    /// What is being worked on.
    pub fn work(&self) -> &W {
        &self.shared.work
    }

    /// The work's outcome, from whoever has begun it. Work that panicked elsewhere is done again here.
    pub fn finish(self) -> T {
        let here = || (self.run)(&self.shared.work);
        if self.shared.begin() {
            return here();
        }
        // Mostly it is nearly done: to go to sleep and be woken would take longer.
        for _ in 0..LOOKS {
            match self.answer.try_recv() {
                Ok(answer) => return answer,
                Err(TryRecvError::Empty) => std::hint::spin_loop(),
                Err(TryRecvError::Disconnected) => return here(),
            }
        }
        self.answer.recv().unwrap_or_else(|_| here())
    }
}

impl<W, T> Drop for Meanwhile<W, T> {
    /// What nobody has begun needs no doing.
    fn drop(&mut self) {
        self.shared.begin();
    }
}

impl<W> Shared<W> {
    /// Whether it falls to the caller.
    fn begin(&self) -> bool {
        !self.is_begun.swap(true, Ordering::Relaxed)
    }
}

/// Looks for an answer before sleeping: about as long as a signature takes.
const LOOKS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_once_whoever_does_it() {
        for number in 0..200 {
            let offered = Meanwhile::offer(number, |number| number * 2);
            if number % 2 == 0 {
                std::thread::yield_now();
            }
            assert_eq!(offered.finish(), number * 2);
        }
    }

    #[test]
    fn what_nobody_can_take_is_done_here() {
        // Every thread of the pool waits until this is over.
        let (done, wait) = mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        for _ in 0..rayon::current_num_threads() {
            let wait = Arc::clone(&wait);
            rayon::spawn(move || drop(wait.lock().map(|wait| wait.recv())));
        }
        let here = std::thread::current().id();
        let offered = Meanwhile::offer((), |()| std::thread::current().id());
        assert_eq!(offered.finish(), here);
        drop(done);
    }
}
