"""Whether two versions of a schema understand each other. Knows Avro's rules by the `avro` package, which only
developers have; imported when it is asked.

Full compatibility is wanted: a reader of today reads a writer of then, and a reader of then, not yet upgraded, reads a
writer of today. So a new version may add fields with a default and drop fields with a default, and nothing else.
"""

from itertools import combinations

from schemas.bundle import Bundle


def breaks(former: str, later: str) -> tuple[str, ...]:
    """What does not fit between two versions (schema texts), in both directions; empty: fully compatible."""
    from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType  # noqa: PLC0415 - see above
    from avro.schema import parse  # noqa: PLC0415

    told = []
    for who, reader, writer in (("new reader", later, former), ("old reader", former, later)):
        result = ReaderWriterCompatibilityChecker().get_compatibility(parse(reader), parse(writer))
        if result.compatibility is not SchemaCompatibilityType.compatible:
            places = ", ".join(sorted(result.locations)) or "/"
            told.append(f"{who}: {'; '.join(sorted(result.messages)) or 'incompatible'} at {places}")
    return tuple(told)


def bundle_breaks(bundle: Bundle) -> tuple[str, ...]:
    """What does not fit between any two versions of any schema of the bundle."""
    return tuple(
        f"{former.name} v{former.version} and v{later.version}: {what}"
        for name in sorted({schema.name for schema in bundle.schemas})
        for former, later in combinations(bundle.versions(name), 2)
        for what in breaks(former.text, later.text)
    )
