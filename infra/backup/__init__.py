"""Backup and restore of the database. Knows PostgreSQL and TimescaleDB; knows no table by name but `migrations`."""
