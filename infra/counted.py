"""How many of what, as people say it: `1 file`, `12,000 files`."""


def counted(number: int, thing: str, things: str | None = None) -> str:
    """`things` where the plural is not made with an s."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
