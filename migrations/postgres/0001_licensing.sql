-- The licensing backend on PostgreSQL. Instants are nanoseconds since 1970 UTC; enums are the numbers of the protocol;
-- texts compare byte by byte, as they do on SQLite.

-- Customers. What belongs to one is never seen by another.
CREATE TABLE customers (
    customer_id TEXT COLLATE "C" PRIMARY KEY,
    name        TEXT COLLATE "C" NOT NULL UNIQUE,
    created_at  BIGINT NOT NULL
);

-- Who signs in. Passwords are kept as argon2id hashes.
CREATE TABLE accounts (
    account_id           TEXT COLLATE "C" PRIMARY KEY,
    customer_id          TEXT COLLATE "C" NOT NULL REFERENCES customers (customer_id),
    name                 TEXT COLLATE "C" NOT NULL UNIQUE,
    role                 BIGINT NOT NULL,
    may_issue            BIGINT NOT NULL,
    password_hash        TEXT COLLATE "C" NOT NULL,
    must_change_password BIGINT NOT NULL,
    disabled             BIGINT NOT NULL,
    failed_sign_ins      BIGINT NOT NULL,
    locked_until         BIGINT NOT NULL,
    created_at           BIGINT NOT NULL
);
CREATE INDEX accounts_of_customer ON accounts (customer_id, name);

-- Open sessions, by the SHA-256 of their token.
CREATE TABLE sessions (
    token_sha256 TEXT COLLATE "C" PRIMARY KEY,
    account_id   TEXT COLLATE "C" NOT NULL REFERENCES accounts (account_id),
    expires_at   BIGINT NOT NULL
);
CREATE INDEX sessions_of_account ON sessions (account_id);

-- What programs sign in with, by the SHA-256 of the secret.
CREATE TABLE api_credentials (
    credential_id TEXT COLLATE "C" PRIMARY KEY,
    account_id    TEXT COLLATE "C" NOT NULL REFERENCES accounts (account_id),
    name          TEXT COLLATE "C" NOT NULL,
    secret_sha256 TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    revoked_at    BIGINT
);
CREATE INDEX api_credentials_of_account ON api_credentials (account_id, credential_id);

-- All licences of a customer for one product are one subscription. What is used of it is kept here as totals, so that
-- its facts are read in one row.
CREATE TABLE subscriptions (
    subscription_id TEXT COLLATE "C" PRIMARY KEY,
    customer_id     TEXT COLLATE "C" NOT NULL REFERENCES customers (customer_id),
    product         TEXT COLLATE "C" NOT NULL,
    seat_kind       BIGINT NOT NULL,
    -- Grows with every change of the facts or of a unit, and never goes back (semantics 5.5).
    sequence        BIGINT NOT NULL,
    -- The facts as they are told to an active unit, as JSON.
    facts           TEXT COLLATE "C" NOT NULL,
    -- When time alone changes them next; the end of time if never.
    turns_at        BIGINT NOT NULL,
    active_units    BIGINT NOT NULL,
    active_users    BIGINT NOT NULL,
    all_users       BIGINT NOT NULL,
    components      BIGINT NOT NULL,
    UNIQUE (customer_id, product)
);
CREATE INDEX subscriptions_by_turn ON subscriptions (turns_at);

CREATE TABLE licenses (
    license_id       TEXT COLLATE "C" PRIMARY KEY,
    subscription_id  TEXT COLLATE "C" NOT NULL REFERENCES subscriptions (subscription_id),
    customer_id      TEXT COLLATE "C" NOT NULL REFERENCES customers (customer_id),
    product          TEXT COLLATE "C" NOT NULL,
    name             TEXT COLLATE "C" NOT NULL,
    type             TEXT COLLATE "C" NOT NULL,
    -- Of the licence key only the hash is kept.
    key_sha256       TEXT COLLATE "C" NOT NULL UNIQUE,
    seats            BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL,
    state            BIGINT NOT NULL,
    state_since      BIGINT NOT NULL,
    all_users_limit  BIGINT NOT NULL,
    components_limit BIGINT NOT NULL,
    sms_credits      BIGINT,
    attributes       TEXT COLLATE "C" NOT NULL,
    active_units     BIGINT NOT NULL,
    created_at       BIGINT NOT NULL
);
CREATE INDEX licenses_of_subscription ON licenses (subscription_id);
CREATE INDEX licenses_of_customer ON licenses (customer_id, license_id);

