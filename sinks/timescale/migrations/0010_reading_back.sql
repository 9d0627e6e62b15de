-- What people ask first, as views: what is it now, how much of it do we have, what is missing.
-- Each looks at one sensor at a time (LATERAL), so that `WHERE device_id = ... AND channel = ...` reads by index.

CREATE FUNCTION quality_word(quality smallint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
  SELECT CASE quality WHEN 1 THEN 'good' WHEN 2 THEN 'not_evaluated' WHEN 3 THEN 'suspect'
                      WHEN 4 THEN 'fail' WHEN 9 THEN 'missing' END
$$;

-- The newest reading of each sensor; null where there never was one.
CREATE VIEW sensors_now AS
SELECT s.sensor_id, d.station_id, s.device_id, s.channel, s.point, s.quantity, s.statistic, s.unit, s.height_m,
       s.active, r.time, r.logged, r.value, r.quality, quality_word(r.quality) AS flag, r.tests,
       now() - r.time AS age
FROM sensors s
LEFT JOIN devices d ON d.device_id = s.device_id
LEFT JOIN LATERAL (
  SELECT time, logged, value, quality, tests FROM readings
  WHERE sensor_id = s.sensor_id ORDER BY time DESC LIMIT 1) r ON true;

-- When each sensor ought to have readings: from the day its device exists, else from the first reading, to now; one
-- that is no longer configured, to its last reading. `step` is the interval; null where none is configured.
CREATE VIEW sensor_lives AS
SELECT s.sensor_id, s.device_id, s.channel, s.active,
       make_interval(secs => d.interval_s) AS step, d.interval_s,
       coalesce(d.exists_from, f.time) AS begins,
       CASE WHEN s.active THEN now() ELSE l.time + coalesce(make_interval(secs => d.interval_s), interval '0') END AS ends,
       f.time AS first_time, l.time AS last_time
FROM sensors s
LEFT JOIN devices d ON d.device_id = s.device_id
LEFT JOIN LATERAL (SELECT time FROM readings WHERE sensor_id = s.sensor_id ORDER BY time LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT time FROM readings WHERE sensor_id = s.sensor_id ORDER BY time DESC LIMIT 1) l ON true;

-- The months (UTC) that [begins, ends) touches. STRICT keeps it from being inlined, and its ROWS with it: told of a
-- thousand months, PostgreSQL spends two seconds on compiling a plan that runs for thirty milliseconds.
CREATE FUNCTION months_between(begins timestamptz, ends timestamptz)
RETURNS TABLE (month timestamptz, next timestamptz)
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT ROWS 12 AS $$
  SELECT t AT TIME ZONE 'UTC', (t + interval '1 month') AT TIME ZONE 'UTC'
  FROM generate_series(date_trunc('month', begins AT TIME ZONE 'UTC'),
                       ends AT TIME ZONE 'UTC' - interval '1 us', interval '1 month') t
$$;

-- By sensor and month (UTC): readings expected by the interval, stored, there (not missing), and good.
CREATE VIEW data_recovery AS
SELECT v.sensor_id, v.device_id, v.channel, m.month, e.expected, c.stored, c.present, g.good,
       g.good / nullif(e.expected, 0)::float8 AS recovery,
       c.present / nullif(e.expected, 0)::float8 AS availability
FROM sensor_lives v
CROSS JOIN LATERAL months_between(least(v.begins, v.first_time), v.ends) m
CROSS JOIN LATERAL (
  SELECT CASE WHEN v.interval_s > 0 THEN  -- `greatest` would make 0 of null
    greatest(0, floor(extract(epoch FROM least(m.next, v.ends) - greatest(m.month, v.begins))::float8
                      / v.interval_s + 1e-6))::bigint END AS expected) e
CROSS JOIN LATERAL (
  SELECT count(*) AS stored, count(*) FILTER (WHERE quality <> 9) AS present FROM readings
  WHERE sensor_id = v.sensor_id AND time >= m.month AND time < m.next) c
CROSS JOIN LATERAL (
  SELECT count(*) AS good FROM readings_good
  WHERE sensor_id = v.sensor_id AND time >= m.month AND time < m.next) g;

-- Ranges [begins, ends) in which a sensor with an interval has no reading, or only ones that say "missing".
-- Half an interval of jitter is no gap. `is_open`: it lasts until now.
CREATE VIEW gaps AS
SELECT v.sensor_id, v.device_id, v.channel, g.begins, g.ends, g.ends - g.begins AS length,
       greatest(1, round(extract(epoch FROM g.ends - g.begins)::float8 / v.interval_s))::bigint AS missing, g.is_open
FROM sensor_lives v
CROSS JOIN LATERAL (
  SELECT coalesce(lag(time) OVER (ORDER BY time) + v.step, v.begins) AS begins, time AS ends, false AS is_open
  FROM readings WHERE sensor_id = v.sensor_id AND quality <> 9
  UNION ALL
  SELECT coalesce((SELECT time FROM readings WHERE sensor_id = v.sensor_id AND quality <> 9
                   ORDER BY time DESC LIMIT 1) + v.step, v.begins), v.ends, v.active) g
WHERE g.ends - g.begins > v.step / 2;
