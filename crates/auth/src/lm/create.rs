//! The first event of a room. LM #int-auth-rules rule 3, LM #int-ev-create.

use nabe_event::{Event, RoomVersionRules};
use nabe_signing::json::Json;

use super::{AuthRejection, CREATE, RoomState};

/// LM #int-auth-rules, rule 3.
pub(super) fn authorize_create(
    event: &Event,
    state: &impl RoomState,
    rules: &RoomVersionRules,
) -> Result<(), AuthRejection> {
    // 3.1
    if !event.prev_events().is_empty() {
        return Err(AuthRejection::CreateWithPrevEvents);
    }
    // 3.2
    if event.room_id().server_name() != event.sender_server() {
        return Err(AuthRejection::CreateInForeignDomain);
    }
    // 3.3
    if event.content().get("room_version").and_then(Json::as_str) != Some(rules.id) {
        return Err(AuthRejection::CreateForAnotherVersion);
    }
    // 3a, 3b: LM #int-ev-create says these are checked here; the list of rules leaves them out.
    if !event.auth_events().is_empty() {
        return Err(AuthRejection::CreateWithAuthEvents);
    }
    if event.state_key() != Some("") {
        return Err(AuthRejection::CreateWithStateKey);
    }
    // 3c, LM #int-auth-rules (deviation): nothing else in the rules keeps a room from being created twice.
    if state.get(CREATE, "").is_some() {
        return Err(AuthRejection::SecondCreate);
    }
    // 3.4
    Ok(())
}
