-- Schema version 7: where Welcomes go is known for as long as somebody may need it. Explained in docs/data-model.md.

-- 1: remembered until it expires, whatever Welcomes are on their way.
ALTER TABLE fetched_key_packages ADD COLUMN until_expiry INTEGER NOT NULL DEFAULT 0;
