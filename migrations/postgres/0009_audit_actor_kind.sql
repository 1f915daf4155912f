-- Of what kind whoever did it is, by the number of the protocol, for a name may be that of another kind. 0: not known, for
-- the entry is from before; entries are never edited.
ALTER TABLE audit ADD COLUMN actor_kind BIGINT NOT NULL DEFAULT 0;
