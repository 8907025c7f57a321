//! Authoring events: the hub's own PDUs and a participant's LPDUs, within stricter limits than we demand of others. LM #int-pdu,
//! LM #int-lpdu.

use nabe_signing::Signer;
use nabe_signing::json::{Json, Object};
use nabe_types::limits::{COMPLETION_BYTES, MAX_EVENT_BYTES, MAX_SAFE_INTEGER, MAX_TYPE_CHARS};
use nabe_types::{EventId, RoomId, ServerName, UnixMillis, UserId};

use crate::error::{Dropped, commit_too_large};
use crate::event::Event;
use crate::pdu::Pdu;
use crate::verify::VerifiedLpdu;
use crate::{RoomVersionRules, seal};

/// An event in the making.
#[derive(Clone, Debug)]
pub struct EventBuilder {
    room_id: RoomId,
    event_type: String,
    state_key: Option<String>,
    sender: UserId,
    origin_server_ts: UnixMillis,
    content: Object,
}

/// Why an event of ours cannot be made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BuildError {
    /// `type` or `state_key` is over 255 bytes. Receivers need only refuse 255 *characters*; bytes is what all agree on.
    #[error("`{field}` is {len} bytes, limit 255")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// `content` or the timestamp has a number that is not an integer within ±(2^53−1), which some servers refuse.
    #[error("numbers must be integers within ±(2^53−1)")]
    UnsafeNumber,
    /// Too large: 65536 bytes for a PDU, less what the hub adds for an LPDU.
    #[error("event is {len} bytes, limit {limit}")]
    TooLarge {
        /// The size in bytes of canonical JSON.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The same, of an `m.mls.commit`.
    #[error("{}", commit_too_large(*len, *limit))]
    CommitTooLarge {
        /// The size in bytes of canonical JSON.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The sender belongs to another server than the one signing.
    #[error("the sender is not a user of the signing server")]
    NotOurUser,
}

impl EventBuilder {
    /// An event of this type, not a state event until [`EventBuilder::state_key`] is called.
    pub fn new(
        room_id: RoomId,
        event_type: impl Into<String>,
        sender: UserId,
        origin_server_ts: UnixMillis,
        content: Object,
    ) -> Self {
        Self {
            room_id,
            event_type: event_type.into(),
            state_key: None,
            sender,
            origin_server_ts,
            content,
        }
    }

    /// Makes it a state event.
    #[must_use]
    pub fn state_key(mut self, state_key: impl Into<String>) -> Self {
        self.state_key = Some(state_key.into());
        self
    }

    /// The hub's own event: no `hub_server`, no `lpdu` hash, one server's signatures.
    pub fn build_pdu(
        self,
        signer: &Signer,
        auth_events: Vec<EventId>,
        prev_events: Vec<EventId>,
        rules: &'static RoomVersionRules,
    ) -> Result<Pdu, BuildError> {
        let mut event = self.signable(None, signer, rules)?;
        event.auth_events = auth_events;
        event.prev_events = prev_events;
        seal::seal_pdu(event, signer).map_err(|dropped| too_large(&dropped, MAX_EVENT_BYTES))
    }

    /// A participant's event for `hub` to complete, signed by the participant.
    pub fn build_lpdu(
        self,
        signer: &Signer,
        hub: &ServerName,
        rules: &'static RoomVersionRules,
    ) -> Result<VerifiedLpdu, BuildError> {
        let limit = MAX_EVENT_BYTES - COMPLETION_BYTES;
        let event = self.signable(Some(hub.clone()), signer, rules)?;
        let lpdu = VerifiedLpdu::sealed(event, signer).map_err(|dropped| too_large(&dropped, limit))?;
        let len = lpdu.bytes().len();
        if len > limit {
            let dropped = Dropped::too_large(Some(lpdu.event_type()), len);
            Err(too_large(&dropped, limit))
        } else {
            Ok(lpdu)
        }
    }

    /// The event without hashes and signatures, to ask the authorization rules about before it exists, as for the templates of
    /// LM #int-transport-make-and-send. It has no `auth_events` and no `prev_events`.
    pub fn unsigned(self, rules: &'static RoomVersionRules) -> Result<Event, BuildError> {
        self.checked(None, rules)
    }

    fn signable(
        self,
        hub_server: Option<ServerName>,
        signer: &Signer,
        rules: &'static RoomVersionRules,
    ) -> Result<Event, BuildError> {
        if self.sender.server_name() != signer.server() {
            return Err(BuildError::NotOurUser);
        }
        self.checked(hub_server, rules)
    }

    fn checked(self, hub_server: Option<ServerName>, rules: &'static RoomVersionRules) -> Result<Event, BuildError> {
        check_length("type", &self.event_type)?;
        if let Some(state_key) = &self.state_key {
            check_length("state_key", state_key)?;
        }
        let millis = i64::try_from(self.origin_server_ts.as_u64()).map_err(|_| BuildError::UnsafeNumber)?;
        if !is_safe(millis) || !self.content.iter().all(|(_, value)| has_safe_numbers(value)) {
            return Err(BuildError::UnsafeNumber);
        }
        let mut object = Object::new();
        object.insert("room_id", &self.room_id);
        object.insert("type", self.event_type.as_str());
        object.insert("sender", &self.sender);
        object.insert("origin_server_ts", millis);
        object.insert("content", self.content);
        if let Some(state_key) = &self.state_key {
            object.insert("state_key", state_key.as_str());
        }
        if let Some(hub) = &hub_server {
            object.insert("hub_server", hub);
        }
        Ok(Event {
            object,
            rules,
            room_id: self.room_id,
            event_type: self.event_type.into(),
            state_key: self.state_key.map(Into::into),
            sender: self.sender,
            origin_server_ts: self.origin_server_ts,
            hub_server,
            auth_events: Vec::new(),
            prev_events: Vec::new(),
        })
    }
}

fn check_length(field: &'static str, text: &str) -> Result<(), BuildError> {
    let len = text.len();
    if len > MAX_TYPE_CHARS {
        Err(BuildError::TooLong { field, len })
    } else {
        Ok(())
    }
}

fn has_safe_numbers(value: &Json) -> bool {
    match value {
        Json::Number(_) => value.as_i64().is_some_and(is_safe),
        Json::Array(items) => items.iter().all(has_safe_numbers),
        Json::Object(object) => object.iter().all(|(_, value)| has_safe_numbers(value)),
        _ => true,
    }
}

const fn is_safe(number: i64) -> bool {
    number.unsigned_abs() <= MAX_SAFE_INTEGER.unsigned_abs()
}

/// Sealing fails for one reason only.
fn too_large(dropped: &Dropped, limit: usize) -> BuildError {
    match *dropped {
        Dropped::CommitTooLarge { len } => BuildError::CommitTooLarge { len, limit },
        Dropped::TooLarge { len } => BuildError::TooLarge { len, limit },
        _ => BuildError::TooLarge { len: limit, limit },
    }
}
