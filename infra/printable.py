"""Words of others on a line of ours and in our records: a record's key, an alarm's source, a file's name.

A file's name is any bytes; Python carries those that are no UTF-8 as halves of characters, which no topic, database or
JSON takes. What a record's key says may steer a terminal or end a mail's header.
"""


def printable(text: str) -> str:
    """As long as it was: control characters, line ends of any script and halves of characters become spaces."""
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)


def storable(text: str) -> str:
    """As a topic and a database take it: halves of characters and zeros become question marks, nothing else."""
    return text.encode(errors="replace").decode().replace("\0", "?")
