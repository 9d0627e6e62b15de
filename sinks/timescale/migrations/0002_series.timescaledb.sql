-- What grows with time, with TimescaleDB. No default time index: it costs a sorted COPY half of its rate.

CREATE TABLE readings (
  sensor_id int NOT NULL,
  time      timestamptz NOT NULL,
  logged    float8 NOT NULL,  -- NaN: missing
  value     float8 NOT NULL,  -- NaN: missing
  quality   smallint NOT NULL,
  tests     int NOT NULL,
  PRIMARY KEY (sensor_id, time)
);

CREATE TABLE windows (
  sensor_id  int NOT NULL,
  length_s   int NOT NULL,
  start      timestamptz NOT NULL,
  generation bigint NOT NULL,
  revision   int NOT NULL,
  count      int NOT NULL,
  expected   int NOT NULL,
  suspect    int NOT NULL,
  failed     int NOT NULL,
  missing    int NOT NULL,
  mean       float8 NOT NULL,  -- NaN where there is none
  sd         float8 NOT NULL,
  min        float8 NOT NULL,
  max        float8 NOT NULL,
  PRIMARY KEY (sensor_id, length_s, start)
);

-- `received` is the broker's clock, `time` and `started` the device's own.
CREATE TABLE heartbeats (
  device_id          text NOT NULL,
  received           timestamptz NOT NULL,
  time               timestamptz NOT NULL,
  spool_id           text NOT NULL,
  started            timestamptz NOT NULL,
  version            text NOT NULL,
  next_sequence      bigint NOT NULL,
  depth              bigint NOT NULL,
  depth_bytes        bigint NOT NULL,
  oldest_unsent      timestamptz,
  accepted           bigint NOT NULL,
  sent               bigint NOT NULL,
  dropped            bigint NOT NULL,
  refused            bigint NOT NULL,
  free_disk_bytes    bigint NOT NULL,
  clock_offset_s     float8,
  clock_synchronised boolean,
  sources            jsonb NOT NULL,
  PRIMARY KEY (device_id, received, time)
);

SELECT create_hypertable('readings', by_range('time', interval '7 days'), create_default_indexes => false);
SELECT create_hypertable('windows', by_range('start', interval '30 days'), create_default_indexes => false);
SELECT create_hypertable('heartbeats', by_range('received', interval '7 days'), create_default_indexes => false);
