-- Entries of the audit log leave it in one way alone: exported, acknowledged, and recorded here.
CREATE TABLE audit_archives (
    archive_id    TEXT COLLATE "C" PRIMARY KEY,
    customer_id   TEXT COLLATE "C" NOT NULL REFERENCES customers (customer_id),
    -- Entries from before this instant, up to this one in the order of the log, but for those about archives.
    older_than    BIGINT NOT NULL,
    last_entry_id TEXT COLLATE "C" NOT NULL,
    entries       BIGINT NOT NULL,
    -- While they are deleted, within one transaction.
    is_open       BIGINT NOT NULL
);
CREATE INDEX audit_archives_open ON audit_archives (customer_id) WHERE is_open = 1;

CREATE FUNCTION audit_leaves_by_archive() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.action = 'audit.archive' AND OLD.done = 1) OR NOT EXISTS (
        SELECT 1 FROM audit_archives
        WHERE is_open = 1 AND customer_id = OLD.customer_id AND OLD.at < older_than AND OLD.entry_id <= last_entry_id)
    THEN
        RAISE EXCEPTION 'the audit log is never edited';
    END IF;
    RETURN OLD;
END $$;
DROP TRIGGER audit_is_never_edited ON audit;
CREATE TRIGGER audit_is_never_edited BEFORE UPDATE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_never_edited();
CREATE TRIGGER audit_leaves_by_archive BEFORE DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_leaves_by_archive();

-- What is said of archives stays as well.
CREATE FUNCTION audit_archive_is_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.is_open = 0 OR NEW.is_open <> 0
        OR (NEW.archive_id, NEW.customer_id, NEW.older_than, NEW.last_entry_id, NEW.entries)
            IS DISTINCT FROM (OLD.archive_id, OLD.customer_id, OLD.older_than, OLD.last_entry_id, OLD.entries)
    THEN
        RAISE EXCEPTION 'archives of the audit log are never edited';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_archive_is_closed BEFORE UPDATE ON audit_archives
    FOR EACH ROW EXECUTE FUNCTION audit_archive_is_closed();
CREATE TRIGGER audit_archives_are_not_deleted BEFORE DELETE OR TRUNCATE ON audit_archives
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_never_edited();
