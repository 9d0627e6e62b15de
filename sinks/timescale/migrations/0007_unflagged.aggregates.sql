-- Aggregates without what people have flagged. A continuous aggregate knows nothing of flags: spans that a flag touches are
-- taken out of it, and those at a flag's edges, which it covers in part, are made anew from the readings. So a flag counts
-- at once, and nothing has to be refreshed. Where retention has dropped the readings, a span at an edge is left out.

DO $outer$
DECLARE
  each record;
BEGIN
  FOR each IN SELECT * FROM (VALUES ('10min', '10 minutes'), ('hourly', '1 hour'), ('daily', '24 hours')) v (name, span) LOOP
    EXECUTE format($view$
      CREATE VIEW unflagged_%1$s AS
      SELECT a.sensor_id, a.time, a.count, a.mean, a.sd, a.min, a.max, a.sine, a.cosine
      FROM aggregate_%1$s a
      WHERE NOT EXISTS (
        SELECT FROM exclusions e
        WHERE e.sensor_id = a.sensor_id AND e.during && tstzrange(a.time, a.time + interval %2$L))
      UNION ALL
      SELECT b.sensor_id, b.time, x.count, x.mean, x.sd, x.min, x.max, x.sine, x.cosine
      FROM (
        SELECT DISTINCT e.sensor_id, time_bucket(%2$L, edge) AS time
        FROM (SELECT sensor_id, unnest(during) AS during FROM exclusions) e,
          LATERAL (VALUES (lower(e.during)), (upper(e.during))) AS v (edge)
        WHERE isfinite(edge)
          AND e.during && tstzrange(time_bucket(%2$L, edge), time_bucket(%2$L, edge) + interval %2$L)) b
      CROSS JOIN LATERAL (  -- one look by index for each edge
        SELECT count(*) AS count, avg(r.value) AS mean, stddev_samp(r.value) AS sd, min(r.value) AS min,
               max(r.value) AS max, avg(sind(r.value)) AS sine, avg(cosd(r.value)) AS cosine
        FROM readings_good r
        WHERE r.sensor_id = b.sensor_id AND r.time >= b.time AND r.time < b.time + interval %2$L) x
      WHERE x.count > 0
    $view$, each.name, each.span);
  END LOOP;
END $outer$;
