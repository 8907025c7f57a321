//! Entry points for fuzzing: each takes any bytes and must not panic.

use axum::http::Uri;
use nabe_types::{EventId, RoomId, RoomVersionId, UserId};

use crate::params::Query;

/// A request target: its query is read and everything in it tried as each identifier an endpoint takes.
pub fn path(data: &[u8]) {
    let Ok(target) = std::str::from_utf8(data) else { return };
    let Ok(uri) = target.parse::<Uri>() else { return };
    let Ok(query) = Query::parse(uri.query().unwrap_or_default()) else {
        return;
    };
    for name in ["event_id", "v", "limit", "ver", "minimum_valid_until_ts"] {
        let all: Vec<_> = query.all(name).collect();
        let one = query.one(name);
        assert!(one.is_ok() == (all.len() < 2));
        let _ = query.integer(name);
        for value in all {
            let _ = (
                EventId::parse(value),
                RoomId::parse(value),
                RoomVersionId::parse(value),
                UserId::parse(value),
            );
        }
    }
}
