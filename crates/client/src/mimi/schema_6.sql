-- Changes the tables of format 5 into those of format 6.

-- Whether who sent it may delete what others said, or their reactions, by the role that they had then.
ALTER TABLE mimi_timeline ADD COLUMN moderates INTEGER NOT NULL DEFAULT 0;
CREATE INDEX mimi_timeline_moderates ON mimi_timeline (room) WHERE moderates = 1;
