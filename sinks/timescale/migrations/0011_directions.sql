-- Every direction of the IEA model is one; schemas/devices.py has the same list.

CREATE OR REPLACE FUNCTION is_angle(quantity text, statistic text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT coalesce(
    quantity IN ('wind_direction', 'motion_corrected_wind_direction', 'wave_direction', 'water_direction',
                 'compass_direction', 'orientation')
    AND statistic IN ('avg', 'min', 'max', 'gust', 'median', 'mode'), false)
$$;
