-- An ID of an SMS counts once for each unit: no unit spends what another one sends.
CREATE TABLE sms_of_units (
    unit_id    TEXT NOT NULL,
    sms_id     TEXT NOT NULL,
    credits    INTEGER NOT NULL,
    counted_at INTEGER NOT NULL,
    PRIMARY KEY (unit_id, sms_id)
);
INSERT INTO sms_of_units (unit_id, sms_id, credits, counted_at)
    SELECT unit_id, sms_id, credits, counted_at FROM sms_sent;
DROP TABLE sms_sent;
ALTER TABLE sms_of_units RENAME TO sms_sent;
-- They are forgotten once they cannot be repeated any more.
CREATE INDEX sms_sent_by_age ON sms_sent (counted_at);

-- What is remembered of the syncs of a unit.
CREATE TABLE unit_syncs (
    unit_id            TEXT PRIMARY KEY,
    -- The secret the unit is about to use, as a hash; empty if none.
    next_secret_sha256 TEXT NOT NULL,
    -- SMS that were counted since an instant, for as long as a day.
    day_began          INTEGER NOT NULL,
    sms_in_day         INTEGER NOT NULL,
    -- When it was written to the audit log last that SMS were deferred.
    alarmed_at         INTEGER NOT NULL,
    -- SMS and credits since the last sum in the audit log, and when that was.
    sms_since          INTEGER NOT NULL,
    credits_since      INTEGER NOT NULL,
    summed_at          INTEGER NOT NULL,
    -- The places it synced from lately, the newest first, apart by spaces.
    instances          TEXT NOT NULL,
    -- When it was last seen in two places at once; none if never.
    two_places_at      INTEGER,
    -- The number of the facts it held when it synced last.
    held_sequence      INTEGER NOT NULL,
    -- When it was written to the audit log last that it went back to older facts.
    went_back_at       INTEGER NOT NULL
);

-- Units that were ever activated with a license.
ALTER TABLE licenses ADD COLUMN units_ever INTEGER NOT NULL DEFAULT 0;
UPDATE licenses SET units_ever = (SELECT COUNT(*) FROM units WHERE units.license_id = licenses.license_id);
