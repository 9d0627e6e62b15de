-- Aggregates without what people have flagged: plain views over readings_good know of flags already.

CREATE VIEW unflagged_10min AS SELECT sensor_id, time, count, mean, sd, min, max, sine, cosine FROM aggregate_10min;
CREATE VIEW unflagged_hourly AS SELECT sensor_id, time, count, mean, sd, min, max, sine, cosine FROM aggregate_hourly;
CREATE VIEW unflagged_daily AS SELECT sensor_id, time, count, mean, sd, min, max, sine, cosine FROM aggregate_daily;
