-- Changes the tables of format 6 into those of format 7.

-- The SelfRemove that was made last in a room: an epoch has one.
CREATE TABLE mimi_self_removes (
    room TEXT PRIMARY KEY,
    message BLOB NOT NULL         -- an MLSMessage
) STRICT, WITHOUT ROWID;

-- When something was first heard of a room while in it, in ms: what is said there comes later (MC #general-handling).
ALTER TABLE mimi_rooms ADD COLUMN since INTEGER;

CREATE INDEX mimi_timeline_by_in_reply_to ON mimi_timeline (room, in_reply_to);
