-- Schema version 1. Explained in docs/data-model.md.

CREATE TABLE rooms (
    room_no INTEGER PRIMARY KEY,
    room_id TEXT NOT NULL UNIQUE,
    version TEXT NOT NULL,
    hub TEXT,                           -- NULL: this server is the hub
    created_at INTEGER NOT NULL,
    head_position INTEGER NOT NULL,     -- the newest position taken, be it by a gap
    first_position INTEGER NOT NULL     -- the oldest position in the log
) STRICT;

-- The log's entries and, without a position, events known besides it.
CREATE TABLE events (
    event_no INTEGER PRIMARY KEY,
    room_no INTEGER NOT NULL REFERENCES rooms,
    position INTEGER,                   -- NULL: an outlier
    event_id TEXT NOT NULL,
    lpdu_id TEXT,
    body BLOB,                          -- the PDU; NULL only in holes
    hole TEXT,                          -- why the log has a hole here; NULL: it has none
    is_state INTEGER NOT NULL,
    soft_failed INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    CHECK (body IS NOT NULL OR hole IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX events_by_id ON events (event_id, room_no);
CREATE UNIQUE INDEX events_by_position ON events (room_no, position) WHERE position IS NOT NULL;
CREATE UNIQUE INDEX events_by_lpdu ON events (room_no, lpdu_id) WHERE lpdu_id IS NOT NULL;
CREATE INDEX events_of_state ON events (room_no, position)
    WHERE is_state = 1 AND soft_failed = 0 AND hole IS NULL AND position IS NOT NULL;

CREATE TABLE checkpoints (
    room_no INTEGER NOT NULL REFERENCES rooms,
    position INTEGER NOT NULL,
    head TEXT,
    state TEXT NOT NULL,                -- JSON array of events.event_no, by type and state key
    UNIQUE (room_no, position)
) STRICT;

-- One row per change, so that the past can be told; the last one is the present.
CREATE TABLE memberships (
    room_no INTEGER NOT NULL REFERENCES rooms,
    user_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    membership TEXT NOT NULL,
    UNIQUE (room_no, user_id, position)
) STRICT;

CREATE INDEX memberships_by_user ON memberships (user_id, room_no, position, membership);

CREATE TABLE destinations (
    server TEXT NOT NULL UNIQUE,
    last_seq INTEGER NOT NULL DEFAULT 0,        -- last number given out in its outbox
    waiting INTEGER NOT NULL DEFAULT 0,         -- rows in its outbox
    failures INTEGER NOT NULL DEFAULT 0,
    next_attempt INTEGER NOT NULL DEFAULT 0,
    last_error TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE followers (
    room_no INTEGER NOT NULL REFERENCES rooms,
    server TEXT NOT NULL REFERENCES destinations (server),
    from_position INTEGER NOT NULL,
    until_position INTEGER,             -- inclusive; NULL: still following
    delivered INTEGER NOT NULL,
    dirty_since INTEGER,                -- NULL: nothing is owed
    UNIQUE (room_no, server, from_position)
) STRICT;

CREATE INDEX followers_dirty ON followers (server, dirty_since) WHERE dirty_since IS NOT NULL;
CREATE INDEX followers_clean ON followers (room_no) WHERE dirty_since IS NULL AND until_position IS NULL;

CREATE TABLE outbox (
    destination TEXT NOT NULL REFERENCES destinations (server),
    seq INTEGER NOT NULL,
    body BLOB NOT NULL,
    room_id TEXT,                       -- the following three: an LPDU; all NULL: an EDU
    lpdu_id TEXT,
    sender TEXT,
    enqueued_at INTEGER NOT NULL,
    UNIQUE (destination, seq),
    CHECK ((room_id IS NULL) = (lpdu_id IS NULL) AND (room_id IS NULL) = (sender IS NULL))
) STRICT;

-- The request in flight to a destination, exactly.
CREATE TABLE frozen (
    destination TEXT NOT NULL UNIQUE REFERENCES destinations (server),
    txn_id TEXT NOT NULL,
    body_sha256 BLOB NOT NULL,
    frozen_at INTEGER NOT NULL
) STRICT;

CREATE TABLE frozen_ranges (
    destination TEXT NOT NULL REFERENCES frozen (destination) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    room_no INTEGER NOT NULL REFERENCES rooms,
    interval_from INTEGER NOT NULL,
    after_position INTEGER NOT NULL,
    through_position INTEGER NOT NULL,
    UNIQUE (destination, ordinal)
) STRICT;

CREATE TABLE frozen_direct (
    destination TEXT NOT NULL REFERENCES frozen (destination) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    UNIQUE (destination, ordinal)
) STRICT;

CREATE TABLE replies (
    scope TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    txn_id TEXT NOT NULL,
    status INTEGER NOT NULL,
    body BLOB NOT NULL,
    request_sha256 BLOB NOT NULL,
    kept_at INTEGER NOT NULL,
    UNIQUE (scope, endpoint, txn_id)
) STRICT;

CREATE INDEX replies_by_age ON replies (kept_at);

-- The room need not be in `rooms` yet.
CREATE TABLE parked (
    parked_no INTEGER PRIMARY KEY,      -- the order of arrival
    room_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    origin TEXT NOT NULL,
    body BLOB NOT NULL,
    reason TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    next_try INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    UNIQUE (room_id, event_id)
) STRICT;

CREATE INDEX parked_due ON parked (next_try, parked_no);

CREATE TABLE server_keys (
    server TEXT NOT NULL,
    key_set BLOB NOT NULL,              -- equal for responses with the same keys
    response BLOB NOT NULL,
    fetched_at INTEGER NOT NULL,
    effective_valid_until INTEGER NOT NULL,
    UNIQUE (server, key_set)
) STRICT;

CREATE TABLE accounts (
    user_id TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE devices (
    user_id TEXT NOT NULL REFERENCES accounts (user_id),
    device_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (user_id, device_id)
) STRICT;

CREATE TABLE tokens (
    token_hash BLOB NOT NULL UNIQUE,    -- SHA-256; the token itself is nowhere
    user_id TEXT NOT NULL REFERENCES accounts (user_id),
    device_id TEXT
) STRICT;

CREATE TABLE inbox_heads (
    user_id TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL                -- last number given out in the inbox
) STRICT;

CREATE TABLE inbox (
    user_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    device_id TEXT,                     -- NULL: for every device
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    UNIQUE (user_id, seq)
) STRICT;

CREATE TABLE pending (
    user_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    membership TEXT NOT NULL,
    hub TEXT NOT NULL,
    version TEXT NOT NULL,
    stripped_state BLOB NOT NULL,
    event BLOB,
    since INTEGER NOT NULL,
    UNIQUE (user_id, room_id)
) STRICT;

CREATE INDEX pending_by_room ON pending (room_id, user_id);
