"""The command's help reads as if one author wrote it, and what the pages tell people to type is there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from infra.command import GUESTS, imported, telltale

ROOT = Path(__file__).parents[2]
TERMINAL = 78
"""Columns that click writes in a terminal of 80."""


def inside(path: tuple[str, ...], command: click.Command, parent: click.Context | None) -> Iterator[click.Context]:
    """The command and all below it, each in its context."""
    context = click.Context(command, info_name=path[-1] if path else "telltale", parent=parent, terminal_width=TERMINAL)
    yield context
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        yield from inside((*path, name), below(context, (*path, name)), context)


def below(context: click.Context, path: tuple[str, ...]) -> click.Command:
    if path in GUESTS:
        return imported(" ".join(path), GUESTS[path][0])
    assert isinstance(context.command, click.Group)
    found = context.command.get_command(context, path[-1])
    assert found is not None, f"no command {' '.join(path)}"
    return found


ALL = {context.command_path: context for context in inside((), telltale, None)}


def options(context: click.Context) -> Iterator[click.Option]:
    return (each for each in context.command.params if isinstance(each, click.Option))


@pytest.mark.parametrize("path", ALL)
def test_a_command_says_in_sentences_what_it_does(path: str) -> None:
    said = (ALL[path].command.help or "").strip()
    paragraphs = [each.strip() for each in said.split("\n\n") if "\b" not in each]
    assert paragraphs
    for each in paragraphs:
        assert each.endswith("."), each
    assert not re.search(r"[Ee]xits ", said), "the others say: Exit code 1 if ..."
    if "SIGTERM" in said and path != "telltale up":
        assert "until SIGTERM or Ctrl-C" in said


@pytest.mark.parametrize("path", [path for path, each in ALL.items() if isinstance(each.command, click.Group)])
def test_a_group_lists_its_commands_without_cutting_a_line(path: str) -> None:
    listed = ALL[path].get_help().partition("Commands:")[2]
    assert not [line for line in listed.splitlines() if line.endswith("...")]


@pytest.mark.parametrize("path", ALL)
def test_options_are_explained(path: str) -> None:
    for option in options(ALL[path]):
        said = option.help or ""
        assert said.endswith("."), option
        assert "[" not in said, f"{option}: click writes the default, or the words do: by default ..."
        named = option.metavar or option.is_flag or isinstance(option.type, click.Choice)
        assert named or not type(option.type).__module__.startswith("click"), f"{option}: what does it take?"
        if option.multiple:
            assert "several times" in said, option
        if "--json" in option.opts:
            assert said.startswith("For scripts: ")


@pytest.mark.parametrize(
    "name", ["--kafka", "--database", "--spool", "--folder", "--dir", "--utc-offset", "--from", "--to", "--config"]
)
def test_what_an_option_takes_is_called_the_same_everywhere(name: str) -> None:
    called = {each.make_metavar(context) for context in ALL.values() for each in options(context) if name in each.opts}
    assert len(called) == 1


# What the pages say


def typed(text: str) -> Iterator[str]:
    """What a page tells people to type: in blocks, and in the middle of sentences."""
    for line in re.findall(r"`(telltale [^`]+)`|<code>(telltale [^<]+)</code>", text):
        yield " ".join("".join(line).split())
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        word = line.strip().removeprefix("$ ").removeprefix("/opt/telltale/bin/")
        if word.startswith("telltale ") and (line[:1] in " $" or "```" in text):
            yield word.partition(" #")[0]


PAGES = [path for path in ROOT.rglob("*.md") if not {".venv", ".venv-bench", "node_modules"} & set(path.parts)]
PAGES += sorted((ROOT / "dashboard" / "pages" / "templates").glob("*.html"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_tells_people_to_type_is_there(page: Path) -> None:
    for line in typed(page.read_text()):
        check_there(line)


@pytest.mark.parametrize("path", [path for path, each in ALL.items() if "\b" in (each.command.help or "")])
def test_the_examples_in_the_help_are_of_the_command_itself(path: str) -> None:
    for line in (ALL[path].command.help or "").partition("\b")[2].split("\n\n")[0].splitlines():
        if line.strip("\b "):
            assert f"{line.strip()} ".startswith(f"{path} "), line
            check_there(line.strip())


def check_there(line: str) -> None:
    """Asserts that the command and each of its options exist."""
    context = ALL["telltale"]
    for word in shlex.split(line)[1:]:
        if context.command_path == "telltale kafka":
            break  # its words are Kafka's
        if len(word) > 1 and word.startswith("-") and not word[1].isdigit():
            known = {"-h"}.union(*((*each.opts, *each.secondary_opts) for each in context.command.get_params(context)))
            given = set(word.strip("[].,").partition("=")[0].split("|"))
            assert given <= known, f"{line}: {given - known}"
        elif isinstance(context.command, click.Group):
            places = [f"{context.command_path} {each}" for each in word.split("|")]
            if set(places) <= ALL.keys():
                context = ALL[places[0]]
            else:  # what an option of it takes
                assert context.command.invoke_without_command, line
