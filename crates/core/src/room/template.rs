//! What the hub tells servers outside the room: membership templates (LM #int-transport-make-and-send) and stripped state
//! (LM #int-stripped-state).

use nabe_auth::lm::{Membership, RoomState, Rule4Input, authorize};
use nabe_event::EventBuilder;
use nabe_signing::json::Object;
use nabe_signing::object;
use nabe_types::{RoomVersionId, ServerName, UnixMillis, UserId};

use super::RoomView;
use crate::Refusal;
use crate::state::MEMBER;

impl RoomView {
    /// Answers `make_join`, `make_leave` or `make_knock` from another server: the template, if this server is the hub, the user belongs
    /// to `origin`, the room's version is among `versions` (when the endpoint asks for them) and the rules allow the event now.
    ///
    /// That the origin must be the user's server is our own check (LM #int-api-make-join does not ask for it).
    pub fn make_membership(
        &self,
        origin: &ServerName,
        user: &UserId,
        membership: Membership,
        versions: Option<&[RoomVersionId]>,
    ) -> Result<Object, Refusal> {
        self.check_hub()?;
        if user.server_name() != origin {
            return Err(Refusal::OriginIsNotSender {
                origin: origin.clone(),
                sender: user.clone(),
            });
        }
        if versions.is_some_and(|versions| !versions.contains(&self.meta.version)) {
            return Err(Refusal::IncompatibleRoomVersion {
                version: self.meta.version.clone(),
            });
        }
        self.template(user, membership)
    }

    /// The fields of a membership event by `user` about themselves that the rules would allow now: `type`, `state_key`, `sender` and
    /// `content`. Only the hub has templates.
    pub fn template(&self, user: &UserId, membership: Membership) -> Result<Object, Refusal> {
        self.check_hub()?;
        let event = EventBuilder::new(
            self.meta.room_id.clone(),
            MEMBER,
            user.clone(),
            UnixMillis::ZERO,
            object! { "membership" => membership.as_str() },
        )
        .state_key(user.as_str())
        .unsigned(self.rules)?;
        let hub = self.hub().ok_or(nabe_auth::lm::AuthRejection::NoCreateEvent)?;
        authorize(&event, &self.state, self.rules, &Rule4Input::NotChecked, hub)?;
        Ok(event.stripped())
    }

    /// What a user outside the room is shown of it: those of the events the draft names that exist (LM #int-stripped-state).
    #[must_use]
    pub fn stripped_state(&self) -> Vec<Object> {
        let shown = SHOWN_OUTSIDE
            .iter()
            .filter_map(|event_type| self.state.get(event_type, ""));
        shown.map(|event| event.stripped()).collect()
    }
}

const SHOWN_OUTSIDE: [&str; 6] = [
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
];
