"""From the spool to the broker: the producer, its sender, heartbeats. Knows Kafka; knows no sources."""
