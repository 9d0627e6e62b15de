-- How many events an alarm had before: its end comes after what a person did about it, whosever clock was ahead.

ALTER TABLE alarms ADD COLUMN step int NOT NULL DEFAULT 0;

UPDATE alarms a SET step = e.step
FROM (
  SELECT alarm_id, least(max((event -> 'data' ->> 'step')::numeric), 2147483647)::int AS step FROM alarm_events
  WHERE event -> 'data' ->> 'step' <> '0' AND event -> 'data' ->> 'replayed' IS DISTINCT FROM 'true'
  GROUP BY alarm_id
) e
WHERE e.alarm_id = a.alarm_id AND e.step > 0;
