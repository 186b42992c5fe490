"""The documentation: code, commands and messages are the product's, and the site builds."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import edgeunet
from edgeunet.cli import main
from support.commands import ROOT
from support.pages import (
    DOCS,
    PAGES,
    Block,
    blocks,
    commands,
    inline_commands,
    texts_of_the_product,
)

NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
each_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)

# Commands


def complaint(arguments: list[str]) -> str:
    """What click says of a call, "" if it takes it. Nothing is run."""
    try:
        with main.make_context("edgeunet", list(arguments)) as ctx:
            words = [*ctx._protected_args, *ctx.args]
            name, command, rest = main.resolve_command(ctx, words)
            assert command is not None
            with command.make_context(name, rest, parent=ctx):
                return ""
    except click.exceptions.Exit:  # --help
        return ""
    except click.ClickException as error:
        return error.format_message()


@each_page
def test_commands_in_code_are_taken(page: Path) -> None:
    calls = [(block.where, call) for block in blocks(page) for call in commands(block.text)]
    if page.is_relative_to(DOCS / "reference/cli"):
        return  # usage, with [OPTIONS]
    wrong = {f"{where}: {' '.join(call)}": complaint(call) for where, call in calls}
    assert {call: said for call, said in wrong.items() if said} == {}


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        ("edgeunet run B 0 -o a.mp4  # it's live", [["run", "B", "0", "-o", "a.mp4"]]),
        ("A=1 edgeunet run B 'a b' | player", [["run", "B", "a b"]]),
        ("cat $(edgeunet models --json) > edgeunet-models", [["models", "--json"]]),
        (
            "edgeunet gate \\\n  --open 95 && edgeunet doctor",
            [["gate", "--open", "95"], ["doctor"]],
        ),
        ("cd edgeunet && pip install edgeunet", []),
        ("  edgeunet tune\nmobile_unet on cells, it's 3 ms", [["tune"]]),
    ],
)
def test_calls_are_found_in_shell_code(line: str, calls: list[list[str]]) -> None:
    assert list(commands(line)) == calls


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("run BUNDLE film.mp4 --batch 4", ""),
        ("run --help", ""),
        ("segment film.mp4", "No such command"),
        ("run BUNDLE film.mp4 --batsh 4", "No such option"),
        ("run BUNDLE", "Missing argument"),
        ("run BUNDLE a.mp4 --drop newest", "'newest' is not one of"),
        ("export --size 352", "is not a size"),
        ("models mobile_unet", "unexpected extra argument"),
    ],
)
def test_wrong_commands_are_noticed(call: str, said: str) -> None:
    found = complaint(call.split())
    assert found == said if not said else said in found


@each_page
def test_commands_in_the_text_exist(page: Path) -> None:
    """They may be cut short, so only their names and options are looked up."""
    group = click.Context(main)
    for words in inline_commands(page):
        options = [word.partition("=")[0] for word in words if word.startswith("-")]
        name = words[0]
        if name.isupper() or name.startswith("-") or name == "…":
            continue
        command = main.get_command(group, name)
        assert command is not None, words
        known = {flag for param in command.params for flag in [*param.opts, *param.secondary_opts]}
        assert {flag for flag in options if re.fullmatch(r"--?[a-z][\w-]*", flag)} <= {
            *known, "-h", "--help"
        }, words  # fmt: skip


# Python


def python_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language == "python"]


@pytest.mark.parametrize("block", python_blocks(), ids=lambda block: block.where)
def test_python_compiles_and_finds_its_names(block: Block) -> None:
    tree = ast.parse(block.text)
    compile(block.text, block.where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert list(unknown(tree)) == []


def unknown(tree: ast.AST) -> Iterator[str]:
    """Names of edgeunet that do not exist, and modules of others that cannot be found."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "edgeunet":
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    yield f"{node.module}.{alias.name}"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            for name in names if isinstance(node, ast.Import) else [str(node.module)]:
                if importlib.util.find_spec(name.split(".")[0]) is None:
                    yield name
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "edgeunet":
            yield from [] if hasattr(edgeunet, node.attr) else [f"edgeunet.{node.attr}"]


