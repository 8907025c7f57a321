//! The newest commit of a room's MLS group, from which a device can join it externally (LM #int-ev-mls-commit).

use nabe_core::{Encryption, Entry, RoomView};
use nabe_signing::base64u;
use nabe_signing::json::Json;
use nabe_types::{EventId, LogPosition, RoomId, UserId};

use crate::Service;
use crate::error::{Missing, ServiceError};

/// The newest commit, and the epoch it begins.
#[derive(Clone, Debug)]
pub struct NewestCommit {
    /// The event's ID, which the epoch is named by in `commit_event_id`.
    pub event_id: EventId,
    /// Its place in the log.
    pub position: LogPosition,
    /// Epoch of the `GroupInfo` in `public_group_state`.
    pub epoch: u64,
    /// The commit in base64, as in the event.
    pub message: String,
    /// The `GroupInfo` in base64, as in the event.
    pub public_group_state: String,
}

impl Service {
    /// The newest commit in the room's log. Shown to every joined user, whatever the history's visibility
    /// (LM #int-mls-add-remove). A server that joined after it asks the hub for older events, some 2,000 at
    /// most.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] if the user is not joined, the room has no MLS group, or no commit was found.
    pub async fn newest_commit(&self, user: &UserId, room: &RoomId) -> Result<NewestCommit, ServiceError> {
        let is_member = |view: &RoomView| {
            view.membership(user) == nabe_auth::lm::Membership::Join && matches!(view.encryption(), Encryption::Mls(_))
        };
        if !self.read_room(room, is_member).await? {
            return Err(ServiceError::NotFound(Missing::Room));
        }
        let followed = self.store().newest_commit(room).await?;
        let mut from = followed.map(LogPosition::next);
        for _ in 0..MAX_PAGES {
            let mut page = self.older_entries(room, from, PAGE).await?;
            if let Some(commit) = page.iter().rev().find_map(as_commit) {
                return Ok(commit);
            }
            if page.is_empty() || page[0].pdu().is_some_and(|pdu| pdu.is_state_of("m.room.create", "")) {
                break;
            }
            from = Some(page.swap_remove(0).position);
        }
        Err(ServiceError::NotFound(Missing::Commit))
    }
}

fn as_commit(entry: &Entry) -> Option<NewestCommit> {
    let pdu = entry
        .pdu()
        .filter(|pdu| !entry.soft_failed && pdu.event_type() == "m.mls.commit")?;
    let text = |field| pdu.content().get(field).and_then(Json::as_str);
    let public_group_state = text("public_group_state")?;
    Some(NewestCommit {
        event_id: pdu.event_id().clone(),
        position: entry.position,
        epoch: nabe_mls::epoch_of_group_state(&base64u::decode(public_group_state).ok()?)?,
        message: text("message")?.to_owned(),
        public_group_state: public_group_state.to_owned(),
    })
}

/// Entries looked at in one step.
const PAGE: usize = 50;

/// Steps before we give up; a group that was last changed so long ago is unusual.
const MAX_PAGES: usize = 40;
