-- The client's tables; OpenMLS's, beside them, begin with `openmls_`. JSON is canonical where it was or will be sent.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE rooms (
    room_id TEXT PRIMARY KEY,
    membership TEXT NOT NULL,
    algorithm TEXT,               -- NULL: not known yet; empty: the room is not encrypted
    group_status TEXT NOT NULL,   -- none, joining, active, removed, stuck
    reason TEXT,                  -- why it is stuck
    first_epoch INTEGER,          -- the first epoch whose messages this device can have keys for
    tend_due INTEGER              -- when to look after departed and new devices, in ms
) STRICT, WITHOUT ROWID;

-- LM #int-mls-add-remove: "a device remembers the event ID […] to associate it with the MLS epoch".
CREATE TABLE epochs (
    room_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    commit_event_id TEXT NOT NULL,
    PRIMARY KEY (room_id, epoch)
) STRICT, WITHOUT ROWID;

-- What should be done to a group, in this order within a room.
CREATE TABLE intents (
    intent_id INTEGER PRIMARY KEY AUTOINCREMENT,
    room_id TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due INTEGER NOT NULL
) STRICT;
CREATE INDEX intents_by_room ON intents (room_id, intent_id);

-- The commit that an intention was made into; OpenMLS holds its secrets as the group's pending commit.
CREATE TABLE commits (
    room_id TEXT PRIMARY KEY,
    intent_id INTEGER NOT NULL,
    epoch INTEGER NOT NULL,       -- that it ends
    external INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    content BLOB NOT NULL,        -- of m.mls.commit
    welcome BLOB,
    recipients TEXT NOT NULL,     -- of the Welcome: [[user, device], …]
    state TEXT NOT NULL,          -- ready, sent
    lpdu_id TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE to_device (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    idempotency_key TEXT NOT NULL,
    target TEXT NOT NULL,
    target_device TEXT NOT NULL,
    message_type TEXT NOT NULL,
    content BLOB NOT NULL
) STRICT;

-- Messages whose echo has not been seen.
CREATE TABLE outbox (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    room_id TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    payload BLOB NOT NULL,
    epoch INTEGER,                -- NULL: not encrypted yet
    content BLOB,                 -- of m.room.encrypted
    state TEXT NOT NULL,          -- new, ready, sent
    lpdu_id TEXT
) STRICT;

-- Every ciphertext ever made for a message in the outbox, so that its echo is known whichever of them the hub took.
CREATE TABLE own_ciphertexts (
    hash BLOB PRIMARY KEY,
    n INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE timeline (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    room_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    sender TEXT NOT NULL,
    origin_server_ts INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    payload BLOB,                 -- of a message that was decrypted
    content BLOB,                 -- of an event that was not encrypted
    reason TEXT,                  -- why it cannot be decrypted
    sent INTEGER,                 -- own message: its place in the outbox
    UNIQUE (room_id, event_id)
) STRICT;

-- Events of rooms whose group this device is not in, in case a Welcome comes.
CREATE TABLE held (
    room_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (room_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX held_by_event ON held (event_id);

-- Welcomes whose commit has not been seen.
CREATE TABLE welcomes (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    commit_event_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    message BLOB NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;

-- Our key packages. OpenMLS holds their private halves, and drops them when they are used.
CREATE TABLE key_packages (
    reference BLOB PRIMARY KEY,
    suite INTEGER NOT NULL,
    body BLOB NOT NULL,
    last_resort INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    uploaded INTEGER NOT NULL -- 0 no, 1 yes, 2 perhaps
) STRICT, WITHOUT ROWID;

-- Devices that could not be added lately.
CREATE TABLE unaddable (
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (room_id, user_id, device_id)
) STRICT, WITHOUT ROWID;

-- What the user has not been told yet.
CREATE TABLE notices (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    body TEXT NOT NULL
) STRICT;
