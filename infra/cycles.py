"""How often a process with much to keep looks for dead cycles."""

import gc

CYCLES = 2_000, 20, 100
"""Among the new objects after so many of them, among the older ones at each 20th time, among all at each hundredth of
these. Python's own are 700, 10, 10: thousands of devices are a million objects that stay (of each some 150), and going
through all of them took a third of the stage's time, and more of the sink's. What has no cycle is freed at once as
ever, and a short-lived cycle (an error's, a task's) is found among the new."""


def look_for_cycles_seldom() -> None:
    """For services that keep something of each device, and make no large cycles."""
    gc.set_threshold(*CYCLES)
