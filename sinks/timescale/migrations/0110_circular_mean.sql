-- A mean direction that is by rounding less than nothing west of north is 0: it became 360, which is not in [0, 360).

CREATE OR REPLACE FUNCTION circular_mean_deg(sine float8, cosine float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
  SELECT CASE WHEN atan2(sine, cosine) >= 0 THEN degrees(atan2(sine, cosine)) + 0
              WHEN degrees(atan2(sine, cosine)) + 360 < 360 THEN degrees(atan2(sine, cosine)) + 360
              ELSE 0 END
$$;
