"""Stored readings calibrated anew, from their logged values by the calibrations now valid."""
