-- Readings that statistics are made of: flags good and not evaluated. A missing value is NaN, never
-- null, and NaN sorts above infinity, so that `value < 'Infinity'` leaves it out.

CREATE VIEW readings_good AS
SELECT sensor_id, time, logged, value, quality, tests
FROM readings
WHERE quality IN (1, 2) AND value > '-Infinity' AND value < 'Infinity';

-- The mean of angles in degrees [0, 360), from the means of their sines and cosines.
CREATE FUNCTION circular_mean_deg(sine float8, cosine float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
  SELECT CASE WHEN degrees(atan2(sine, cosine)) < 0 THEN degrees(atan2(sine, cosine)) + 360
              ELSE degrees(atan2(sine, cosine)) END
$$;

-- Mardia's circular standard deviation in degrees: sqrt(-2 ln R), R the length of the mean vector.
CREATE FUNCTION circular_sd_deg(sine float8, cosine float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
  SELECT degrees(sqrt(-2 * ln(least(1, greatest(1e-300, sqrt(sine * sine + cosine * cosine))))))
$$;
