-- Schema version 9: what the policy of MIMI's rooms asks of their hub beside the room itself. Explained in docs/data-model.md.

-- Join links as they count. A link of before this version has no row.
CREATE TABLE mimi_join_links (
    room_no INTEGER NOT NULL REFERENCES mimi_rooms,
    link BLOB NOT NULL,
    expires_at INTEGER,                 -- NULL: never
    multiuser INTEGER NOT NULL,
    used_by TEXT,                       -- NULL: nobody has joined by it
    UNIQUE (room_no, link)
) STRICT;

-- Rooms with fixed membership that somebody is in or may come back to.
CREATE TABLE mimi_fixed_rooms (
    room_no INTEGER PRIMARY KEY REFERENCES mimi_rooms,
    members_sha256 BLOB NOT NULL UNIQUE
) STRICT;

-- Rooms that depend on a parent.
CREATE TABLE mimi_child_rooms (
    room_no INTEGER PRIMARY KEY REFERENCES mimi_rooms,
    parent_uri TEXT NOT NULL,
    is_due INTEGER NOT NULL             -- 1: somebody may have left the parent since it was last looked at
) STRICT;

CREATE INDEX mimi_child_rooms_by_parent ON mimi_child_rooms (parent_uri);
CREATE INDEX mimi_child_rooms_due ON mimi_child_rooms (room_no) WHERE is_due = 1;
