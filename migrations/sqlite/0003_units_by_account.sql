-- Which units an account activated: few of many, as a rule.
CREATE INDEX units_by_account ON units (license_id, activated_by, unit_id);
