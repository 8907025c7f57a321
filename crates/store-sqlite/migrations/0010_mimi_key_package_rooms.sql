-- Schema version 10: for which hub and room a key package of MIMI was handed out. Explained in docs/data-model.md.

-- For whom key packages of our users' clients were handed out, until they expire.
CREATE TABLE mimi_issued_key_packages (
    issued_no INTEGER PRIMARY KEY,
    client_no INTEGER NOT NULL REFERENCES mimi_clients ON DELETE CASCADE,
    reference BLOB NOT NULL,            -- KeyPackageRef
    hub TEXT NOT NULL,                  -- '': before this version, when it was not noted
    room_uri TEXT NOT NULL,             -- '': any of the hub's
    not_after INTEGER NOT NULL,
    UNIQUE (reference, hub, room_uri)
) STRICT;

CREATE INDEX mimi_issued_key_packages_in_order ON mimi_issued_key_packages (client_no, issued_no);
CREATE INDEX mimi_issued_key_packages_by_age ON mimi_issued_key_packages (not_after);

INSERT INTO mimi_issued_key_packages (client_no, reference, hub, room_uri, not_after)
    SELECT client_no, reference, '', '', not_after FROM mimi_spent_key_packages ORDER BY spent_no;
INSERT INTO mimi_issued_key_packages (client_no, reference, hub, room_uri, not_after)
    SELECT client_no, reference, '', '', not_after FROM mimi_key_packages WHERE last_resort = 1;

-- Key packages that were fetched through this hub, each for a room.
CREATE TABLE routed_key_packages (
    reference BLOB NOT NULL,            -- KeyPackageRef
    room_uri TEXT NOT NULL,             -- '': any room of ours
    provider TEXT NOT NULL,
    user_uri TEXT NOT NULL,
    client_uri TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    until_expiry INTEGER NOT NULL,      -- 1: a Welcome for it does not end it
    UNIQUE (reference, room_uri)
) STRICT;

INSERT INTO routed_key_packages (reference, room_uri, provider, user_uri, client_uri, expires_at, until_expiry)
    SELECT reference, '', provider, user_uri, client_uri, expires_at, until_expiry FROM fetched_key_packages;
DROP TABLE fetched_key_packages;
ALTER TABLE routed_key_packages RENAME TO fetched_key_packages;

CREATE INDEX fetched_key_packages_to_drop ON fetched_key_packages (expires_at);
