-- Exports that run on their own: asked for on the dashboard or the API, made one after another, kept for some days.

CREATE TABLE exports (
  export_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  request      jsonb NOT NULL,
  author       text NOT NULL,
  state        text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled', 'expired')),
  is_cancelled boolean NOT NULL DEFAULT false,  -- asked for; the state follows
  created      timestamptz NOT NULL DEFAULT now(),
  started      timestamptz,
  heard        timestamptz,                     -- last word of who makes it; silent for long: it is begun again
  tries        int NOT NULL DEFAULT 0,
  finished     timestamptz,
  rows         bigint NOT NULL DEFAULT 0,
  share        float8 NOT NULL DEFAULT 0,       -- of the period, 0 to 1
  left_s       float8,                          -- null: nothing can be said yet
  summary      jsonb,                           -- of one that is done: files, rows, what was left out
  reason       text                             -- of one that failed
);
CREATE INDEX exports_by_state ON exports (state, export_id);
