-- One reading has no deviation, be it a direction's or another's: null, as SQL has it. Equal directions have 0, not -0.

CREATE OR REPLACE FUNCTION circular_sd_deg(sine float8, cosine float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
  SELECT degrees(sqrt(0 - 2 * ln(least(1, greatest(1e-300, sqrt(sine * sine + cosine * cosine))))))
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
             CASE WHEN NOT is_angle(s.quantity, s.statistic) THEN a.sd
                  WHEN a.count > 1 THEN circular_sd_deg(a.sine, a.cosine) END AS sd,
             CASE WHEN is_angle(s.quantity, s.statistic) THEN NULL ELSE a.min END AS min,
             CASE WHEN is_angle(s.quantity, s.statistic) THEN NULL ELSE a.max END AS max
      FROM unflagged_%1$s a JOIN sensors s USING (sensor_id)
    $view$, name);
  END LOOP;
END $outer$;
