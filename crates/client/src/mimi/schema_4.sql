-- Changes the tables of format 3 into those of format 4.

-- From which epoch on a room's messages are framed as they are: for messages of past epochs.
CREATE TABLE mimi_framing (
    room TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    media_types BLOB,             -- a MediaTypeList; NULL: they are not framed
    PRIMARY KEY (room, epoch)
) STRICT, WITHOUT ROWID;
