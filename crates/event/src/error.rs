//! Why an event is dropped: as if it had never been received (LM #int-receiving-events, steps 1 and 2).

use nabe_signing::json::JsonError;
use nabe_types::limits::MAX_EVENT_BYTES;
use nabe_types::{InvalidId, KeyId, ServerName};

/// Why an event was dropped. A content hash that does not match is *not* a reason: such an event goes on as its redacted copy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Dropped {
    /// The bytes are not one JSON value we accept.
    #[error("not acceptable JSON: {0}")]
    NotJson(JsonError),
    /// The JSON value is not an object.
    #[error("an event must be a JSON object")]
    NotAnObject,
    /// Over the limit of 65536 bytes of canonical JSON, signatures included.
    #[error("event is {len} bytes of canonical JSON, limit 65536")]
    TooLarge {
        /// The size in bytes.
        len: usize,
    },
    /// Over that limit because of the group's public state, which every `m.mls.commit` carries (LM #int-ev-mls-commit).
    #[error("{}", commit_too_large(*len, MAX_EVENT_BYTES))]
    CommitTooLarge {
        /// The size in bytes.
        len: usize,
    },
    /// A required field is absent.
    #[error("`{field}` is missing")]
    MissingField {
        /// The field, dotted when nested.
        field: &'static str,
    },
    /// A field has the wrong JSON type, or an integer is outside ±(2^53−1).
    #[error("`{field}` has the wrong type")]
    WrongType {
        /// The field, dotted when nested.
        field: &'static str,
    },
    /// A field that holds an identifier does not parse as one.
    #[error("`{field}` is not valid: {reason}")]
    InvalidId {
        /// The field.
        field: &'static str,
        /// The rule it breaks.
        reason: InvalidId,
    },
    /// `type` or `state_key` is longer than 255 characters.
    #[error("`{field}` is {chars} characters, limit 255")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length in Unicode scalar values.
        chars: usize,
    },
    /// Neither an LPDU nor a PDU: a field the other form requires, or forbids, is present or absent.
    #[error("neither an LPDU nor a PDU: `{field}` does not fit")]
    MixedForm {
        /// The field that does not fit.
        field: &'static str,
    },
    /// `hub_server` is present but `hashes.lpdu` is not, or the other way around.
    #[error("`hub_server` and `hashes.lpdu` must come together")]
    LpduHashMismatch,
    /// `prev_events` has the wrong number of entries for this kind of event.
    #[error("{count} entries in `prev_events` do not fit this event")]
    PrevEventsCount {
        /// How many there are.
        count: usize,
    },
    /// An LPDU was handed to the PDU verifier or the other way around.
    #[error("an LPDU was found where a PDU belongs, or the other way around")]
    WrongForm,
    /// A required signer has no usable entry in `signatures`.
    #[error("no signature by the {role} server {server}")]
    NotSigned {
        /// Why the signature is required.
        role: SignerRole,
        /// Whose signature is required.
        server: ServerName,
    },
    /// A signature by a known key does not verify or cannot be decoded.
    #[error("bad signature by the {role} server {server}")]
    BadSignature {
        /// Why the signature is required.
        role: SignerRole,
        /// Whose signature it claims to be.
        server: ServerName,
    },
    /// Every key named had been taken out of use before the event's `origin_server_ts`.
    #[error("{server} no longer used the signing key at the event's time")]
    KeyExpired {
        /// Whose keys.
        server: ServerName,
    },
    /// None of the named keys is known to us, or only from a response that had run out at the event's time. The event may well be
    /// genuine: fetch the keys and try again.
    #[error("no key of {server} is available")]
    KeysUnavailable {
        /// Whose keys are needed.
        server: ServerName,
        /// Which keys to fetch.
        keys: Vec<KeyId>,
    },
}

impl Dropped {
    /// Whether another attempt with more keys could succeed. Such an event is to be parked, not forgotten.
    pub const fn is_for_want_of_keys(&self) -> bool {
        matches!(self, Self::KeysUnavailable { .. })
    }
}

/// Why a server's signature on an event counts. LM #int-receiving-events, step 2.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum SignerRole {
    /// The server of the event's `sender`.
    Sender,
    /// The server named in `hub_server`.
    Hub,
    /// The invited user's server, which countersigns an invite (LM #int-api-invite). Never required on receipt.
    Invited,
}

impl std::fmt::Display for SignerRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sender => "sender's",
            Self::Hub => "hub",
            Self::Invited => "invited user's",
        })
    }
}

impl Dropped {
    /// An event of this type and size is over the limit.
    pub(crate) fn too_large(event_type: Option<&str>, len: usize) -> Self {
        if event_type == Some(COMMIT) {
            Self::CommitTooLarge { len }
        } else {
            Self::TooLarge { len }
        }
    }
}

/// Says what is too large about a commit, and what that means: nobody sees a group's tree in an event.
pub(crate) fn commit_too_large(len: usize, limit: usize) -> String {
    format!(
        "the commit is an event of {len} bytes, limit {limit}: it carries the public state of the room's MLS group, which is too \
         large; over Linearized Matrix a group has room for 140 to 180 devices"
    )
}

const COMMIT: &str = "m.mls.commit";
