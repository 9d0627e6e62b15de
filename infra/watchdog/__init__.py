"""Looks after what no part can tell of itself: neighbours that are away, work that stands still, disks that fill."""
