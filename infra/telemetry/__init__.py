"""What a process says of itself to machines: figures, health, traces. See README.md beside this file."""
