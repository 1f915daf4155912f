-- What makes the replicas of a backend one authority: which key signs, and how late it is. One row.
CREATE TABLE authority (
    only_row  BIGINT PRIMARY KEY CHECK (only_row = 1),
    -- ID of the key that signs; empty before the first start.
    key_id    TEXT COLLATE "C" NOT NULL,
    -- By when facts were signed; it follows the newest of them at a small distance.
    signed_at BIGINT NOT NULL
);
INSERT INTO authority (only_row, key_id, signed_at) VALUES (1, '', 0);

-- The sequence to which a subscription was raised because facts had been signed by a clock that was ahead.
ALTER TABLE subscriptions ADD COLUMN raised_in BIGINT NOT NULL DEFAULT 0;
