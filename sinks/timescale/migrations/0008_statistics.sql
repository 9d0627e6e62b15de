-- Statistics without what people have flagged. The mean, least and largest of a direction are angles; its deviation is not.

CREATE FUNCTION is_angle(quantity text, statistic text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT coalesce(quantity = 'wind_direction' AND statistic IN ('avg', 'min', 'max', 'gust', 'median', 'mode'), false)
$$;

DO $outer$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['10min', 'hourly', 'daily'] LOOP
    EXECUTE format($view$
      CREATE OR REPLACE VIEW statistics_%1$s AS
      SELECT a.sensor_id, a.time, a.count,
             CASE WHEN is_angle(s.quantity, s.statistic) THEN circular_mean_deg(a.sine, a.cosine) ELSE a.mean END AS mean,
             CASE WHEN is_angle(s.quantity, s.statistic) THEN circular_sd_deg(a.sine, a.cosine) ELSE a.sd END AS sd,
             CASE WHEN is_angle(s.quantity, s.statistic) THEN NULL ELSE a.min END AS min,
             CASE WHEN is_angle(s.quantity, s.statistic) THEN NULL ELSE a.max END AS max
      FROM unflagged_%1$s a JOIN sensors s USING (sensor_id)
    $view$, name);
  END LOOP;
END $outer$;
