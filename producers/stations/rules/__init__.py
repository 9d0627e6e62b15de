"""Alarm rules in the configuration of devices: who has which, and how people change them."""
