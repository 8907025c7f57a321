-- Schema version 11: accounts that were deleted, whose names nobody gets again. Explained in docs/data-model.md.

ALTER TABLE accounts ADD COLUMN deleted_at INTEGER;     -- NULL: it was not
