-- A recalibration judges gross range anew, and stands: what was calculated before it does not undo it.

ALTER TABLE recalibrations ADD COLUMN as_of timestamptz;  -- when `numbers` were read: calculations before it are older
UPDATE recalibrations SET as_of = started;
ALTER TABLE recalibrations ALTER COLUMN as_of SET NOT NULL;
CREATE INDEX recalibrations_by_as_of ON recalibrations (as_of);

-- The bounds of the gross range test, [least, largest], as the configuration has them; null: none.
CREATE FUNCTION gross_range_bounds(limits jsonb, kind text) RETURNS float8[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN jsonb_typeof(limits -> 'gross_range' -> kind) = 'array'
    THEN ARRAY[(limits -> 'gross_range' -> kind ->> 0)::float8, (limits -> 'gross_range' -> kind ->> 1)::float8] END
$$;

-- What a stored reading becomes by the numbers of one calibration and the bounds of the gross range test; `differs`
-- tells 0 from -0. `bits` says whether the value stays "not calibrated" (bit 16). Of the other tests only the bits are
-- known, not how badly each judged: where one of them flagged the reading, its flag gets no better than it was.
CREATE FUNCTION recalibrated(
  logged float8, was_value float8, was_quality smallint, was_tests int,
  way text, logger_slope float8, logger_offset float8, slope float8, "offset" float8, turn float8, bits int,
  fail float8[], suspect float8[],
  OUT value float8, OUT quality smallint, OUT tests int, OUT differs boolean)
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  grade int;  -- 4 fail, 3 suspect, 1 good; null: not tested
  others constant int := was_tests & 65534;
BEGIN
  value := calibrated(way, logged, logger_slope, logger_offset, slope, "offset", turn);
  IF abs(value) = 'Infinity' OR value < fail[1] OR value > fail[2] THEN
    grade := 4;
  ELSIF value < suspect[1] OR value > suspect[2] THEN
    grade := 3;
  ELSIF fail IS NOT NULL OR suspect IS NOT NULL THEN
    grade := 1;
  END IF;
  IF value = 'NaN' THEN
    quality := 9;
    grade := NULL;
  ELSIF grade = 4 THEN
    quality := 4;
  ELSIF grade = 3 THEN
    quality := CASE WHEN others <> 0 AND was_quality = 4 THEN 4 ELSE 3 END;
  ELSIF others <> 0 AND was_quality <> 9 THEN
    quality := was_quality;
  ELSIF was_tests & 1 <> 0 OR was_quality = 9 OR (was_quality = 2 AND grade = 1) THEN
    quality := coalesce(grade, 2);
  ELSE
    quality := was_quality;
  END IF;
  tests := (was_tests & ~65537) | bits | CASE WHEN grade > 1 THEN 1 ELSE 0 END;
  differs := value <> was_value OR quality <> was_quality OR tests <> was_tests
    OR (value = 0 AND float8send(value) <> float8send(was_value));
END $$;
