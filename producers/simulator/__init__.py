"""Made-up devices with named faults: seeded, reproducible, and with the truth about what was sent."""
