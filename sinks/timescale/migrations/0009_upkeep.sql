-- How long series are kept, and calibrating anew what is stored.

-- Nothing older than `horizon` is taken any more; up to `dropped` it is gone. Both only ever move on: aggregates outlive
-- the readings, and making them anew from less would erase them. No row: kept for ever.
CREATE TABLE retention (
  series  text PRIMARY KEY,
  keep    interval CHECK (keep >= interval '31 days'),  -- null: for ever. Less would meet rows that are only late.
  horizon timestamptz,
  dropped timestamptz,
  oldest  timestamptz  -- begin of the oldest chunk when last seen: if it moves on, somebody else has dropped
);

-- One for each sensor and command; `reached` moves in the transaction that has rewritten what lies before it.
CREATE TABLE recalibrations (
  recalibration_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sensor_id   int NOT NULL REFERENCES sensors,
  asked_from  timestamptz,               -- as asked; null: from the first reading, to the last
  asked_to    timestamptz,
  begins      timestamptz NOT NULL,
  ends        timestamptz NOT NULL,
  reached     timestamptz NOT NULL,
  numbers     jsonb NOT NULL,            -- by which numbers; if they change the work begins anew
  rows        bigint NOT NULL DEFAULT 0,
  changed     bigint NOT NULL DEFAULT 0,
  changed_from timestamptz,              -- readings that were changed lie in [changed_from, changed_to]
  changed_to   timestamptz,
  summary     jsonb NOT NULL DEFAULT '{}',
  author      text NOT NULL,
  started     timestamptz NOT NULL DEFAULT now(),
  finished    timestamptz                -- null: at work, or interrupted; aggregates have followed when it is set
);
CREATE INDEX recalibrations_by_sensor ON recalibrations (sensor_id, started);

-- Arithmetic as IEEE 754 has it: what is too large becomes infinite, what is too small 0. PostgreSQL raises an error.
-- Functions that catch an error may not run in parallel: it takes a subtransaction.
CREATE FUNCTION ieee_add(a float8, b float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
  RETURN a + b;
EXCEPTION WHEN numeric_value_out_of_range THEN
  RETURN CASE WHEN a > 0 THEN 'Infinity' ELSE '-Infinity' END::float8;
END $$;

CREATE FUNCTION ieee_beyond(a float8, b float8, is_large boolean) RETURNS float8
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT CASE WHEN (a < 0) = (b < 0) THEN 1 ELSE -1 END * CASE WHEN is_large THEN 'Infinity' ELSE '0' END::float8
$$;

CREATE FUNCTION ieee_multiply(a float8, b float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
  RETURN a * b;
EXCEPTION WHEN numeric_value_out_of_range THEN
  RETURN ieee_beyond(a, b, log(abs(a)) + log(abs(b)) > 0);
END $$;

CREATE FUNCTION ieee_divide(a float8, b float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
  RETURN a / b;
EXCEPTION WHEN numeric_value_out_of_range THEN
  RETURN ieee_beyond(a, b, log(abs(a)) - log(abs(b)) > 0);
END $$;

-- The remainder by 360 in [0, 360), exact as C's fmod is: each subtraction here is of numbers within a factor of two.
CREATE FUNCTION wrapped_deg(degrees float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  rest float8 := abs(degrees);
  step float8 := 360;
BEGIN
  IF degrees = 'NaN' OR rest = 'Infinity' THEN
    RETURN degrees;
  END IF;
  WHILE step <= rest / 2 LOOP
    step := step * 2;
  END LOOP;
  WHILE step >= 360 LOOP
    IF rest >= step THEN
      rest := rest - step;
    END IF;
    step := step / 2;
  END LOOP;
  IF degrees < 0 AND rest > 0 THEN
    rest := 360 - rest;
  END IF;
  RETURN CASE WHEN rest >= 360 THEN 0 ELSE rest END;
END $$;

-- What the numbers of one calibration make of a logged value; the stage's formula in the stage's order of operations.
-- Way: `stays`, `missing` (a number is), `scaled`, `turned`.
CREATE FUNCTION calibrated(way text, logged float8, logger_slope float8, logger_offset float8, slope float8,
                           "offset" float8, turn float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF way = 'scaled' THEN
    RETURN slope * ((logged - logger_offset) / logger_slope) + "offset";
  ELSIF way = 'turned' THEN
    RETURN wrapped_deg(logged + turn);
  END IF;
  RETURN logged;
EXCEPTION WHEN numeric_value_out_of_range THEN
  IF way = 'turned' THEN
    RETURN wrapped_deg(ieee_add(logged, turn));
  END IF;
  RETURN ieee_add(ieee_multiply(slope, ieee_divide(ieee_add(logged, -logger_offset), logger_slope)), "offset");
END $$;

-- What applies to each sensor when, in half-open spans; where no span lies, `without` applies.
CREATE VIEW calibration_ways AS
SELECT k.sensor_id, k.kind, c.place, c.valid_from, c.valid_to,
       CASE k.kind
         WHEN 'other' THEN 'stays'
         WHEN 'angle' THEN
           CASE WHEN c.dead_band_orientation_deg IS NULL OR c.logger_offset IS NULL THEN 'missing'
                WHEN c.dead_band_orientation_deg = c.logger_offset THEN 'stays' ELSE 'turned' END
         WHEN 'spread' THEN
           CASE WHEN c.logger_slope IS NULL OR c.slope IS NULL THEN 'missing'
                WHEN abs(c.slope) = abs(c.logger_slope) THEN 'stays' ELSE 'scaled' END
         ELSE
           CASE WHEN c.logger_slope IS NULL OR c.slope IS NULL OR c.logger_offset IS NULL OR c."offset" IS NULL THEN 'missing'
                WHEN c.slope = c.logger_slope AND c."offset" = c.logger_offset THEN 'stays' ELSE 'scaled' END
       END AS way,
       CASE k.kind WHEN 'spread' THEN abs(c.logger_slope) ELSE c.logger_slope END AS logger_slope,
       CASE k.kind WHEN 'spread' THEN 0 ELSE c.logger_offset END AS logger_offset,
       CASE k.kind WHEN 'spread' THEN abs(c.slope) ELSE c.slope END AS slope,
       CASE k.kind WHEN 'spread' THEN 0 ELSE c."offset" END AS "offset",
       ieee_add(c.dead_band_orientation_deg, -c.logger_offset) AS turn,
       CASE k.kind WHEN 'other' THEN 'stays' ELSE 'missing' END AS without
FROM (
  SELECT sensor_id,
         CASE WHEN is_angle(quantity, statistic) THEN 'angle'
              WHEN statistic IN ('sd', 'range') AND quantity <> 'wind_direction' THEN 'spread'
              WHEN statistic IN ('avg', 'min', 'max', 'gust', 'median', 'mode') THEN 'point'
              ELSE 'other' END AS kind
  FROM sensors) k
LEFT JOIN calibrations c USING (sensor_id);
