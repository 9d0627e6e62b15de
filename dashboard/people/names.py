"""What somebody is called where it says who did something. Pure.

named(prefix, owner)     # a token: "token tt_AbCdEf1 of ann"; of nobody: "token tt_AbCdEf1"
person("token tt_AbCdEf1 of ann")     # ann, whose tokens and sessions are one person
"""

import re

OF_A_TOKEN = re.compile(r"token \S+ of ")


def named(prefix: str, owner: str | None) -> str:
    """A token."""
    return f"token {prefix} of {owner}" if owner else f"token {prefix}"


def person(name: str) -> str:
    """Who stands behind a name: of a token that has an owner, the owner."""
    return OF_A_TOKEN.sub("", name, count=1) if OF_A_TOKEN.match(name) else name
