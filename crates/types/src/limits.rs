//! Sizes and counts the draft fixes, and the ones we fix where it is silent.

/// Largest event in bytes of canonical JSON, signatures included (LM #int-pdu).
pub const MAX_EVENT_BYTES: usize = 65_536;

/// Bytes an author leaves free in an event for what the room's hub adds (LM #int-lpdu): six event IDs for authorization and the one
/// before it, a hash, and signatures by three keys under a name of any length.
pub const COMPLETION_BYTES: usize = 1_024;

/// Bytes an author's event has around its `content` at most, besides the type and the names in it: field names, a timestamp, a hash and
/// signatures by two keys (LM #int-lpdu).
pub const ENVELOPE_BYTES: usize = 480;

/// Most events in one transaction (LM #int-api-send-txn).
pub const MAX_PDUS: usize = 50;

/// Most EDUs in one transaction (LM #int-api-send-txn).
pub const MAX_EDUS: usize = 100;

/// Longest identifier in bytes. User and room IDs are ASCII, so this equals the draft's 255 characters
/// (LM #int-user-id, #int-room-id); for the other identifiers it is our own bound.
pub const MAX_ID_BYTES: usize = 255;

/// Longest host part of a server name in characters (LM #int-server-names).
pub const MAX_HOST_CHARS: usize = 255;

/// Longest label of a host name in characters (RFC 1123, 2.1).
pub const MAX_HOST_LABEL_CHARS: usize = 63;

/// Longest room version in characters (LM #int-room-versions).
pub const MAX_ROOM_VERSION_CHARS: usize = 128;

/// Longest event `type` in Unicode scalar values (LM #int-pdu).
pub const MAX_TYPE_CHARS: usize = 255;

/// Longest `state_key` in Unicode scalar values (LM #int-pdu).
pub const MAX_STATE_KEY_CHARS: usize = 255;

/// Deepest nesting of arrays and objects we read; the draft names none.
pub const MAX_JSON_DEPTH: usize = 128;

/// Most values in one JSON text: a transaction full of events that are full of numbers has fewer.
pub const MAX_JSON_VALUES: usize = 2_000_000;

/// Largest request or response body in bytes we read; the draft names none. Room for a full transaction:
/// 50 events and 100 EDUs of the largest size, plus what surrounds them.
pub const MAX_BODY_BYTES: usize = (MAX_PDUS + MAX_EDUS) * MAX_EVENT_BYTES + 65_536;

/// Largest integer every implementation reads exactly, 2^53 − 1 (RFC 8785, 3.2.2.3).
pub const MAX_SAFE_INTEGER: i64 = 9_007_199_254_740_991;

/// Longest a fetched key is believed without fetching again, in milliseconds: 7 days
/// (LM #int-transport-keys-validity).
pub const MAX_KEY_VALIDITY_MILLIS: u64 = 7 * 24 * 60 * 60 * 1000;
