-- Schema version 4: rooms of MIMI. Explained in docs/data-model.md.

CREATE TABLE mimi_rooms (
    room_no INTEGER PRIMARY KEY,
    uri TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    head_position INTEGER NOT NULL,
    newest INTEGER NOT NULL             -- when the newest entry was accepted
) STRICT;

-- Apart from what every message changes, because it can be large.
CREATE TABLE mimi_groups (
    room_no INTEGER PRIMARY KEY REFERENCES mimi_rooms,
    newest_position INTEGER NOT NULL,   -- of the newest change
    checkpoint BLOB                     -- NULL: the changes go back to the group's first
) STRICT;

-- What counts though it is not committed.
CREATE TABLE mimi_left_over (
    room_no INTEGER PRIMARY KEY REFERENCES mimi_rooms,
    body BLOB NOT NULL
) STRICT;

-- What was fanned out, byte for byte.
CREATE TABLE mimi_entries (
    entry_no INTEGER PRIMARY KEY,
    room_no INTEGER NOT NULL REFERENCES mimi_rooms,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    accepted INTEGER NOT NULL,
    origin TEXT NOT NULL,
    audience TEXT,                      -- JSON array of providers; NULL: all but the origin
    body BLOB NOT NULL,
    UNIQUE (room_no, position)
) STRICT;

CREATE INDEX mimi_commits ON mimi_entries (room_no, position) WHERE kind = 'commit';
CREATE INDEX mimi_proposals ON mimi_entries (room_no, position) WHERE kind = 'proposal';

-- What entries since the checkpoint did to the group.
CREATE TABLE mimi_changes (
    room_no INTEGER NOT NULL REFERENCES mimi_rooms,
    position INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (room_no, position)
) STRICT;

CREATE TABLE mimi_followers (
    room_no INTEGER NOT NULL REFERENCES mimi_rooms,
    provider TEXT NOT NULL,
    from_position INTEGER NOT NULL,
    until_position INTEGER,             -- inclusive; NULL: still following
    delivered INTEGER NOT NULL,
    dirty_since INTEGER,                -- NULL: nothing is owed
    UNIQUE (room_no, provider, from_position)
) STRICT;

CREATE INDEX mimi_followers_dirty ON mimi_followers (dirty_since) WHERE dirty_since IS NOT NULL;
CREATE INDEX mimi_followers_clean ON mimi_followers (room_no) WHERE dirty_since IS NULL AND until_position IS NULL;

-- The request in flight to a follower of a room, exactly.
CREATE TABLE notifications (
    room_no INTEGER NOT NULL REFERENCES mimi_rooms,
    provider TEXT NOT NULL,
    interval_from INTEGER NOT NULL,
    after_position INTEGER NOT NULL,
    through_position INTEGER NOT NULL,
    body_sha256 BLOB NOT NULL,
    frozen_at INTEGER NOT NULL,
    UNIQUE (room_no, provider)
) STRICT;

-- Of followers whose last request did not get through.
CREATE TABLE notify_failures (
    room_no INTEGER NOT NULL REFERENCES mimi_rooms,
    provider TEXT NOT NULL,
    failures INTEGER NOT NULL,
    next_attempt INTEGER NOT NULL,
    last_error TEXT NOT NULL,
    UNIQUE (room_no, provider)
) STRICT;

-- Whose key packages are that were fetched through this hub, until their Welcome is forwarded.
CREATE TABLE fetched_key_packages (
    reference BLOB NOT NULL UNIQUE,     -- KeyPackageRef
    provider TEXT NOT NULL,
    user_uri TEXT NOT NULL,
    client_uri TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX fetched_key_packages_to_drop ON fetched_key_packages (expires_at);
