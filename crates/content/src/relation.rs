//! How one message relates to another: `m.relates_to` (MMF #introduction names replies, threads, edits and reactions; their
//! fields are those of Matrix).

use nabe_signing::{Json, Object, object};
use nabe_types::EventId;

use crate::error::{ContentError, Rule};
use crate::fields::Fields;

/// What a message belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Relation {
    /// An answer to one event.
    Reply(
        /// The event answered.
        EventId,
    ),
    /// Part of a thread.
    Thread {
        /// The event the thread began with.
        root: EventId,
        /// The event of the thread that this one answers, if it answers one.
        reply_to: Option<EventId>,
    },
}

impl Relation {
    /// The relation of a post. Relations of other kinds are no concern of ours, so they count as none.
    pub(crate) fn read(content: &Fields<'_>) -> Result<Option<Self>, ContentError> {
        let Some(relates_to) = content.optional_object(RELATES_TO)? else {
            return Ok(None);
        };
        let reply_to = match relates_to.optional_object(IN_REPLY_TO)? {
            None => None,
            Some(answered) => Some(answered.event_id(EVENT_ID)?),
        };
        if rel_type(&relates_to)? == Some(THREAD) {
            let root = relates_to.event_id(EVENT_ID)?;
            // For clients without threads, what is no reply claims to answer the thread's latest event.
            let is_reply = relates_to.get(IS_FALLING_BACK).and_then(Json::as_bool) != Some(true);
            let reply_to = reply_to.filter(|_| is_reply);
            return Ok(Some(Self::Thread { root, reply_to }));
        }
        Ok(reply_to.map(Self::Reply))
    }

    pub(crate) fn to_object(&self) -> Object {
        match self {
            Self::Reply(event) => object! { IN_REPLY_TO => object! { EVENT_ID => event } },
            Self::Thread { root, reply_to: None } => object! { REL_TYPE => THREAD, EVENT_ID => root },
            Self::Thread {
                root,
                reply_to: Some(event),
            } => object! {
                REL_TYPE => THREAD,
                EVENT_ID => root,
                IS_FALLING_BACK => false,
                IN_REPLY_TO => object! { EVENT_ID => event },
            },
        }
    }
}

/// The event that this content replaces, if it is an edit.
pub(crate) fn replaced(content: &Fields<'_>) -> Result<Option<EventId>, ContentError> {
    let Some(relates_to) = content.optional_object(RELATES_TO)? else {
        return Ok(None);
    };
    if rel_type(&relates_to)? != Some(REPLACE) {
        return Ok(None);
    }
    relates_to.event_id(EVENT_ID).map(Some)
}

pub(crate) fn replace(event: &EventId) -> Object {
    object! { REL_TYPE => REPLACE, EVENT_ID => event }
}

/// The relation of a reaction, which must annotate.
pub(crate) fn annotated<'a>(content: &Fields<'a>) -> Result<Fields<'a>, ContentError> {
    let relates_to = content.object(RELATES_TO)?;
    match rel_type(&relates_to)? {
        Some(ANNOTATION) => Ok(relates_to),
        Some(_) => Err(relates_to.broke(REL_TYPE, Rule::NotTheWord { expected: ANNOTATION })),
        None => Err(relates_to.broke(REL_TYPE, Rule::Missing)),
    }
}

pub(crate) fn annotation(event: &EventId, key: &str) -> Object {
    object! { REL_TYPE => ANNOTATION, EVENT_ID => event, KEY => key }
}

fn rel_type<'a>(relates_to: &Fields<'a>) -> Result<Option<&'a str>, ContentError> {
    relates_to.optional_str(REL_TYPE, usize::MAX)
}

pub(crate) const RELATES_TO: &str = "m.relates_to";
pub(crate) const EVENT_ID: &str = "event_id";
pub(crate) const KEY: &str = "key";
const REL_TYPE: &str = "rel_type";
const IN_REPLY_TO: &str = "m.in_reply_to";
const IS_FALLING_BACK: &str = "is_falling_back";
const THREAD: &str = "m.thread";
const REPLACE: &str = "m.replace";
const ANNOTATION: &str = "m.annotation";
