"""Quality tests: arrays in, flags out. One module a test; `checks` knows which channel has which, `judge` runs them."""
