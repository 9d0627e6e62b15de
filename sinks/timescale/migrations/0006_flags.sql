-- Flags: what people say of readings. Never destructive: a flag is taken off, not deleted, and readings stay as they are.

CREATE TABLE flag_categories (
  category    text PRIMARY KEY CHECK (category <> '' AND length(category) <= 100),
  colour      text NOT NULL CHECK (colour ~ '^#[0-9a-f]{6}$'),
  excludes    boolean NOT NULL DEFAULT true,  -- whether readings_good and statistics leave such readings out
  description text NOT NULL DEFAULT ''
);
INSERT INTO flag_categories (category, colour, excludes, description) VALUES
  ('icing',        '#4dabf7', true,  'ice on the instrument'),
  ('tower shadow', '#ffd43b', true,  'wind comes through the mast'),
  ('malfunction',  '#fa5252', true,  'the instrument or its wiring is broken'),
  ('maintenance',  '#be4bdb', true,  'people were at work'),
  ('suspicious',   '#ff922b', false, 'to be looked at again'),
  ('note',         '#868e96', false, 'a remark; readings count');

-- In force while `removed` is null. `during` is half-open; a bound may be missing.
CREATE TABLE flags (
  flag_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sensor_id  int NOT NULL REFERENCES sensors,
  during     tstzrange NOT NULL CHECK (NOT isempty(during) AND NOT upper_inc(during) AND (lower_inc(during) OR lower_inf(during))),
  category   text NOT NULL REFERENCES flag_categories ON UPDATE CASCADE,
  reason     text NOT NULL DEFAULT '',
  author     text NOT NULL,
  created    timestamptz NOT NULL DEFAULT now(),
  removed    timestamptz,
  removed_by text,
  CHECK ((removed IS NULL) = (removed_by IS NULL))
);
CREATE INDEX flags_in_force ON flags (sensor_id) WHERE removed IS NULL;
CREATE INDEX flags_by_sensor ON flags (sensor_id, created);

-- What readings_good leaves out: one row a sensor, without overlap, searched by halving; a reading is not compared with each flag.
CREATE VIEW exclusions AS
SELECT f.sensor_id, range_agg(f.during) AS during
FROM flags f JOIN flag_categories c USING (category)
WHERE f.removed IS NULL AND c.excludes
GROUP BY f.sensor_id;

-- Readings that statistics are made of: flags good and not evaluated, not left out by people. A missing value is NaN,
-- never null, and NaN sorts above infinity, so that `value < 'Infinity'` leaves it out.
CREATE OR REPLACE VIEW readings_good AS
SELECT r.sensor_id, r.time, r.logged, r.value, r.quality, r.tests
FROM readings r
WHERE r.quality IN (1, 2) AND r.value > '-Infinity' AND r.value < 'Infinity'
  AND NOT EXISTS (
    SELECT FROM exclusions e WHERE e.sensor_id = r.sensor_id AND e.during @> r.time);

-- Each step of a flag's life: who, when, what.
CREATE VIEW flag_history AS
SELECT f.created AS time, 'added' AS step, f.author, f.flag_id, f.sensor_id, f.during, f.category, f.reason FROM flags f
UNION ALL
SELECT f.removed, 'removed', f.removed_by, f.flag_id, f.sensor_id, f.during, f.category, f.reason FROM flags f
WHERE f.removed IS NOT NULL;

-- A sensor's number by its name.
CREATE FUNCTION sensor(device text, name text) RETURNS int
LANGUAGE plpgsql STABLE AS $$
DECLARE found int;
BEGIN
  SELECT s.sensor_id INTO found FROM sensors s WHERE s.device_id = device AND s.channel = name;
  IF found IS NULL THEN
    RAISE EXCEPTION 'sensor %/% is not known to the database', device, name USING ERRCODE = 'no_data_found';
  END IF;
  RETURN found;
END $$;

-- Makes or changes a category.
CREATE FUNCTION flag_category(name text, colour text, excludes boolean DEFAULT true, description text DEFAULT '') RETURNS void
LANGUAGE sql AS $$
  INSERT INTO flag_categories VALUES (name, lower(colour), excludes, description)
  ON CONFLICT (category) DO UPDATE SET (colour, excludes, description) =
    ROW (excluded.colour, excluded.excludes, excluded.description)
$$;

-- Flags a range; the flag's number. A range that flags of this category cover already is not flagged again: null.
CREATE FUNCTION flag(sensor int, span tstzrange, category text, reason text DEFAULT '', author text DEFAULT current_user)
RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE made bigint;
BEGIN
  PERFORM FROM sensors s WHERE s.sensor_id = flag.sensor FOR NO KEY UPDATE;  -- one writer a sensor
  IF (SELECT range_agg(f.during) @> flag.span FROM flags f
      WHERE f.sensor_id = flag.sensor AND f.category = flag.category AND f.removed IS NULL) THEN
    RETURN NULL;
  END IF;
  INSERT INTO flags (sensor_id, during, category, reason, author)
  VALUES (flag.sensor, flag.span, flag.category, flag.reason, flag.author) RETURNING flag_id INTO made;
  RETURN made;
END $$;

-- Takes a flag off; whether it was on.
CREATE FUNCTION unflag(number bigint, author text DEFAULT current_user) RETURNS boolean
LANGUAGE sql AS $$
  WITH off AS (
    UPDATE flags SET removed = now(), removed_by = unflag.author
    WHERE flag_id = unflag.number AND removed IS NULL RETURNING 1)
  SELECT EXISTS (SELECT FROM off)
$$;

-- Takes flags off a range, of one category or (null) of all; how many were touched. What reaches beyond the range stays
-- flagged, by its first author and for his reason.
CREATE FUNCTION unflag(sensor int, span tstzrange, category text DEFAULT NULL, author text DEFAULT current_user) RETURNS int
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE touched int;
BEGIN
  PERFORM FROM sensors s WHERE s.sensor_id = unflag.sensor FOR NO KEY UPDATE;
  WITH off AS (
    UPDATE flags f SET removed = now(), removed_by = unflag.author
    WHERE f.sensor_id = unflag.sensor AND f.during && unflag.span AND f.removed IS NULL
      AND (unflag.category IS NULL OR f.category = unflag.category)
    RETURNING f.during, f.category, f.reason, f.author),
  rest AS (
    INSERT INTO flags (sensor_id, during, category, reason, author)
    SELECT unflag.sensor, part, o.category, o.reason, o.author
    FROM off o, unnest(tstzmultirange(o.during) - tstzmultirange(unflag.span)) AS part)
  SELECT count(*) INTO touched FROM off;
  RETURN touched;
END $$;
