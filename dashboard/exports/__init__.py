"""Exports: what is stored, as files that other programs read. Written whole or not at all."""
