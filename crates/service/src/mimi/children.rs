//! Rooms that depend on another: who leaves that one, or is removed from it, is removed from them (MRP
//! #base-room-policy-component-syntax). What makes somebody leave marks them due in the same batch, so nothing is forgotten when the hub
//! crashes; a worker has the hub propose the removals.

use nabe_core::mimi::MimiUri;
use nabe_store::{MimiWrite, PolicyWrite, Write};
use tokio::sync::Notify;

use super::Mimi;
use super::rooms::ATTEMPTS;
use crate::error::ServiceError;
use crate::off_reactor::off_reactor;

/// Wakes the worker.
#[derive(Default)]
pub(super) struct Children {
    due: Notify,
}

impl Mimi {
    /// Rooms may be due, or what kept somebody in one may be over.
    pub(crate) fn wake_children(&self) {
        self.state.children.due.notify_one();
    }

    /// The worker, until the shutdown.
    pub(crate) async fn tend_children(self) {
        loop {
            if let Err(error) = self.tend_due_children().await {
                tracing::warn!(%error, "rooms that depend on others could not be looked at");
            }
            tokio::select! {
                biased;
                () = self.service.stopping() => return,
                () = self.state.children.due.notified() => {}
            }
        }
    }

    async fn tend_due_children(&self) -> Result<(), ServiceError> {
        let mut after: Option<MimiUri> = None;
        loop {
            let rooms = self.service.store().due_child_rooms(after.as_ref(), AT_ONCE).await?;
            let Some(last) = rooms.last() else {
                return Ok(());
            };
            for room in &rooms {
                if let Err(error) = self.tend_child(room).await {
                    tracing::warn!(%room, %error, "who left the parent room could not be removed");
                }
            }
            after = Some(last.clone());
        }
    }

    /// Both rooms are locked meanwhile. A room stays due while somebody is in it whose removal has to wait for its next commit.
    async fn tend_child(&self, uri: &MimiUri) -> Result<(), ServiceError> {
        for _ in 0..ATTEMPTS {
            let Some(open) = self.open(uri).await? else {
                return Ok(());
            };
            let strangers = off_reactor(|| open.room().remove_strangers(&open.ctx(self)));
            let strangers = strangers.map_err(|refusal| {
                tracing::error!(room = %uri, %refusal, "cannot propose removals");
                ServiceError::HubKeyUnfit
            })?;
            let done = PolicyWrite::ChildIsDone { room: uri.clone() };
            let done = (!strangers.remain).then_some(Write::Mimi(MimiWrite::Policy(done)));
            let Some(outcome) = strangers.outcome else {
                return match done {
                    Some(done) => self.service.commit(done.into()).await,
                    None => Ok(()),
                };
            };
            match open.commit(self, outcome, done.into_iter().collect()).await {
                Err(error) if error.is_conflict() => {}
                other => return other,
            }
        }
        Err(ServiceError::RoomTooBusy)
    }
}

/// How many rooms are read at once.
const AT_ONCE: usize = 256;
