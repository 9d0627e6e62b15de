"""A question to the person at the terminal, before what is not undone with a word."""

import sys

import click

from schemas.errors import Refused


def is_wanted(question: str) -> bool:
    """Whether the person says yes; the question goes to standard error. Raises `Refused` where nobody can be asked."""
    if not sys.stdin.isatty():
        raise Refused("nobody is at a terminal to be asked: say --yes; nothing was done")
    return click.confirm(question, err=True)
