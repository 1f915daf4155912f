-- Entries of the audit log leave it in one way alone: exported, acknowledged, and recorded here.
CREATE TABLE audit_archives (
    archive_id    TEXT PRIMARY KEY,
    customer_id   TEXT NOT NULL REFERENCES customers (customer_id),
    -- Entries from before this instant, up to this one in the order of the log, but for those about archives.
    older_than    INTEGER NOT NULL,
    last_entry_id TEXT NOT NULL,
    entries       INTEGER NOT NULL,
    -- While they are deleted, within one transaction.
    is_open       INTEGER NOT NULL
);
CREATE INDEX audit_archives_open ON audit_archives (customer_id) WHERE is_open = 1;

DROP TRIGGER audit_is_not_deleted;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
WHEN (OLD.action = 'audit.archive' AND OLD.done = 1) OR NOT EXISTS (
    SELECT 1 FROM audit_archives
    WHERE is_open = 1 AND customer_id = OLD.customer_id AND OLD.at < older_than AND OLD.entry_id <= last_entry_id)
BEGIN SELECT RAISE(ABORT, 'the audit log is never edited'); END;

-- INSERT OR REPLACE takes an entry away without the trigger above, by its ID or by the number of its row.
CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE entry_id = NEW.entry_id)
    OR (NEW.rowid <> -1 AND EXISTS (SELECT 1 FROM audit WHERE rowid = NEW.rowid))
BEGIN SELECT RAISE(ABORT, 'the audit log is never edited'); END;

-- What is said of archives stays as well.
CREATE TRIGGER audit_archives_are_not_deleted BEFORE DELETE ON audit_archives
BEGIN SELECT RAISE(ABORT, 'archives of the audit log are never edited'); END;
CREATE TRIGGER audit_archives_are_not_updated BEFORE UPDATE ON audit_archives
WHEN OLD.is_open = 0 OR NEW.is_open <> 0 OR NEW.archive_id <> OLD.archive_id OR NEW.customer_id <> OLD.customer_id
    OR NEW.older_than <> OLD.older_than OR NEW.last_entry_id <> OLD.last_entry_id OR NEW.entries <> OLD.entries
BEGIN SELECT RAISE(ABORT, 'archives of the audit log are never edited'); END;
CREATE TRIGGER audit_archives_are_not_replaced BEFORE INSERT ON audit_archives
WHEN EXISTS (SELECT 1 FROM audit_archives WHERE archive_id = NEW.archive_id)
    OR (NEW.rowid <> -1 AND EXISTS (SELECT 1 FROM audit_archives WHERE rowid = NEW.rowid))
BEGIN SELECT RAISE(ABORT, 'archives of the audit log are never edited'); END;
