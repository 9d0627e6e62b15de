"""Flags: what people say of stored readings. Written directly to the database, as everything people do here."""
