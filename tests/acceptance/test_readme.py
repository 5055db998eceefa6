"""The README and the documents: what they show exists, and works as they say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from microbatch.ops.cli import cli

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4,}(.*)$", re.MULTILINE)
_INLINE = re.compile(r"`(microbatch [^`]+)`")
_LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in _FENCE.findall(page.read_text("utf-8")) if found == language]


def command_lines(page: Path) -> list[str]:
    """The lines of a page's code blocks that call the command, each from the command's name on."""
    text = page.read_text("utf-8")
    lines = [
        *_INDENTED.findall(text),
        *(line for _, block in _FENCE.findall(text) for line in block.splitlines()),
    ]
    return [match[1] for line in lines if (match := re.match(r"(?:ExecStart=\S*/)?(microbatch .*)", line))]


def parse(line: str) -> None:
    """Raises click's UsageError unless the command accepts the line."""
    _, name, *arguments = shlex.split(line, comments=True)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, f"there is no command {name!r}"
    command.make_context(name, arguments)


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, as GitHub and GitLab make them."""
    text = _FENCE.sub("", page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


def test_the_code_shown_is_the_example() -> None:
    code, *_ = blocks(README, "python")
    assert code == (ROOT / "examples" / "letters.py").read_text("utf-8")


def test_the_two_commands_come_first() -> None:
    found = re.findall(r"^ {4}(make \w+|microbatch \w+)", README.read_text("utf-8"), re.MULTILINE)
    assert found[:2] == ["make demo", "make test"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_parses(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # so that the files named in it exist
    for line in command_lines(page):
        parse(line)


def test_the_readme_and_the_operations_show_the_commands() -> None:
    shown = {line.split()[1] for page in PAGES for line in command_lines(page)}
    assert shown >= {"run", "up", "scheduler", "worker", "record", "results", "status"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_named_in_the_text_is_there(page: Path) -> None:
    for text in _INLINE.findall(page.read_text("utf-8")):
        _, name, *rest = shlex.split(text)
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, f"{text!r}: there is no command {name!r}"
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= options, text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text("utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_is_named_as_shown_exists(page: Path) -> None:
    for name, link in re.findall(r"\[(test_\w+)\]\(([^)]+)\)", page.read_text("utf-8")):
        assert f"def {name}(" in (page.parent / link).read_text("utf-8")
