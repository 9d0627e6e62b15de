"""Stations: who stands where and measures what. From data models to the `devices` topic, and back to people."""
