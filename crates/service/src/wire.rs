//! Paths of the requests we make, and the JSON we read and write around stored events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nabe_event::Pdu;
use nabe_signing::json::{Json, Object};
use nabe_types::ServerName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::ServiceError;
use crate::ports::{Method, PeerError, PeerRequest, PeerResponse};

/// A request to `/_matrix/federation/<version>/<path>`, also known under the draft's unstable prefix if `has_unstable`.
/// `segments` are escaped, `query` pairs, too.
pub(crate) fn federation_request(
    method: Method,
    version: &str,
    segments: &[&str],
    query: &[(&str, &str)],
    has_unstable: bool,
    timeout: Duration,
) -> PeerRequest {
    let mut rest = String::new();
    for segment in segments {
        rest.push('/');
        rest.push_str(&escape(segment).to_string());
    }
    for (index, (name, value)) in query.iter().enumerate() {
        rest.push(if index == 0 { '?' } else { '&' });
        rest.push_str(&format!("{name}={}", escape(value)));
    }
    PeerRequest {
        method,
        stable: format!("/_matrix/federation/{version}{rest}"),
        unstable: has_unstable.then(|| format!("{UNSTABLE}{rest}")),
        body: None,
        timeout,
    }
}

/// The object in a successful answer. Another server's well-formed refusal is passed on as it is.
pub(crate) fn read_answer(server: &ServerName, response: &PeerResponse) -> Result<Object, ServiceError> {
    let object = response.json().ok().and_then(Json::into_object);
    match object {
        Some(object) if response.status == 200 => Ok(object),
        Some(object) if object.get("errcode").and_then(Json::as_str).is_some() => {
            Err(refusal(response.status, &object))
        }
        _ if response.status == 200 => Err(ServiceError::BadAnswer {
            server: server.clone(),
            what: "it is not a JSON object",
        }),
        // Of something in front of the server, most likely.
        _ => Err(ServiceError::PeerFailed {
            server: server.clone(),
            error: PeerError::Status {
                status: response.status,
            },
        }),
    }
}

/// Passes on the code, the sentence and the time to wait, nothing else.
fn refusal(status: u16, answer: &Object) -> ServiceError {
    let mut body = Object::new();
    for key in ["errcode", "error", "retry_after_ms"] {
        if let Some(value) = answer.get(key) {
            body.insert(key, value.clone());
        }
    }
    ServiceError::Proxied {
        status,
        body: body.to_canonical().into(),
    }
}

/// `{"<name>":[…],…}` from events' stored bytes, without reading them again. Names in ascending order.
pub(crate) fn lists_of_events(lists: &[(&str, &[Shown])]) -> Bytes {
    let mut json = Vec::new();
    for (index, (name, events)) in lists.iter().enumerate() {
        json.extend_from_slice(if index == 0 { b"{\"" } else { b",\"" });
        json.extend_from_slice(name.as_bytes());
        json.extend_from_slice(b"\":[");
        for (index, event) in events.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            json.extend_from_slice(event.bytes());
        }
        json.push(b']');
    }
    json.push(b'}');
    json.into()
}

/// An event as another server may see it.
pub(crate) enum Shown {
    /// As it is stored.
    Full(Arc<[u8]>),
    /// Its redacted copy, canonical.
    Redacted(Vec<u8>),
}

impl Shown {
    /// All of an event.
    pub(crate) fn full(pdu: &Pdu) -> Self {
        Self::Full(Arc::clone(pdu.bytes()))
    }

    /// The redacted copy of an event.
    pub(crate) fn redacted(pdu: &Pdu) -> Self {
        Self::Redacted(pdu.redacted().to_canonical())
    }

    /// The JSON.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Full(bytes) => bytes,
            Self::Redacted(bytes) => bytes,
        }
    }
}

fn escape(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, ESCAPED)
}

/// Everything but RFC 3986's unreserved characters. In particular `/`, which is legal in user IDs.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const UNSTABLE: &str = "/_matrix/federation/unstable/org.matrix.i-d.ralston-mimi-linearized-matrix.02";
