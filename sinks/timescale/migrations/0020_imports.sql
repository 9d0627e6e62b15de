-- Imported files in full, certificates of calibrations, and what stands at a station.

ALTER TABLE imports
  ADD COLUMN source        text,
  ADD COLUMN bytes         bigint NOT NULL DEFAULT 0,
  ADD COLUMN uploaded_by   text,
  ADD COLUMN found         timestamptz,
  ADD COLUMN maker         text NOT NULL DEFAULT '',
  ADD COLUMN model         text NOT NULL DEFAULT '',
  ADD COLUMN serial        text NOT NULL DEFAULT '',
  ADD COLUMN "table"       text NOT NULL DEFAULT '',
  ADD COLUMN program       text NOT NULL DEFAULT '',
  ADD COLUMN signature     text NOT NULL DEFAULT '',
  ADD COLUMN columns       text[] NOT NULL DEFAULT '{}',
  ADD COLUMN left_out      text[] NOT NULL DEFAULT '{}',
  ADD COLUMN first_time    timestamptz,
  ADD COLUMN last_time     timestamptz,
  ADD COLUMN missing       bigint NOT NULL DEFAULT 0,
  ADD COLUMN repeated      bigint NOT NULL DEFAULT 0,
  ADD COLUMN out_of_order  bigint NOT NULL DEFAULT 0,
  ADD COLUMN problems      bigint NOT NULL DEFAULT 0,
  ADD COLUMN questions     text[] NOT NULL DEFAULT '{}',
  ADD COLUMN archive       text,
  ADD COLUMN raw_partition int,
  ADD COLUMN raw_from      bigint,
  ADD COLUMN raw_to        bigint,
  ADD COLUMN rejected      bigint NOT NULL DEFAULT 0,
  ADD COLUMN stored        timestamptz;
CREATE INDEX imports_by_time ON imports (time);
CREATE INDEX imports_by_device ON imports (device_id, first_time);

ALTER TABLE calibrations
  ADD COLUMN certificate   text,
  ADD COLUMN laboratory    text,
  ADD COLUMN calibrated_on date;

ALTER TABLE stations
  ADD COLUMN kind text;