def test_unknown_names_are_noticed() -> None:
    code = "import edgeunet, no_such\nfrom edgeunet.errors import EdgeError\nedgeunet.lode(1)"
    assert sorted(unknown(ast.parse(code))) == [
        "edgeunet.errors.EdgeError", "edgeunet.lode", "no_such"
    ]  # fmt: skip


# Messages


def test_messages_are_those_of_the_product() -> None:
    page = (DOCS / "reference/messages.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^`([^`\n]+)`\n:", page, re.MULTILINE)
    assert len(quoted) > 40
    product = texts_of_the_product()
    gone = [message for message in quoted if not any(says(text, message) for text in product)]
    assert gone == [], "quote what the code says now"


def says(text: str, message: str) -> bool:
    """Whether a text has the constant parts of a message, in their order."""
    at = 0
    for part in message.split("…"):
        known = part.strip(" .")  # what is filled in may bring its own
        at = text.find(known, at) + len(known)
        if at < len(known):
            return False
    return True


def test_message_that_the_product_does_not_say_is_noticed() -> None:
    assert says("… is … bytes; expected at most …. Refused.", "… bytes; expected …. Refused.")
    assert not says("… is … bytes; expected at most …. Refused.", "… bytes; wanted …. Refused.")
    assert not says("… is … bytes", "bytes is …")


# The site


def test_files_that_the_readme_links_exist() -> None:
    """The links of all other pages are checked by the build of the site."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"(?:\]\(|src=\")([^):#\"]+)[)#\"]", text)
    assert linked
    assert [name for name in linked if not (ROOT / name).exists()] == []


def linked_pages(entries: Any) -> Iterator[str]:
    """Pages that a part of the navigation names."""
    if isinstance(entries, str):
        yield entries
        return
    for entry in entries.values() if isinstance(entries, dict) else entries:
        yield from linked_pages(entry)


def test_every_page_is_in_the_navigation_once() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    linked = list(linked_pages(yaml.safe_load(text)["nav"]))
    assert sorted(linked) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES[1:])


def build_site(folder: Path) -> Path:
    """The site as `make docs` builds it, from a copy: the build leaves files beside its sources."""
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("no zensical; pip install '.[docs]'")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    shutil.copytree(DOCS, folder / "docs")
    for name in ("edgeunet", "export", "runtime", "tools"):
        (folder / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "zensical", "build", "--config-file", "mkdocs.yml", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build/docs"


class Fetched(HTMLParser):
    """Addresses that a browser fetches by itself to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attributes}
        if tag == "link" and known.get("rel") not in ("canonical", "next", "prev", "alternate"):
            self.addresses.append(known.get("href", ""))
        self.addresses += [known[name] for name in ("src", "srcset", "poster") if name in known]


@pytest.mark.slow(seconds=10)
def test_site_builds_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    site = build_site(tmp_path)
    check_addresses(site)
    check_python_reference((site / "reference/python/index.html").read_text(encoding="utf-8"))


def check_addresses(site: Path) -> None:
    """What a browser needs comes from the site itself."""
    elsewhere = re.compile(r"(?:https?:)?//")
    pages = sorted(site.rglob("*.html"))
    assert len(pages) == len(PAGES)  # the README is none, and the page of what is not found is one
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.addresses
        assert [each for each in parser.addresses if elsewhere.match(each)] == [], page
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\"']+", text) == [], style


def check_python_reference(page: str) -> None:
    """It has every public name, help texts of options, and examples as code."""
    assert {name for name in edgeunet.__all__ if f'id="edgeunet.{name}"' not in page} == {
        "EdgeUNetError"
    }
    assert 'id="edgeunet.errors.EdgeUNetError"' in page
    assert "Largest batch that the graphs take." in page
    assert "&gt;&gt;&gt;" in page
    assert "<blockquote>" not in page
