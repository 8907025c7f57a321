-- Changes the tables of format 2 into those of format 3.

ALTER TABLE mimi_timeline ADD COLUMN read_at INTEGER;     -- when the user read it, in ms; of one's own: when it was sent
-- Of what has expired: its ID by the formula of revision -07 of the content draft. Its content is what is left of it.
ALTER TABLE mimi_timeline ADD COLUMN expired BLOB;
UPDATE mimi_timeline SET read_at = accepted WHERE sent = 1;

-- The status of a message of somebody else's that is to be told, and since when; and what was told last.
ALTER TABLE mimi_timeline ADD COLUMN unreported INTEGER;
ALTER TABLE mimi_timeline ADD COLUMN unreported_since INTEGER;
ALTER TABLE mimi_timeline ADD COLUMN reported INTEGER;
CREATE INDEX mimi_timeline_unreported ON mimi_timeline (room, unreported_since) WHERE unreported IS NOT NULL;

-- When something in a room is to be looked at since it may have expired, in ms.
CREATE TABLE mimi_expiry (
    room TEXT PRIMARY KEY,
    due INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO mimi_expiry (room, due) SELECT DISTINCT room, 0 FROM mimi_timeline;
