"""Certificates of instruments, put to the sensors of a device from a day on."""
