-- When it was last written to the audit log that a report of this unit took its subscription beyond its seats.
ALTER TABLE unit_syncs ADD COLUMN exceeded_at BIGINT NOT NULL DEFAULT 0;

-- The API credential, or the session, that an account did something with; empty for any other actor, and in entries of before.
ALTER TABLE audit ADD COLUMN actor_credential TEXT NOT NULL DEFAULT '';
