-- The licensing backend on SQLite. Instants are nanoseconds since 1970 UTC; enums are the numbers of the protocol.

-- Customers. What belongs to one is never seen by another.
CREATE TABLE customers (
    customer_id TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    created_at  INTEGER NOT NULL
);

-- Who signs in. Passwords are kept as argon2id hashes.
CREATE TABLE accounts (
    account_id           TEXT PRIMARY KEY,
    customer_id          TEXT NOT NULL REFERENCES customers (customer_id),
    name                 TEXT NOT NULL UNIQUE,
    role                 INTEGER NOT NULL,
    may_issue            INTEGER NOT NULL,
    password_hash        TEXT NOT NULL,
    must_change_password INTEGER NOT NULL,
    disabled             INTEGER NOT NULL,
    failed_sign_ins      INTEGER NOT NULL,
    locked_until         INTEGER NOT NULL,
    created_at           INTEGER NOT NULL
);
CREATE INDEX accounts_of_customer ON accounts (customer_id, name);

-- Open sessions, by the SHA-256 of their token.
CREATE TABLE sessions (
    token_sha256 TEXT PRIMARY KEY,
    account_id   TEXT NOT NULL REFERENCES accounts (account_id),
    expires_at   INTEGER NOT NULL
);
CREATE INDEX sessions_of_account ON sessions (account_id);

-- What programs sign in with, by the SHA-256 of the secret.
CREATE TABLE api_credentials (
    credential_id TEXT PRIMARY KEY,
    account_id    TEXT NOT NULL REFERENCES accounts (account_id),
    name          TEXT NOT NULL,
    secret_sha256 TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    revoked_at    INTEGER
);
CREATE INDEX api_credentials_of_account ON api_credentials (account_id, credential_id);

-- All licences of a customer for one product are one subscription. What is used of it is kept here as totals, so that
-- its facts are read in one row.
CREATE TABLE subscriptions (
    subscription_id TEXT PRIMARY KEY,
    customer_id     TEXT NOT NULL REFERENCES customers (customer_id),
    product         TEXT NOT NULL,
    seat_kind       INTEGER NOT NULL,
    -- Grows with every change of the facts or of a unit, and never goes back (semantics 5.5).
    sequence        INTEGER NOT NULL,
    -- The facts as they are told to an active unit, as JSON.
    facts           TEXT NOT NULL,
    -- When time alone changes them next; the end of time if never.
    turns_at        INTEGER NOT NULL,
    active_units    INTEGER NOT NULL,
    active_users    INTEGER NOT NULL,
    all_users       INTEGER NOT NULL,
    components      INTEGER NOT NULL,
    UNIQUE (customer_id, product)
);
CREATE INDEX subscriptions_by_turn ON subscriptions (turns_at);

CREATE TABLE licenses (
    license_id       TEXT PRIMARY KEY,
    subscription_id  TEXT NOT NULL REFERENCES subscriptions (subscription_id),
    customer_id      TEXT NOT NULL REFERENCES customers (customer_id),
    product          TEXT NOT NULL,
    name             TEXT NOT NULL,
    type             TEXT NOT NULL,
    -- Of the licence key only the hash is kept.
    key_sha256       TEXT NOT NULL UNIQUE,
    seats            INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    state            INTEGER NOT NULL,
    state_since      INTEGER NOT NULL,
    all_users_limit  INTEGER NOT NULL,
    components_limit INTEGER NOT NULL,
    sms_credits      INTEGER,
    attributes       TEXT NOT NULL,
    active_units     INTEGER NOT NULL,
    created_at       INTEGER NOT NULL
);
CREATE INDEX licenses_of_subscription ON licenses (subscription_id);
CREATE INDEX licenses_of_customer ON licenses (customer_id, license_id);

-- Licences in the hands of security admins; usable once accepted.
CREATE TABLE delegations (
    license_id TEXT NOT NULL REFERENCES licenses (license_id),
    account_id TEXT NOT NULL REFERENCES accounts (account_id),
    accepted   INTEGER NOT NULL,
    PRIMARY KEY (license_id, account_id)
);
CREATE INDEX delegations_to_account ON delegations (account_id);

