-- Schema version 8: reports of abuse. Explained in docs/data-model.md.

CREATE TABLE mimi_reports (
    report_no INTEGER PRIMARY KEY AUTOINCREMENT,    -- a number means one report for good
    room_uri TEXT NOT NULL,
    provider TEXT NOT NULL,                         -- that sent it
    body BLOB NOT NULL,                             -- an AbuseReport
    body_sha256 BLOB NOT NULL,
    evidence TEXT NOT NULL,                         -- of each message a word, with spaces between
    received INTEGER NOT NULL,
    state TEXT NOT NULL,
    decided INTEGER,                                -- NULL: open
    remark TEXT NOT NULL,
    UNIQUE (provider, room_uri, body_sha256)
) STRICT;

CREATE INDEX mimi_reports_open ON mimi_reports (provider) WHERE state = 'open';
CREATE INDEX mimi_reports_by_age ON mimi_reports (decided) WHERE decided IS NOT NULL;
