-- Names are unique within a customer, whatever their case: what was the name is the name to sign in with, `name@customer`
-- in lower case, and the name stands beside it as it was given.
ALTER TABLE accounts RENAME COLUMN name TO sign_in_name;
ALTER TABLE accounts ADD COLUMN name TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE accounts SET name = sign_in_name;
UPDATE accounts SET sign_in_name = account_id;
UPDATE accounts
    SET sign_in_name = lower(name || '@' || (SELECT c.name FROM customers c WHERE c.customer_id = accounts.customer_id))
    WHERE account_id IN (
        SELECT MIN(a.account_id) FROM accounts a JOIN customers c ON c.customer_id = a.customer_id
        GROUP BY lower(a.name || '@' || c.name) HAVING COUNT(*) = 1
    );
-- Of those that differ in case alone each keeps its own, and is found by it.
UPDATE accounts
    SET sign_in_name = name || '@' || (SELECT c.name FROM customers c WHERE c.customer_id = accounts.customer_id)
    WHERE sign_in_name = account_id;
DROP INDEX accounts_of_customer;
CREATE INDEX accounts_of_customer ON accounts (customer_id, name);

-- Until when a one-time password opens a session; `must_change_password` is 2 once it did. Those of before have a day.
ALTER TABLE accounts ADD COLUMN one_time_until BIGINT NOT NULL DEFAULT 0;
UPDATE accounts SET one_time_until = (CAST(extract(epoch FROM now()) AS BIGINT) + 86400) * 1000000000 WHERE must_change_password = 1;

-- Wrong passwords are no longer counted here.
ALTER TABLE accounts DROP COLUMN failed_sign_ins;
ALTER TABLE accounts DROP COLUMN locked_until;

-- Where accounts signed in from: addresses by a keyed hash.
CREATE TABLE sign_in_addresses (
    account_id TEXT COLLATE "C" NOT NULL REFERENCES accounts (account_id),
    address    TEXT COLLATE "C" NOT NULL,
    last_at    BIGINT NOT NULL,
    PRIMARY KEY (account_id, address)
);

-- Wrong passwords of a name within a day, from addresses it never signed in from: names by a keyed hash, whether anybody
-- has them or not, once there were a few.
CREATE TABLE sign_in_failures (
    name       TEXT COLLATE "C" PRIMARY KEY,
    began      BIGINT NOT NULL,
    failures   BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX sign_in_failures_by_update ON sign_in_failures (updated_at);

-- The key of these hashes; made at the first start. One row.
CREATE TABLE sign_in_key (
    only_row BIGINT PRIMARY KEY CHECK (only_row = 1),
    secret   TEXT COLLATE "C" NOT NULL
);
