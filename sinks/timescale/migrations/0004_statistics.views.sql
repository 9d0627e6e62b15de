-- Statistics as plain views: plain PostgreSQL, and TimescaleDB under the Apache licence.
-- `time` is the beginning of the span, in UTC; min and max of a direction mean nothing and are null.

CREATE VIEW aggregate_10min AS
SELECT sensor_id, date_bin('10 minutes', time, '2000-01-01 00:00+00') AS time,
       count(*) AS count, avg(value) AS mean, stddev_samp(value) AS sd, min(value) AS min, max(value) AS max,
       avg(sind(value)) AS sine, avg(cosd(value)) AS cosine
FROM readings_good
GROUP BY 1, 2;

CREATE VIEW statistics_10min AS
SELECT a.sensor_id, a.time, a.count,
       CASE WHEN s.quantity = 'wind_direction' THEN circular_mean_deg(a.sine, a.cosine) ELSE a.mean END AS mean,
       CASE WHEN s.quantity = 'wind_direction' THEN circular_sd_deg(a.sine, a.cosine) ELSE a.sd END AS sd,
       CASE WHEN s.quantity = 'wind_direction' THEN NULL ELSE a.min END AS min,
       CASE WHEN s.quantity = 'wind_direction' THEN NULL ELSE a.max END AS max
FROM aggregate_10min a JOIN sensors s USING (sensor_id);

CREATE VIEW aggregate_hourly AS
SELECT sensor_id, date_bin('1 hour', time, '2000-01-01 00:00+00') AS time,
       count(*) AS count, avg(value) AS mean, stddev_samp(value) AS sd, min(value) AS min, max(value) AS max,
       avg(sind(value)) AS sine, avg(cosd(value)) AS cosine
FROM readings_good
GROUP BY 1, 2;

CREATE VIEW statistics_hourly AS
SELECT a.sensor_id, a.time, a.count,
       CASE WHEN s.quantity = 'wind_direction' THEN circular_mean_deg(a.sine, a.cosine) ELSE a.mean END AS mean,
       CASE WHEN s.quantity = 'wind_direction' THEN circular_sd_deg(a.sine, a.cosine) ELSE a.sd END AS sd,
       CASE WHEN s.quantity = 'wind_direction' THEN NULL ELSE a.min END AS min,
       CASE WHEN s.quantity = 'wind_direction' THEN NULL ELSE a.max END AS max
FROM aggregate_hourly a JOIN sensors s USING (sensor_id);

CREATE VIEW aggregate_daily AS
SELECT sensor_id, date_bin('1 day', time, '2000-01-01 00:00+00') AS time,
       count(*) AS count, avg(value) AS mean, stddev_samp(value) AS sd, min(value) AS min, max(value) AS max,
       avg(sind(value)) AS sine, avg(cosd(value)) AS cosine
FROM readings_good
GROUP BY 1, 2;

CREATE VIEW statistics_daily AS
SELECT a.sensor_id, a.time, a.count,
       CASE WHEN s.quantity = 'wind_direction' THEN circular_mean_deg(a.sine, a.cosine) ELSE a.mean END AS mean,
       CASE WHEN s.quantity = 'wind_direction' THEN circular_sd_deg(a.sine, a.cosine) ELSE a.sd END AS sd,
       CASE WHEN s.quantity = 'wind_direction' THEN NULL ELSE a.min END AS min,
       CASE WHEN s.quantity = 'wind_direction' THEN NULL ELSE a.max END AS max
FROM aggregate_daily a JOIN sensors s USING (sensor_id);
