-- Schema version 3: files that users send. Explained in docs/data-model.md.

-- The bytes lie outside the database, under their hash.
CREATE TABLE media_files (
    hash BLOB NOT NULL UNIQUE,          -- SHA-256
    size INTEGER NOT NULL,
    uploaders INTEGER NOT NULL,         -- rows in media_uploads
    cached_at INTEGER                   -- another server's too, and since when; NULL: not that
) STRICT;

CREATE INDEX media_files_to_drop ON media_files (cached_at, hash, size) WHERE uploaders = 0;

CREATE TABLE media_uploads (
    user_id TEXT NOT NULL,
    hash BLOB NOT NULL,
    size INTEGER NOT NULL,
    uploaded_at INTEGER NOT NULL,
    UNIQUE (user_id, hash)
) STRICT;

CREATE INDEX media_uploads_by_hash ON media_uploads (hash);

-- What files of other servers are called there.
CREATE TABLE media_names (
    server TEXT NOT NULL,
    media_id TEXT NOT NULL,
    hash BLOB NOT NULL,
    UNIQUE (server, media_id)
) STRICT;

CREATE INDEX media_names_by_hash ON media_names (hash);
