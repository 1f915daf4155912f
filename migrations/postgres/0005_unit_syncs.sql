-- An ID of an SMS counts once for each unit: no unit spends what another one sends.
ALTER TABLE sms_sent DROP CONSTRAINT sms_sent_pkey;
ALTER TABLE sms_sent DROP COLUMN subscription_id;
ALTER TABLE sms_sent ADD PRIMARY KEY (unit_id, sms_id);
-- They are forgotten once they cannot be repeated any more.
CREATE INDEX sms_sent_by_age ON sms_sent (counted_at);

-- What is remembered of the syncs of a unit.
CREATE TABLE unit_syncs (
    unit_id            TEXT COLLATE "C" PRIMARY KEY,
    -- The secret the unit is about to use, as a hash; empty if none.
    next_secret_sha256 TEXT COLLATE "C" NOT NULL,
    -- SMS that were counted since an instant, for as long as a day.
    day_began          BIGINT NOT NULL,
    sms_in_day         BIGINT NOT NULL,
    -- When it was written to the audit log last that SMS were deferred.
    alarmed_at         BIGINT NOT NULL,
    -- SMS and credits since the last sum in the audit log, and when that was.
    sms_since          BIGINT NOT NULL,
    credits_since      BIGINT NOT NULL,
    summed_at          BIGINT NOT NULL,
    -- The places it synced from lately, the newest first, apart by spaces.
    instances          TEXT COLLATE "C" NOT NULL,
    -- When it was last seen in two places at once; none if never.
    two_places_at      BIGINT,
    -- The number of the facts it held when it synced last.
    held_sequence      BIGINT NOT NULL,
    -- When it was written to the audit log last that it went back to older facts.
    went_back_at       BIGINT NOT NULL
);

-- Units that were ever activated with a license.
ALTER TABLE licenses ADD COLUMN units_ever BIGINT NOT NULL DEFAULT 0;
UPDATE licenses SET units_ever = (SELECT COUNT(*) FROM units WHERE units.license_id = licenses.license_id);