CREATE TABLE units (
    unit_id           TEXT PRIMARY KEY,
    license_id        TEXT NOT NULL REFERENCES licenses (license_id),
    subscription_id   TEXT NOT NULL,
    device_name       TEXT NOT NULL,
    product           TEXT NOT NULL,
    product_version   TEXT NOT NULL,
    activated_at      INTEGER NOT NULL,
    last_connected_at INTEGER NOT NULL,
    subunits          INTEGER NOT NULL,
    -- The account it was activated with; empty when it was activated by licence key.
    activated_by      TEXT NOT NULL,
    activated_by_name TEXT NOT NULL,
    from_remote       INTEGER NOT NULL,
    state             INTEGER NOT NULL,
    deactivated_at    INTEGER,
    secret_sha256     TEXT NOT NULL,
    installation      TEXT NOT NULL,
    -- Its newest report of usage.
    counted_at        INTEGER,
    active_users      INTEGER NOT NULL,
    all_users         INTEGER NOT NULL,
    components        INTEGER NOT NULL,
    -- The sequence of its subscription with which its state changed last.
    changed_in        INTEGER NOT NULL
);
-- One index for each attribute the list sorts by (semantics 6.4); it goes both ways.
CREATE INDEX units_by_id ON units (license_id, unit_id);
CREATE INDEX units_by_device_name ON units (license_id, device_name, unit_id);
CREATE INDEX units_by_product ON units (license_id, product, unit_id);
CREATE INDEX units_by_product_version ON units (license_id, product_version, unit_id);
CREATE INDEX units_by_activated_at ON units (license_id, activated_at, unit_id);
CREATE INDEX units_by_last_connected_at ON units (license_id, last_connected_at, unit_id);
CREATE INDEX units_by_subunits ON units (license_id, subunits, unit_id);
CREATE INDEX units_by_activated_by ON units (license_id, activated_by_name, unit_id);
CREATE INDEX units_by_from_remote ON units (license_id, from_remote, unit_id);
CREATE INDEX units_by_state ON units (license_id, state, unit_id);
CREATE INDEX units_by_installation ON units (license_id, installation, unit_id);
-- The newest report of an installation, and what changed since a sequence.
CREATE INDEX units_by_report ON units (subscription_id, installation, counted_at) WHERE counted_at IS NOT NULL;
CREATE INDEX units_by_change ON units (subscription_id, changed_in);

-- The newest report of each installation from a unit still active (semantics 6.8).
CREATE TABLE installations (
    subscription_id TEXT NOT NULL,
    installation    TEXT NOT NULL,
    unit_id         TEXT NOT NULL,
    counted_at      INTEGER NOT NULL,
    active_users    INTEGER NOT NULL,
    all_users       INTEGER NOT NULL,
    components      INTEGER NOT NULL,
    PRIMARY KEY (subscription_id, installation)
);
CREATE INDEX installations_by_unit ON installations (unit_id);

-- SMS that were counted, each ID once (semantics 6.9).
CREATE TABLE sms_sent (
    subscription_id TEXT NOT NULL,
    sms_id          TEXT NOT NULL,
    credits         INTEGER NOT NULL,
    unit_id         TEXT NOT NULL,
    counted_at      INTEGER NOT NULL,
    PRIMARY KEY (subscription_id, sms_id)
);

-- Changes that were answered: the same request again gets the same answer.
CREATE TABLE requests (
    caller     TEXT NOT NULL,
    request_id TEXT NOT NULL,
    sha256     TEXT NOT NULL,
    response   TEXT NOT NULL,
    made_at    INTEGER NOT NULL,
    PRIMARY KEY (caller, request_id)
);
CREATE INDEX requests_by_age ON requests (made_at);

-- Who changed what, when, and what came of it (semantics 6.10).
CREATE TABLE audit (
    entry_id    TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL,
    at          INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    action      TEXT NOT NULL,
    target      TEXT NOT NULL,
    done        INTEGER NOT NULL,
    detail      TEXT NOT NULL
);
CREATE INDEX audit_of_customer ON audit (customer_id, entry_id);
CREATE INDEX audit_of_target ON audit (customer_id, target, entry_id);

-- It is never edited.
CREATE TRIGGER audit_is_not_updated BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is never edited'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is never edited'); END;
