//! A text for every event, whatever is wrong with it (MMF #matrix-events: show what is known, rather than nothing).

use nabe_signing::{Json, Object};

use crate::error::ContentError;
use crate::fields::Fields;
use crate::message::{CONTENT, Message, PAYLOAD_LIMITS, SHOWN_TYPE_BYTES, TYPE};
use crate::plain::{Plain, clean_line};
use crate::text::Text;

/// What to show for an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shown {
    /// Text that is safe to print, at most [`crate::MAX_RENDERED_BYTES`]. Never empty unless the sender's text is.
    pub text: String,
    /// What is wrong with the event. The text is then all of the event's own text that could be saved.
    pub problem: Option<ContentError>,
}

/// What to show for an event of type `kind` with this content.
#[must_use]
pub fn show(kind: &str, content: &Object) -> Shown {
    shown(Message::parse(kind, content), || fallback(Some(kind), Some(content)))
}

/// What to show for what an encrypted event decrypts to.
#[must_use]
pub fn show_payload(payload: &[u8]) -> Shown {
    shown(Message::parse_payload(payload), || {
        let payload = Object::parse_with(payload, PAYLOAD_LIMITS).unwrap_or_default();
        let kind = payload.get(TYPE).and_then(Json::as_str);
        fallback(kind, payload.get(CONTENT).and_then(Json::as_object))
    })
}

fn shown(read: Result<Message, ContentError>, fallback: impl FnOnce() -> String) -> Shown {
    match read {
        Ok(message) => Shown {
            text: message.to_plain(),
            problem: None,
        },
        Err(problem) => Shown {
            text: fallback(),
            problem: Some(problem),
        },
    }
}

fn fallback(kind: Option<&str>, content: Option<&Object>) -> String {
    let mut out = Plain::new();
    let saved = content.and_then(|content| Text::salvage(&Fields::root(content)));
    match (saved, kind) {
        (Some(text), _) => text.render(&mut out),
        (None, None) => out.line("[message that cannot be read]"),
        (None, Some(kind)) => {
            out.line("[message of type ");
            out.line(&clean_line(kind, SHOWN_TYPE_BYTES));
            out.line(" that cannot be read]");
        }
    }
    out.finish()
}
