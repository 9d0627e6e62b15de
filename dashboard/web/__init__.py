"""The web service: one FastAPI application for pages and API. Knows the database's tables and the topics.

`app` composes it, and its docstring says how a part (a `Feature` with routers) is added.
"""
