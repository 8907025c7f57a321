//! What has to be tidied up now and then: replies nobody will ask for again, rooms nobody uses, key packages nobody may
//! use.

use std::time::Duration;

use nabe_store::Write;

use crate::Service;

impl Service {
    /// The worker: until the shutdown, one round every so often.
    pub(crate) async fn keep_house(self) {
        let mut rounds: u32 = 0;
        loop {
            tokio::select! {
                () = self.stopping() => return,
                () = self.clock().sleep(EVICT_EVERY) => {}
            }
            self.evict_rooms().await;
            if let Some(mimi) = self.mimi() {
                mimi.evict_rooms();
                mimi.wake_children();
                mimi.end_long_waits().await;
            }
            if rounds.is_multiple_of(EXPIRE_EVERY_ROUNDS) {
                self.expire_replies().await;
                self.expire_devices().await;
                if let Some(mimi) = self.mimi() {
                    mimi.forget_what_is_old().await;
                }
            }
            rounds = rounds.wrapping_add(1);
        }
    }

    /// Forgets replies older than the retention (LM #int-txn-ids leaves it open; we keep them a day by default).
    pub(crate) async fn expire_replies(&self) {
        let before = self.now().minus(self.settings().reply_retention);
        if let Err(error) = self.commit(Write::ExpireReplies { before }.into()).await {
            tracing::warn!(%error, "could not expire stored replies");
        }
    }
}

const EVICT_EVERY: Duration = Duration::from_secs(10);
/// Replies and devices are expired about every ten minutes.
const EXPIRE_EVERY_ROUNDS: u32 = 60;
