-- Schema version 6: the order of what local users read of MIMI, and where each of them stops. Explained in docs/data-model.md.

ALTER TABLE local_rooms ADD COLUMN epoch INTEGER;                        -- that the log has reached; NULL: not known
ALTER TABLE local_rooms ADD COLUMN last_mark INTEGER NOT NULL DEFAULT 0; -- in delivered_messages

-- Messages that are in a local log, so that none comes into it twice: at least the newest of each room.
CREATE TABLE delivered_messages (
    room_no INTEGER NOT NULL REFERENCES local_rooms,
    mark_no INTEGER NOT NULL,
    message_sha256 BLOB NOT NULL,       -- of an MLSMessage
    received INTEGER NOT NULL,
    UNIQUE (room_no, message_sha256)
) STRICT;

CREATE UNIQUE INDEX delivered_messages_in_order ON delivered_messages (room_no, mark_no);

-- What local users sent and a hub accepted in an epoch that the local log has not reached.
CREATE TABLE waiting_messages (
    waiting_no INTEGER PRIMARY KEY AUTOINCREMENT,
    room_no INTEGER NOT NULL REFERENCES local_rooms,
    epoch INTEGER NOT NULL,
    kind TEXT NOT NULL,
    accepted INTEGER NOT NULL,
    since INTEGER NOT NULL,
    body BLOB NOT NULL                  -- a FanoutMessage
) STRICT;

CREATE INDEX waiting_messages_by_room ON waiting_messages (room_no, waiting_no);
CREATE INDEX waiting_messages_by_age ON waiting_messages (since);

-- Requests of local users to other hubs whose verdict is not known.
CREATE TABLE forwarded (
    forward_no INTEGER PRIMARY KEY AUTOINCREMENT,
    room_uri TEXT NOT NULL,
    request BLOB NOT NULL,              -- a hash, by which it is known when it comes again
    hub TEXT NOT NULL,
    user_uri TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    kind TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    message_sha256 BLOB NOT NULL,       -- of the first MLSMessage
    joins_from INTEGER,                 -- the user reads the room from here on, if it is accepted; NULL: reads it already
    body BLOB NOT NULL,
    sent_at INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    next_attempt INTEGER NOT NULL,
    UNIQUE (room_uri, request)
) STRICT;

CREATE INDEX forwarded_by_user ON forwarded (user_uri);
CREATE INDEX forwarded_by_attempt ON forwarded (next_attempt);

-- Who may read a room, from which position on, and up to which: somebody who went and came back has several stretches.
CREATE TABLE local_stretches (
    room_no INTEGER NOT NULL REFERENCES local_rooms,
    user_uri TEXT NOT NULL,
    from_position INTEGER NOT NULL,
    until_position INTEGER,             -- NULL: still reads it
    UNIQUE (user_uri, room_no, from_position)
) STRICT;

INSERT INTO local_stretches (room_no, user_uri, from_position) SELECT room_no, user_uri, from_position FROM local_readers;
DROP TABLE local_readers;
ALTER TABLE local_stretches RENAME TO local_readers;
CREATE INDEX local_readers_by_room ON local_readers (room_no) WHERE until_position IS NULL;

-- Messages that one reader of a room does not get.
CREATE TABLE withheld_messages (
    message_no INTEGER NOT NULL REFERENCES local_messages ON DELETE CASCADE,
    user_uri TEXT NOT NULL,
    UNIQUE (message_no, user_uri)
) STRICT;
