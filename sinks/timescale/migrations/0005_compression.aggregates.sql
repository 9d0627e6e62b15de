-- Compression (TimescaleDB's own licence): a sensor's rows together, in order of time. A chunk is compressed once data is
-- not usually late any more: rows that come later still go in, at a tenth of the rate.

ALTER TABLE readings SET (timescaledb.compress, timescaledb.compress_segmentby = 'sensor_id', timescaledb.compress_orderby = 'time');
ALTER TABLE windows SET (timescaledb.compress, timescaledb.compress_segmentby = 'sensor_id, length_s', timescaledb.compress_orderby = 'start');
ALTER TABLE heartbeats SET (timescaledb.compress, timescaledb.compress_segmentby = 'device_id', timescaledb.compress_orderby = 'received, time');

SELECT add_compression_policy('readings', compress_after => interval '30 days');
SELECT add_compression_policy('windows', compress_after => interval '60 days');
SELECT add_compression_policy('heartbeats', compress_after => interval '30 days');
