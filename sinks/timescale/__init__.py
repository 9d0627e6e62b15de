"""Kafka to the database, each record once. Knows topics and tables; knows no stage and no page."""
