-- Changes the tables of format 4 into those of format 5.

-- Of a message: its ID by the formula of revision -07, by which others may call it, too, and what it replaces and answers.
ALTER TABLE mimi_timeline ADD COLUMN former BLOB;
ALTER TABLE mimi_timeline ADD COLUMN replaces BLOB;
ALTER TABLE mimi_timeline ADD COLUMN in_reply_to BLOB;
CREATE INDEX mimi_timeline_by_former ON mimi_timeline (room, former);
CREATE INDEX mimi_timeline_by_replaces ON mimi_timeline (room, replaces);

-- When it is to be looked at since it may have expired, in ms; no longer the whole room.
ALTER TABLE mimi_timeline ADD COLUMN due INTEGER;
CREATE INDEX mimi_timeline_by_due ON mimi_timeline (due) WHERE due IS NOT NULL;
DROP TABLE mimi_expiry;

-- The group and the leaf that it came from.
ALTER TABLE mimi_timeline ADD COLUMN group_id BLOB;
ALTER TABLE mimi_timeline ADD COLUMN leaf INTEGER;
