"""Imported files as the database knows them, and what is missing of the readings they should have brought."""
