-- Schema version 5: what is kept of MIMI for the users of this provider. Explained in docs/data-model.md.

-- Rooms whose messages local users read, wherever the hub is.
CREATE TABLE local_rooms (
    room_no INTEGER PRIMARY KEY,
    uri TEXT NOT NULL UNIQUE,
    hub TEXT NOT NULL,
    head_position INTEGER NOT NULL
) STRICT;

CREATE TABLE local_messages (
    message_no INTEGER PRIMARY KEY,
    room_no INTEGER NOT NULL REFERENCES local_rooms,
    position INTEGER NOT NULL,
    accepted INTEGER NOT NULL,          -- by the hub
    received INTEGER NOT NULL,
    body BLOB NOT NULL,                 -- a FanoutMessage
    UNIQUE (room_no, position)
) STRICT;

-- Who may read a room, from which position on.
CREATE TABLE local_readers (
    room_no INTEGER NOT NULL REFERENCES local_rooms,
    user_uri TEXT NOT NULL,
    from_position INTEGER NOT NULL,
    UNIQUE (user_uri, room_no)
) STRICT;

-- What came from hubs, so that the same is not taken twice.
CREATE TABLE delivered_bodies (
    room_no INTEGER NOT NULL REFERENCES local_rooms,
    hub TEXT NOT NULL,
    body_sha256 BLOB NOT NULL,
    received INTEGER NOT NULL,
    UNIQUE (room_no, hub, body_sha256)
) STRICT;

CREATE INDEX delivered_bodies_by_age ON delivered_bodies (received);

CREATE TABLE shown_join_codes (
    room_uri TEXT NOT NULL,
    user_uri TEXT NOT NULL,
    signature_key BLOB NOT NULL,
    code BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    UNIQUE (room_uri, user_uri, signature_key)
) STRICT;

CREATE INDEX shown_join_codes_by_age ON shown_join_codes (expires_at);

-- Clients of local users that have offered key packages.
CREATE TABLE mimi_clients (
    client_no INTEGER PRIMARY KEY,
    client_uri TEXT NOT NULL UNIQUE,
    user_uri TEXT NOT NULL
) STRICT;

CREATE INDEX mimi_clients_by_user ON mimi_clients (user_uri, client_uri);

CREATE TABLE mimi_key_packages (
    package_no INTEGER PRIMARY KEY,     -- the order in which they came
    client_no INTEGER NOT NULL REFERENCES mimi_clients ON DELETE CASCADE,
    reference BLOB NOT NULL UNIQUE,     -- KeyPackageRef
    suite INTEGER NOT NULL,
    capabilities BLOB NOT NULL,
    body BLOB NOT NULL,
    not_after INTEGER NOT NULL,
    last_resort INTEGER NOT NULL
) STRICT;

CREATE INDEX mimi_key_packages_to_claim
    ON mimi_key_packages (client_no, suite, capabilities, last_resort, not_after, package_no);
CREATE INDEX mimi_key_packages_by_age ON mimi_key_packages (not_after);

-- Key packages that were handed out or replaced, until they expire: neither are they handed out again, and a Welcome finds its client.
CREATE TABLE mimi_spent_key_packages (
    spent_no INTEGER PRIMARY KEY,
    client_no INTEGER NOT NULL REFERENCES mimi_clients ON DELETE CASCADE,
    reference BLOB NOT NULL UNIQUE,
    not_after INTEGER NOT NULL
) STRICT;

CREATE INDEX mimi_spent_key_packages_in_order ON mimi_spent_key_packages (client_no, spent_no);
CREATE INDEX mimi_spent_key_packages_by_age ON mimi_spent_key_packages (not_after);

CREATE TABLE consents (
    consent_no INTEGER PRIMARY KEY,
    requester TEXT NOT NULL,
    target TEXT NOT NULL,
    room_uri TEXT NOT NULL,             -- '': any
    requested_at INTEGER,               -- NULL: not asked for, or answered
    decision TEXT,                      -- NULL: nothing is decided
    decided_at INTEGER,
    heard_from TEXT,                    -- NULL: a local user had a part in it
    UNIQUE (requester, target, room_uri)
) STRICT;

CREATE INDEX consents_by_target ON consents (target, consent_no);
CREATE INDEX consents_by_requester ON consents (requester, consent_no);
CREATE INDEX consents_heard ON consents (heard_from, consent_no) WHERE heard_from IS NOT NULL;

CREATE TABLE granted_key_packages (
    granted_no INTEGER PRIMARY KEY,
    reference BLOB NOT NULL UNIQUE,
    requester TEXT NOT NULL,
    target TEXT NOT NULL,
    room_uri TEXT NOT NULL,             -- '': any
    client_uri TEXT NOT NULL,
    body BLOB NOT NULL,
    not_after INTEGER NOT NULL,
    taken INTEGER NOT NULL              -- 1: used, and remembered until it expires
) STRICT;

CREATE INDEX granted_key_packages_by_scope ON granted_key_packages (requester, target, room_uri);
CREATE INDEX granted_key_packages_by_age ON granted_key_packages (not_after);

-- What users say of themselves, and who may find them by it.
CREATE TABLE profile_entries (
    entry_no INTEGER PRIMARY KEY,       -- the user's order
    user_uri TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,                 -- of a claim or property; '' of others
    value TEXT NOT NULL,
    folded TEXT NOT NULL,               -- in lower case
    searchable TEXT NOT NULL,
    shown INTEGER NOT NULL
) STRICT;

CREATE INDEX profile_entries_by_user ON profile_entries (user_uri, entry_no);
CREATE INDEX profile_entries_by_value ON profile_entries (value) WHERE searchable <> 'never';
CREATE INDEX profile_entries_in_part ON profile_entries (folded, user_uri) WHERE searchable = 'in_part';
