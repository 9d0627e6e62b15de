"""Sources of readings: each runs in a thread of its own, is watched and started again. Knows no network."""
