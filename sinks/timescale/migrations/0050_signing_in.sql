-- How people come in: links that work once, and sign-ins that failed.

-- A link sets a password: of the first administrator, of somebody new, of somebody who forgot. It works once.
CREATE TABLE invitations (
  secret_hash bytea PRIMARY KEY CHECK (length(secret_hash) = 32),
  user_id     int REFERENCES users ON DELETE CASCADE,  -- null: makes the first administrator
  created_by  text NOT NULL,
  created     timestamptz NOT NULL DEFAULT now(),
  expires     timestamptz NOT NULL,
  used        timestamptz
);
CREATE INDEX invitations_by_user ON invitations (user_id);

-- Failed sign-ins of the last hours: too many from one place, or for one name, and the next ones wait.
CREATE TABLE login_failures (
  name    text NOT NULL,  -- as typed, in lower case
  address text NOT NULL,
  time    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX login_failures_by_time ON login_failures (time);
