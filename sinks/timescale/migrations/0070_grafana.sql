-- What dashboards of others and notebooks ask of the present: nobody's name and no payload in it.

-- Each configured device, with its newest heartbeat.
CREATE VIEW devices_now AS
SELECT d.device_id, d.name, d.station_id, d.interval_s, d.silence_limit_s,
       h.received AS heard, now() - h.received AS silent_for, h.version, h.depth AS spool_depth,
       h.depth_bytes AS spool_bytes, h.oldest_unsent, h.dropped, h.refused, h.free_disk_bytes, h.clock_offset_s
FROM devices d
LEFT JOIN LATERAL (SELECT * FROM heartbeats h WHERE h.device_id = d.device_id ORDER BY h.received DESC LIMIT 1) h
  ON true
WHERE d.active;

-- Alarms that are not over.
CREATE VIEW alarms_now AS
SELECT alarm_id, rule, source, device_id, station_id, severity, state, reason, onset, value, "limit", unit, message, time
FROM alarms
WHERE state <> 'cleared';
