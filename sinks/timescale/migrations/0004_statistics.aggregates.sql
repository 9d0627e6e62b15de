-- Statistics as continuous aggregates (TimescaleDB's own licence). Late rows below the watermark show after a refresh.
-- `time` is the beginning of the span, in UTC; min and max of a direction mean nothing and are null.

CREATE MATERIALIZED VIEW aggregate_10min WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT sensor_id, time_bucket('10 minutes', time) AS time,
       count(*) AS count, avg(value) AS mean, stddev_samp(value) AS sd, min(value) AS min, max(value) AS max,
       avg(sind(value)) AS sine, avg(cosd(value)) AS cosine
FROM readings
WHERE quality IN (1, 2) AND value > '-Infinity' AND value < 'Infinity'
GROUP BY 1, 2
WITH NO DATA;

SELECT add_continuous_aggregate_policy('aggregate_10min',
  start_offset => interval '2 days', end_offset => interval '10 minutes', schedule_interval => interval '10 minutes');

CREATE VIEW statistics_10min AS
SELECT a.sensor_id, a.time, a.count,
       CASE WHEN s.quantity = 'wind_direction' THEN circular_mean_deg(a.sine, a.cosine) ELSE a.mean END AS mean,
       CASE WHEN s.quantity = 'wind_direction' THEN circular_sd_deg(a.sine, a.cosine) ELSE a.sd END AS sd,
       CASE WHEN s.quantity = 'wind_direction' THEN NULL ELSE a.min END AS min,
       CASE WHEN s.quantity = 'wind_direction' THEN NULL ELSE a.max END AS max
FROM aggregate_10min a JOIN sensors s USING (sensor_id);

CREATE MATERIALIZED VIEW aggregate_hourly WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT sensor_id, time_bucket('1 hour', time) AS time,
       count(*) AS count, avg(value) AS mean, stddev_samp(value) AS sd, min(value) AS min, max(value) AS max,
       avg(sind(value)) AS sine, avg(cosd(value)) AS cosine
FROM readings
WHERE quality IN (1, 2) AND value > '-Infinity' AND value < 'Infinity'
GROUP BY 1, 2
WITH NO DATA;

SELECT add_continuous_aggregate_policy('aggregate_hourly',
  start_offset => interval '4 days', end_offset => interval '1 hour', schedule_interval => interval '1 hour');

CREATE VIEW statistics_hourly AS
SELECT a.sensor_id, a.time, a.count,
       CASE WHEN s.quantity = 'wind_direction' THEN circular_mean_deg(a.sine, a.cosine) ELSE a.mean END AS mean,
       CASE WHEN s.quantity = 'wind_direction' THEN circular_sd_deg(a.sine, a.cosine) ELSE a.sd END AS sd,
       CASE WHEN s.quantity = 'wind_direction' THEN NULL ELSE a.min END AS min,
       CASE WHEN s.quantity = 'wind_direction' THEN NULL ELSE a.max END AS max
FROM aggregate_hourly a JOIN sensors s USING (sensor_id);

CREATE MATERIALIZED VIEW aggregate_daily WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT sensor_id, time_bucket('1 day', time) AS time,
       count(*) AS count, avg(value) AS mean, stddev_samp(value) AS sd, min(value) AS min, max(value) AS max,
       avg(sind(value)) AS sine, avg(cosd(value)) AS cosine
FROM readings
WHERE quality IN (1, 2) AND value > '-Infinity' AND value < 'Infinity'
GROUP BY 1, 2
WITH NO DATA;

SELECT add_continuous_aggregate_policy('aggregate_daily',
  start_offset => interval '14 days', end_offset => interval '1 day', schedule_interval => interval '1 day');

CREATE VIEW statistics_daily AS
SELECT a.sensor_id, a.time, a.count,
       CASE WHEN s.quantity = 'wind_direction' THEN circular_mean_deg(a.sine, a.cosine) ELSE a.mean END AS mean,
       CASE WHEN s.quantity = 'wind_direction' THEN circular_sd_deg(a.sine, a.cosine) ELSE a.sd END AS sd,
       CASE WHEN s.quantity = 'wind_direction' THEN NULL ELSE a.min END AS min,
       CASE WHEN s.quantity = 'wind_direction' THEN NULL ELSE a.max END AS max
FROM aggregate_daily a JOIN sensors s USING (sensor_id);
