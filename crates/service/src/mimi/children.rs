//! Rooms that depend on another: who leaves that one, or is removed from it, is removed from them (MRP
//! #base-room-policy-component-syntax). What makes somebody leave marks them due in the same batch, so nothing is forgotten when the hub
//! crashes; a worker has the hub propose the removals. Before that it notes, once, which of the rooms of earlier versions depend on others.

use nabe_core::mimi::MimiUri;
use nabe_store::{Batch, MimiWrite, PolicyWrite, Write};
use tokio::sync::Notify;

use super::rooms::ATTEMPTS;
use super::{Mimi, beside};
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
        if let Err(error) = self.note_old_rooms().await {
            tracing::warn!(%error, "rooms of earlier versions could not be looked at");
        }
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

    /// Keeps beside each room of before schema version 9 what its policy asks for, which nobody has kept then. Each is loaded for it, once.
    async fn note_old_rooms(&self) -> Result<(), ServiceError> {
        let mut after: Option<MimiUri> = None;
        loop {
            let rooms = self.service.store().rooms_to_note(after.as_ref(), AT_ONCE).await?;
            let Some(last) = rooms.last() else {
                return Ok(());
            };
            for room in &rooms {
                if self.service.is_stopping() {
                    return Ok(());
                }
                if let Err(error) = self.note_old_room(room).await {
                    tracing::warn!(%room, %error, "a room of an earlier version could not be looked at");
                }
            }
            self.evict_rooms();
            after = Some(last.clone());
        }
    }

    async fn note_old_room(&self, uri: &MimiUri) -> Result<(), ServiceError> {
        let Some(open) = self.open(uri).await? else {
            return Ok(());
        };
        let commit = async |writes: Vec<PolicyWrite>| {
            let noted = PolicyWrite::Noted { room: uri.clone() };
            let writes = writes.into_iter().chain([noted]);
            let writes = writes.map(|write| Write::Mimi(MimiWrite::Policy(write)));
            self.service.commit(Batch(writes.collect())).await
        };
        let mut writes = beside::of_old_room(open.room());
        match commit(writes.clone()).await {
            Err(error) if error.is_fixed_members_taken() => {
                tracing::warn!(room = %uri, %error, "two rooms of an earlier version have fixed membership and the same users");
                writes.retain(|write| !matches!(write, PolicyWrite::SetFixedMembers { .. }));
                commit(writes).await
            }
            done => done,
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
