-- Who may do what on the dashboard and the API, and who did. Secrets are kept as hashes only.

CREATE TABLE users (
  user_id       int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name          text NOT NULL CHECK (name = btrim(name) AND name <> '' AND length(name) <= 100),
  password_hash text,                           -- argon2; null: signs in elsewhere (OIDC), or not yet
  subject       text UNIQUE,                    -- who it is at the OIDC provider: issuer and subject
  role          text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
  disabled      boolean NOT NULL DEFAULT false, -- its sessions and tokens are dead while it is
  created       timestamptz NOT NULL DEFAULT now(),
  last_login    timestamptz
);
CREATE UNIQUE INDEX users_by_name ON users (lower(name));

-- A browser that is signed in. The id in its cookie is 256 random bits; here is only its SHA-256.
CREATE TABLE sessions (
  session_hash bytea PRIMARY KEY CHECK (length(session_hash) = 32),
  user_id      int NOT NULL REFERENCES users ON DELETE CASCADE,
  csrf         text NOT NULL,                   -- what forms and scripts send back beside the cookie
  created      timestamptz NOT NULL DEFAULT now(),
  last_seen    timestamptz NOT NULL DEFAULT now(),
  expires      timestamptz NOT NULL,
  revoked      timestamptz,
  address      text NOT NULL DEFAULT '',        -- where from, for people who look for a session that is not theirs
  agent        text NOT NULL DEFAULT ''
);
CREATE INDEX sessions_by_user ON sessions (user_id);

-- A key for scripts and notebooks. It is shown once; here is its SHA-256, and its beginning to tell it by.
CREATE TABLE tokens (
  token_id   int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  token_hash bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
  prefix     text NOT NULL,
  name       text NOT NULL CHECK (name <> '' AND length(name) <= 100),
  scopes     text[] NOT NULL CHECK (cardinality(scopes) > 0),
  user_id    int REFERENCES users ON DELETE CASCADE,  -- its owner, beyond whose role it never goes; null: made at the shell
  created_by text NOT NULL,
  created    timestamptz NOT NULL DEFAULT now(),
  expires    timestamptz NOT NULL,
  last_used  timestamptz,
  revoked    timestamptz,
  revoked_by text,
  CHECK ((revoked IS NULL) = (revoked_by IS NULL))
);
CREATE INDEX tokens_by_user ON tokens (user_id);

-- Who did what, when, to what, and what came of it. Only ever added to.
CREATE TABLE audit_log (
  audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  time     timestamptz NOT NULL DEFAULT now(),
  who      text NOT NULL,                       -- a user's name, "token PREFIX", or an account at the shell
  way      text NOT NULL CHECK (way IN ('session', 'token', 'shell', 'nobody')),
  what     text NOT NULL,                       -- such as alarm.acknowledge, flag.add, login
  subject  text NOT NULL DEFAULT '',            -- on what: an alarm's id, a sensor, a user's name
  outcome  text NOT NULL CHECK (outcome IN ('done', 'refused', 'failed')),
  detail   jsonb NOT NULL DEFAULT '{}',
  address  text NOT NULL DEFAULT ''
);
CREATE INDEX audit_log_by_time ON audit_log (time);
