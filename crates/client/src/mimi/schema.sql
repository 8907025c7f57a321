-- The tables of a MIMI client, beside those of a Linearized Matrix client and OpenMLS's in the same file. URIs are text.

CREATE TABLE mimi_rooms (
    room TEXT PRIMARY KEY,
    group_id BLOB UNIQUE,
    status TEXT NOT NULL,         -- none, creating, joining, active, leaving, removed, stuck
    reason TEXT,                  -- why it is stuck
    first_epoch INTEGER,          -- the first epoch whose messages this client can have keys for
    tend_due INTEGER              -- when to commit what is pending, in ms
) STRICT, WITHOUT ROWID;

-- Proposals of the current epoch, in the order in which the hub accepted them; OpenMLS keeps them too, in no order.
CREATE TABLE mimi_pending (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    room TEXT NOT NULL,
    message BLOB NOT NULL,        -- an MLSMessage
    UNIQUE (room, message)
) STRICT;

-- What should be done to a room, in this order within a room.
CREATE TABLE mimi_intents (
    intent_id INTEGER PRIMARY KEY AUTOINCREMENT,
    room TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due INTEGER NOT NULL
) STRICT;
CREATE INDEX mimi_intents_by_room ON mimi_intents (room, intent_id);

-- Key packages that an intention was given: each is given out once, so a commit that is made again uses them again.
CREATE TABLE mimi_material (
    intent_id INTEGER NOT NULL,
    user TEXT NOT NULL,
    response BLOB NOT NULL,       -- a KeyMaterialResponse
    PRIMARY KEY (intent_id, user)
) STRICT, WITHOUT ROWID;

-- What an intention was made into; of a commit OpenMLS holds the secrets as the group's pending commit.
CREATE TABLE mimi_requests (
    room TEXT PRIMARY KEY,
    intent_id INTEGER NOT NULL,
    kind TEXT NOT NULL,           -- create, commit, external, proposals
    epoch INTEGER NOT NULL,       -- in which it was made
    message BLOB NOT NULL,        -- the first MLSMessage in it, by which its echo is known; of create the GroupInfo
    body BLOB NOT NULL,           -- an UpdateRequest; of create the RatchetTree
    seen INTEGER NOT NULL,        -- the newest row of mimi_pending when it was made
    clears_the_way INTEGER NOT NULL, -- what the intention asks for is still to come after it
    state TEXT NOT NULL,          -- ready, stale, refused
    code INTEGER,                 -- of the refusal
    description TEXT
) STRICT, WITHOUT ROWID;

-- Messages whose acceptance has not been seen.
CREATE TABLE mimi_outbox (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    room TEXT NOT NULL,
    content BLOB NOT NULL,        -- mimiContent
    message_id BLOB NOT NULL,
    message BLOB                  -- the MLSMessage; NULL: not encrypted yet
) STRICT;

-- Every ciphertext ever made for a message in the outbox, so that its echo is known whichever of them the hub took.
CREATE TABLE mimi_own (
    hash BLOB PRIMARY KEY,
    n INTEGER NOT NULL,
    data BLOB NOT NULL            -- what was encrypted
) STRICT, WITHOUT ROWID;

CREATE TABLE mimi_timeline (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    room TEXT NOT NULL,
    hash BLOB NOT NULL,           -- SHA-256 of the MLSMessage
    accepted INTEGER NOT NULL,
    sender TEXT,                  -- the user in the sender's credential
    client TEXT,
    media_type TEXT,
    content BLOB,                 -- of that media type
    data BLOB,                    -- what was encrypted: content and its framing
    reason TEXT,                  -- why it cannot be read
    frank BLOB,
    franking TEXT NOT NULL,       -- what the frank is worth
    sent INTEGER NOT NULL,
    UNIQUE (room, hash)
) STRICT;

-- Our key packages. OpenMLS holds their private halves, and drops them when they are used.
CREATE TABLE mimi_key_packages (
    reference BLOB PRIMARY KEY,
    suite INTEGER NOT NULL,
    body BLOB NOT NULL,
    uploaded INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the user has not been told yet.
CREATE TABLE mimi_notices (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    body TEXT NOT NULL
) STRICT;
