"""The REST API under /api/v1: what is measured and configured, and what people do about it. One file a resource.

Lists come in pages by key (`paging`), series in any of five formats (`formats`) from slices that are read one after the
other (`series`), so that no answer holds a connection while its client is slow. `feature` gathers the routers.
"""
