-- Schema version 11: accounts that were deleted, the user parts of handles, and what was not noted of rooms before version 9. Explained in
-- docs/data-model.md.

-- Nobody gets the name of a deleted account again.
ALTER TABLE accounts ADD COLUMN deleted_at INTEGER;     -- NULL: it was not

-- What is handed out for one hub pushes out nothing that is for another.
DROP INDEX mimi_issued_key_packages_in_order;
CREATE INDEX mimi_issued_key_packages_in_order ON mimi_issued_key_packages (client_no, hub, issued_no);

-- Whether mimi_fixed_rooms and mimi_child_rooms have what the room's policy says. Of a room of before version 9 only who loads it knows.
ALTER TABLE mimi_rooms ADD COLUMN is_noted INTEGER NOT NULL DEFAULT 0;

CREATE INDEX mimi_rooms_to_note ON mimi_rooms (uri) WHERE is_noted = 0;

-- Of a handle what stands between the scheme and the `@`.
ALTER TABLE profile_entries ADD COLUMN user_part TEXT;  -- NULL: it is no handle, or has none

UPDATE profile_entries
    SET user_part = substr(value, instr(value, ':') + 1, instr(substr(value, instr(value, ':') + 1), '@') - 1)
    WHERE kind = 'handle' AND instr(value, ':') > 0 AND instr(substr(value, instr(value, ':') + 1), '@') > 1;

CREATE INDEX profile_entries_by_user_part ON profile_entries (user_part) WHERE searchable <> 'never' AND user_part IS NOT NULL;
