-- What an actor did, and where something was done, in the order of the log.
CREATE INDEX audit_of_actor ON audit (customer_id, actor, entry_id);
CREATE INDEX audit_of_action ON audit (customer_id, action, entry_id);
