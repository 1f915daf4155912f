-- When the renewal of a unit's secret was last written to the audit log.
ALTER TABLE unit_syncs ADD COLUMN renewed_at BIGINT NOT NULL DEFAULT 0;

-- Units made with the license key of now; `units_ever` counts those made with accounts since.
ALTER TABLE licenses ADD COLUMN units_by_key BIGINT NOT NULL DEFAULT 0;
