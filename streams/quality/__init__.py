"""Quality tests: arrays in, flags out. One module a test; `judge` runs those that have limits."""
