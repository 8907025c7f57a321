-- Changes the tables of format 1 into those of format 2.

-- What came before the commit that it needs: entries of epochs that this client has not reached.
CREATE TABLE mimi_held (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    room TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    hash BLOB NOT NULL,           -- SHA-256 of the entry
    message BLOB NOT NULL,        -- a FanoutMessage
    since INTEGER NOT NULL,       -- when it came, in ms
    UNIQUE (room, hash)
) STRICT;
CREATE INDEX mimi_held_by_epoch ON mimi_held (room, epoch);

ALTER TABLE mimi_rooms ADD COLUMN epoch INTEGER;     -- that of the group; NULL: not known here
ALTER TABLE mimi_rooms ADD COLUMN rejoined INTEGER;  -- when this client last began to join anew by itself, in ms

-- A message that came too late is encrypted again in a later epoch than this, and not for ever.
ALTER TABLE mimi_outbox ADD COLUMN after_epoch INTEGER;
ALTER TABLE mimi_outbox ADD COLUMN refusals INTEGER NOT NULL DEFAULT 0;

-- A ciphertext is known again in its own room alone; what was encrypted is dropped once the message is done with, in ms.
ALTER TABLE mimi_own ADD COLUMN room TEXT;
ALTER TABLE mimi_own ADD COLUMN done INTEGER;
UPDATE mimi_own SET room = (SELECT room FROM mimi_outbox WHERE mimi_outbox.n = mimi_own.n);
-- What is done with, not even the client itself needs any more.
UPDATE mimi_own SET data = x'', done = 0 WHERE room IS NULL;
CREATE INDEX mimi_own_by_message ON mimi_own (n);
CREATE INDEX mimi_own_by_done ON mimi_own (done);

ALTER TABLE mimi_timeline ADD COLUMN message_id BLOB; -- of MIMI content
CREATE INDEX mimi_timeline_by_message_id ON mimi_timeline (room, message_id);
