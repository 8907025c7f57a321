//! Work that computes for milliseconds without ever waiting: checking a commit of a large MLS group, loading the group, writing
//! its checkpoint. It must not keep the other tasks of its thread waiting.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does `work` right here and once, while another thread takes over the other tasks of this one. Whoever calls this cannot be
/// canceled meanwhile, and a room's lock is held until it is done, so the order within a room stays as it is. On a
/// runtime that has one thread only, nobody can take over, and the others wait.
pub(crate) fn off_reactor<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_only_worker_goes_on_with_other_tasks() {
        let busy = tokio::spawn(async {
            off_reactor(|| {
                let (done, other) = mpsc::channel();
                Handle::current().spawn(async move { done.send("another task ran") });
                other.recv_timeout(Duration::from_secs(30))
            })
        });
        assert_eq!(busy.await.unwrap(), Ok("another task ran"));
    }

    #[tokio::test]
    async fn one_thread_does_the_work_itself() {
        assert_eq!(off_reactor(|| 7), 7);
    }

    #[test]
    fn without_a_runtime_the_work_is_done_all_the_same() {
        assert_eq!(off_reactor(|| 7), 7);
    }
}
