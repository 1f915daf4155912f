-- Which units an account activated: few of many, as a rule. No other index begins with the account, so that it is taken
-- whatever statistics say of licences.
CREATE INDEX units_by_account ON units (activated_by, license_id, unit_id);
