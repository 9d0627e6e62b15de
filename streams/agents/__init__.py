"""Faust around the pure core: the only place that imports it."""
