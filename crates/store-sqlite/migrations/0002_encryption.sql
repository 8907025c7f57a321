-- Schema version 2: what end-to-end encryption needs. Explained in docs/data-model.md.

ALTER TABLE devices ADD COLUMN object BLOB;     -- NULL: nothing published

-- Devices of other servers' users, as those servers told us.
CREATE TABLE remote_devices (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    server TEXT NOT NULL,
    object BLOB NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (user_id, device_id)
) STRICT;

CREATE INDEX remote_devices_by_age ON remote_devices (updated_at);

-- What the devices of a server's users take in all.
CREATE TABLE remote_device_bytes (
    server TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL
) STRICT;

CREATE TRIGGER remote_device_added AFTER INSERT ON remote_devices BEGIN
    INSERT INTO remote_device_bytes (server, bytes) VALUES (new.server, length(new.object))
    ON CONFLICT (server) DO UPDATE SET bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER remote_device_changed AFTER UPDATE OF object ON remote_devices BEGIN
    UPDATE remote_device_bytes SET bytes = bytes + length(new.object) - length(old.object) WHERE server = new.server;
END;

CREATE TRIGGER remote_device_removed AFTER DELETE ON remote_devices BEGIN
    UPDATE remote_device_bytes SET bytes = bytes - length(old.object) WHERE server = old.server;
    DELETE FROM remote_device_bytes WHERE server = old.server AND bytes = 0;
END;

CREATE TABLE key_packages (
    package_no INTEGER PRIMARY KEY,     -- the order in which they came
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    suite INTEGER NOT NULL,
    hash_ref TEXT NOT NULL,
    body BLOB NOT NULL,
    not_after INTEGER NOT NULL,
    last_resort INTEGER NOT NULL,
    uploaded_at INTEGER NOT NULL,
    UNIQUE (user_id, device_id, hash_ref),
    FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) STRICT;

CREATE INDEX key_packages_to_claim ON key_packages (user_id, device_id, suite, last_resort, not_after);
CREATE INDEX key_packages_by_age ON key_packages (not_after);

-- Key packages that were handed out, until they expire: taken in again they would be handed out twice.
CREATE TABLE spent_key_packages (
    spent_no INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    hash_ref TEXT NOT NULL,
    not_after INTEGER NOT NULL,
    UNIQUE (user_id, device_id, hash_ref),
    FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) STRICT;

CREATE INDEX spent_key_packages_in_order ON spent_key_packages (user_id, device_id, spent_no);
CREATE INDEX spent_key_packages_by_age ON spent_key_packages (not_after);

ALTER TABLE inbox ADD COLUMN subject TEXT;      -- the newest notice about a subject replaces those before
CREATE UNIQUE INDEX inbox_by_subject ON inbox (user_id, kind, subject) WHERE subject IS NOT NULL;
UPDATE inbox SET kind = 'device_list_changed' WHERE kind = 'device_list';

-- The public side of a room's MLS group: the whole as some commit left it, and what later commits changed.
CREATE TABLE groups (
    room_no INTEGER NOT NULL UNIQUE REFERENCES rooms,
    newest_position INTEGER NOT NULL,   -- of the newest commit
    checkpoint BLOB                     -- NULL: the changes go back to the group's first
) STRICT;

CREATE TABLE group_changes (
    room_no INTEGER NOT NULL REFERENCES rooms,
    position INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (room_no, position)
) STRICT;
