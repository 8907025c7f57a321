//! Entry points for fuzzing: each takes any bytes and must not panic.

use axum::http::Uri;
use futures_util::FutureExt as _;
use nabe_types::{EventId, RoomId, RoomVersionId, UserId};

use crate::listener::proxy_protocol;
use crate::mimi::Target;
use crate::params::Query;

/// A request target: its query is read and everything in it tried as each identifier an endpoint takes.
pub fn path(data: &[u8]) {
    let Ok(target) = std::str::from_utf8(data) else { return };
    let Ok(uri) = target.parse::<Uri>() else { return };
    if let Some(target) = Target::of(uri.path()) {
        let _ = (target.user(), target.domain(), target.url());
        if let Ok(room) = target.room() {
            assert!(room.to_string().starts_with("mimi://"));
        }
    }
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

/// What a proxy sends first: no more of it is read than a header has.
pub fn proxy_header(data: &[u8]) {
    let mut rest = data;
    let read = proxy_protocol::read(&mut rest).now_or_never();
    assert!(read.is_some(), "bytes that are there are not waited for");
    assert!(data.len() - rest.len() <= 16 + 2048);
}
