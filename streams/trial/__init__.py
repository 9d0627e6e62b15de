"""Trying limits on a file before they are deployed: files in, a report out. Runs the stage's own tests."""
