-- Sessions are listed and ended by their account, and end when they are idle. Those of before are as if just used.
ALTER TABLE sessions ADD COLUMN session_id TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN last_used_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN address TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE sessions SET session_id = substr(token_sha256, 1, 32), created_at = CAST(extract(epoch FROM now()) AS BIGINT) * 1000000000,
    last_used_at = CAST(extract(epoch FROM now()) AS BIGINT) * 1000000000;

-- What an API credential is for, a bit for each scope of the protocol, and when it ends: those of before are for all
-- scopes, and end never.
ALTER TABLE api_credentials ADD COLUMN scopes BIGINT NOT NULL DEFAULT 30;
ALTER TABLE api_credentials ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 9223372036854775807;
