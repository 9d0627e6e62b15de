"""A read-only subset of OGC SensorThings 1.1 under /sta/v1.1, for clients that speak it.

`query` reads the query options, `entities` says what each entity is in our tables, `routes` answers. What is left
out is in `dashboard/api/README.md`.
"""
