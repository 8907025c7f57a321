//! Body of the fuzz target: it takes any bytes and panics when an invariant breaks.

use std::fmt::Display;

use crate::limits::{MAX_HOST_CHARS, MAX_ID_BYTES, MAX_ROOM_VERSION_CHARS};
use crate::{
    DeviceId, EventId, KeyId, RoomId, RoomVersionId, ServerName, ServerPattern, ServerPolicy, TransactionId, UserId,
};

/// Any text as every identifier. What is one keeps its text, stays within its limit and is put together from its parts; a server
/// name is never an IP address; a policy that names a server means it.
pub fn identifiers(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(server) = ServerName::parse(text) {
        check_server(&server, text);
    }
    if let Ok(user) = UserId::parse(text) {
        kept(&user, text, MAX_ID_BYTES);
        assert_eq!(format!("@{}:{}", user.localpart(), user.server_name()), text);
        check_server(user.server_name(), user.server_name().as_str());
    }
    if let Ok(room) = RoomId::parse(text) {
        kept(&room, text, MAX_ID_BYTES);
        assert_eq!(format!("!{}:{}", room.localpart(), room.server_name()), text);
        check_server(room.server_name(), room.server_name().as_str());
    }
    if let Ok(key) = KeyId::parse(text) {
        kept(&key, text, MAX_ID_BYTES);
        assert_eq!(format!("{}:{}", key.algorithm(), key.version()), text);
        if key.is_ed25519() {
            assert_eq!(KeyId::ed25519(key.version()), Ok(key));
        }
    }
    if let Ok(event) = EventId::parse(text) {
        kept(&event, text, MAX_EVENT_ID_BYTES);
        assert!(text.len() == MAX_EVENT_ID_BYTES, "every event ID has one length");
    }
    if let Ok(device) = DeviceId::parse(text) {
        kept(&device, text, MAX_ID_BYTES);
    }
    if let Ok(version) = RoomVersionId::parse(text) {
        kept(&version, text, MAX_ROOM_VERSION_CHARS);
    }
    if let Ok(transaction) = TransactionId::parse(text) {
        kept(&transaction, text, MAX_ID_BYTES);
    }
    if let Ok(pattern) = ServerPattern::parse(text) {
        assert_eq!(pattern.to_string(), text, "a pattern is printed as it was read");
    }
    if let Ok(hash) = data.try_into() {
        let id = EventId::from_hash(hash);
        assert_eq!(EventId::parse(id.as_str()).as_ref(), Ok(&id), "every hash makes an ID");
    }
}

fn check_server(server: &ServerName, text: &str) {
    kept(server, text, MAX_HOST_CHARS + ":65535".len());
    assert_eq!(ServerName::parse(text).as_ref(), Ok(server), "reading is repeatable");
    let host = server.host();
    assert!(host.parse::<std::net::IpAddr>().is_err(), "no name is an address");
    assert_ne!(server.port(), Some(0));
    let exact = ServerPattern::parse(text).expect("a server name is a pattern");
    assert!(exact.matches(server), "a pattern matches the name it is");
    let below = ServerPattern::parse(&format!("*.{host}")).expect("so is what is below it");
    assert!(!below.matches(server), "but not the name itself");
    let deny_wins = ServerPolicy {
        allow: vec![exact.clone()],
        deny: vec![exact],
    };
    assert!(!deny_wins.permits(server), "what is denied is not permitted");
}

/// The text is kept, byte for byte, and within the limit.
fn kept(id: &impl Display, text: &str, limit: usize) {
    assert_eq!(id.to_string(), text, "an identifier is printed as it was read");
    assert!(text.len() <= limit, "within {limit} bytes");
}

/// `$` and 43 characters of base64.
const MAX_EVENT_ID_BYTES: usize = 44;