-- Licences in the hands of security admins; usable once accepted.
CREATE TABLE delegations (
    license_id TEXT COLLATE "C" NOT NULL REFERENCES licenses (license_id),
    account_id TEXT COLLATE "C" NOT NULL REFERENCES accounts (account_id),
    accepted   BIGINT NOT NULL,
    PRIMARY KEY (license_id, account_id)
);
CREATE INDEX delegations_to_account ON delegations (account_id);

CREATE TABLE units (
    unit_id           TEXT COLLATE "C" PRIMARY KEY,
    license_id        TEXT COLLATE "C" NOT NULL REFERENCES licenses (license_id),
    subscription_id   TEXT COLLATE "C" NOT NULL,
    device_name       TEXT COLLATE "C" NOT NULL,
    product           TEXT COLLATE "C" NOT NULL,
    product_version   TEXT COLLATE "C" NOT NULL,
    activated_at      BIGINT NOT NULL,
    last_connected_at BIGINT NOT NULL,
    subunits          BIGINT NOT NULL,
    -- The account it was activated with; empty when it was activated by licence key.
    activated_by      TEXT COLLATE "C" NOT NULL,
    activated_by_name TEXT COLLATE "C" NOT NULL,
    from_remote       BIGINT NOT NULL,
    state             BIGINT NOT NULL,
    deactivated_at    BIGINT,
    secret_sha256     TEXT COLLATE "C" NOT NULL,
    installation      TEXT COLLATE "C" NOT NULL,
    -- Its newest report of usage.
    counted_at        BIGINT,
    active_users      BIGINT NOT NULL,
    all_users         BIGINT NOT NULL,
    components        BIGINT NOT NULL,
    -- The sequence of its subscription with which its state changed last.
    changed_in        BIGINT NOT NULL
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
    subscription_id TEXT COLLATE "C" NOT NULL,
    installation    TEXT COLLATE "C" NOT NULL,
    unit_id         TEXT COLLATE "C" NOT NULL,
    counted_at      BIGINT NOT NULL,
    active_users    BIGINT NOT NULL,
    all_users       BIGINT NOT NULL,
    components      BIGINT NOT NULL,
    PRIMARY KEY (subscription_id, installation)
);
CREATE INDEX installations_by_unit ON installations (unit_id);

-- SMS that were counted, each ID once (semantics 6.9).
CREATE TABLE sms_sent (
    subscription_id TEXT COLLATE "C" NOT NULL,
    sms_id          TEXT COLLATE "C" NOT NULL,
    credits         BIGINT NOT NULL,
    unit_id         TEXT COLLATE "C" NOT NULL,
    counted_at      BIGINT NOT NULL,
    PRIMARY KEY (subscription_id, sms_id)
);

-- Changes that were answered: the same request again gets the same answer.
CREATE TABLE requests (
    caller     TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C" NOT NULL,
    sha256     TEXT COLLATE "C" NOT NULL,
    response   TEXT COLLATE "C" NOT NULL,
    made_at    BIGINT NOT NULL,
    PRIMARY KEY (caller, request_id)
);
CREATE INDEX requests_by_age ON requests (made_at);

-- Who changed what, when, and what came of it (semantics 6.10).
CREATE TABLE audit (
    entry_id    TEXT COLLATE "C" PRIMARY KEY,
    customer_id TEXT COLLATE "C" NOT NULL,
    at          BIGINT NOT NULL,
    actor       TEXT COLLATE "C" NOT NULL,
    action      TEXT COLLATE "C" NOT NULL,
    target      TEXT COLLATE "C" NOT NULL,
    done        BIGINT NOT NULL,
    detail      TEXT COLLATE "C" NOT NULL
);
CREATE INDEX audit_of_customer ON audit (customer_id, entry_id);
CREATE INDEX audit_of_target ON audit (customer_id, target, entry_id);

-- It is never edited.
CREATE FUNCTION audit_is_never_edited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is never edited';
END $$;
CREATE TRIGGER audit_is_never_edited BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_never_edited();
