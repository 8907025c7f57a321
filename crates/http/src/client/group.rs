//! A room's MLS group.

use axum::extract::State;
use nabe_service::Service;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::Authenticated;
use super::request::Target;
use crate::error::ClientError;
use crate::reply::Reply;

/// From where a device can join a group externally.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupBody {
    /// ID of the newest `m.mls.commit`, for `commit_event_id`.
    event_id: String,
    /// Its place in the log.
    position: i64,
    /// The epoch that it begins.
    epoch: u64,
    /// The commit, base64.
    message: String,
    /// The group's public state now, a `GroupInfo` with its ratchet tree, base64.
    public_group_state: String,
}

/// The newest commit of the room's MLS group, whatever the visibility of the history. `not_found` if the room is not encrypted with
/// MLS or nobody has committed yet.
#[utoipa::path(get, path = "/_nabe/v1/rooms/{room}/group", tag = "rooms",
    params(("room" = String, Path, description = "The room's ID.")),
    responses((status = 200, description = "The newest commit.", body = GroupBody)))]
pub(crate) async fn newest(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
) -> Result<Reply, ClientError> {
    let commit = service.newest_commit(&caller.user, &target.path.room()?).await?;
    Ok(Reply::of(&GroupBody {
        event_id: commit.event_id.to_string(),
        position: commit.position.as_i64(),
        epoch: commit.epoch,
        message: commit.message,
        public_group_state: commit.public_group_state,
    }))
}
