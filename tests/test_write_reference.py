"""`make reference`: its pages are written anew after each change, and say what the code does."""

from __future__ import annotations

import copy
import inspect
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import jsonschema
import pytest

from edgeunet.bundle.bundle import read_manifest
from edgeunet.bundle.manifest import MANIFEST_NAME, InputSpec, Manifest
from edgeunet.bundle.schema import SchemaError, decode, encode
from edgeunet.bundle.statistics import FrameStatistics
from edgeunet.bundle.steps import ImageStatistics, Window
from edgeunet.cli import main
from edgeunet.exporting.lint import qnn, rknn
from edgeunet.exporting.lint.linter import RULES
from support.commands import ROOT

DOCS = ROOT / "docs"
REMEDY = "run `make reference` and commit what it writes"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import write_reference

    return write_reference


def test_pages_are_what_the_code_says(tool: ModuleType) -> None:
    wanted = tool.pages()
    written = {name: (DOCS / name).read_text("utf-8") for name in wanted if (DOCS / name).exists()}
    assert {name for name in wanted if written.get(name) != wanted[name]} == set(), REMEDY
    assert tool.written() <= set(wanted), REMEDY


def test_pages_are_written_and_those_of_what_is_gone_removed(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "DOCS", tmp_path)
    monkeypatch.setattr(tool, "pages", lambda: {"reference/cli/run.md": "new", "b.json": "{}"})
    folder = tmp_path / "reference/cli"
    folder.mkdir(parents=True)
    (folder / "gone.md").touch()
    by_hand = tmp_path / "reference/lint/compilers.md"
    by_hand.parent.mkdir()
    by_hand.touch()
    tool.main()
    assert [path.name for path in folder.iterdir()] == ["run.md"]
    assert (folder / "run.md").read_text() == "new"
    assert (tmp_path / "b.json").read_text() == "{}"
    assert by_hand.exists()


# Commands


def parameters() -> Iterator[tuple[str, click.Context, click.Parameter]]:
    with click.Context(main, info_name="edgeunet", **main.context_settings) as group:
        for name in main.list_commands(group):
            command = main.get_command(group, name)
            assert command is not None
            with click.Context(command, group, name) as ctx:
                for parameter in command.get_params(ctx):
                    yield name, ctx, parameter


def test_every_option_is_on_its_page_with_its_default() -> None:
    pages: dict[str, str] = {}
    for name, ctx, parameter in parameters():
        page = pages.setdefault(name, (DOCS / f"reference/cli/{name}.md").read_text("utf-8"))
        if not isinstance(parameter, click.Option):
            assert parameter.make_metavar(ctx) in page.split("```")[1]
            continue
        (entry,) = re.findall(rf"^`[^`]*{parameter.opts[-1]}[ `/].*\n:.*$", page, re.MULTILINE)
        assert all(flag in entry for flag in [*parameter.opts, *parameter.secondary_opts])
        default = parameter.get_help_extra(ctx).get("default")
        plain = entry.replace("\\", "").replace("`", "")
        assert default is None or f"Default: {default}." in plain
    assert len(pages) == len(main.list_commands(click.Context(main)))


def test_help_texts_hold_no_backspace_of_click() -> None:
    """In a raw docstring it is two characters, which help shows."""
    commands = {name: ctx.command.help for name, ctx, _ in parameters()}
    assert [name for name, text in commands.items() if "\\b" in str(text)] == []
    for name in commands:
        assert "\b" not in (DOCS / f"reference/cli/{name}.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a `b_*` _c_ d_e", "a `b_*` \\_c\\_ d_e"),
        (
            "Pass --size HxW|ID, {source} or *.tif",
            "Pass `--size` HxW\\|ID, \\{source\\} or \\*.tif",
        ),
        ("a--b, -o and --with-val.", "a--b, -o and `--with-val`."),
        ("`--size N` is <one>", "`--size N` is \\<one\\>"),
    ],
)
def test_plain_text_stays_as_it_is(tool: ModuleType, text: str, written: str) -> None:
    from reference.markdown import prose

    assert prose(text) == written


# Docstrings


def test_fields_are_found_wherever_they_are_described(tool: ModuleType) -> None:
    from reference.docstrings import fields_in

    text = (
        "A net. ratio: no field.\n\nwidth, height: pixels,\nas it is. depth: of it: all.\n\nMore."
    )
    assert fields_in(text, ["width", "height", "depth"]) == (
        "A net. ratio: no field.\n\nMore.",
        {"width": "Pixels, as it is.", "height": "Pixels, as it is.", "depth": "Of it: all."},
    )
    assert fields_in("", []) == ("", {})


CODE = '''
from dataclasses import dataclass, field
from fields import described, describe
TEXT = "Of the " "box."

@dataclass(frozen=True)
class Box:
    """A box.

    height: in metres. width, depth: see `height`.

    Raises:
        ShapeError: too small. SizeError, FitError: too large
        for the room.

    Example:
        >>> Box(1)
    """
    height: float
    width: float = described(2.0, "Breadth.", ge=0)
    depth: float = field(default=1, metadata=describe(TEXT))
    _own: int = 3

    def fill(self, what, share=1.0):
        """Fill it.

        Args:
            what, share: of it. 0 is
                nothing.
        """
'''


def test_docstrings_become_what_mkdocstrings_lays_out(tool: ModuleType, tmp_path: Path) -> None:
    griffe = pytest.importorskip("griffe")
    from reference.extension import Docstrings

    (tmp_path / "boxes.py").write_text(CODE)
    extensions = griffe.load_extensions(Docstrings)
    module = griffe.load("boxes", search_paths=[tmp_path], extensions=extensions)
    described = module["Box"].docstring.value
    assert described.splitlines() == [
        "A box.",
        "",
        "Attributes:",
        "    height: In metres.",
        "    width: Breadth. See `height`. Default: `2.0`.",
        "    depth: Of the box. See `height`. Default: `1`.",
        "",
        "Raises:",
        "    ShapeError: too small.",
        "    SizeError: too large for the room.",
        "    FitError: too large for the room.",
        "",
        "Examples:",
        "    >>> Box(1)",
    ]
    assert module["Box.fill"].docstring.value.splitlines() == [
        "Fill it.",
        "",
        "Args:",
        "    what: Of it. 0 is nothing.",
        "    share: Of it. 0 is nothing.",
    ]


# Lint rules


def test_every_rule_has_a_page_with_what_happens_and_a_message() -> None:
    index = (DOCS / "reference/lint/index.md").read_text("utf-8")
    for rule in RULES:
        page = (DOCS / f"reference/lint/{rule.name}.md").read_text("utf-8")
        assert f"[`{rule.name}`]({rule.name}.md)" in index
        assert f"  {rule.severity} {rule.name}: " in page
        assert all(f"`{target}`" in page for target in rule.targets)


def test_findings_of_the_compilers_are_those_that_the_page_lists() -> None:
    page = (DOCS / "reference/lint/compilers.md").read_text("utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \|.*?\| (.*?) \| [A-Z]", page, re.MULTILINE)
    for target, module in (("qnn", qnn), ("rknn", rknn)):
        made = set(re.findall(r"Finding\(\s*\"([\w-]+)\"", inspect.getsource(module)))
        assert made == {name for name, targets in rows if targets in ("both", f"`{target}`")}


# The manifest's schema

Damage = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((DOCS / "reference/manifest.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", ["fp32", "int8", "gated", "depths"])
def test_schema_takes_the_manifests_of_bundles(
    name: str, validator: jsonschema.Draft202012Validator, request: pytest.FixtureRequest
) -> None:
    root: Path = request.getfixturevalue(f"{name}_bundle")
    for path in [root / MANIFEST_NAME, *root.glob(f"depths/*/{MANIFEST_NAME}")]:
        validator.validate(json.loads(path.read_text()))


@pytest.fixture(scope="module")
def whole(fp32_bundle: Path) -> dict[str, Any]:
    """A manifest in which every key has a value."""
    manifest = read_manifest(fp32_bundle / MANIFEST_NAME)
    spec = InputSpec(64, 96, statistics=ImageStatistics(), window=Window())
    ranges = ((0.25, 0.5),) * 3
    full = replace(
        manifest,
        input=spec,
        files={"model.fp32.onnx": "0" * 64},
        frames=FrameStatistics(mean=ranges, deviation=ranges),
    )
    data: dict[str, Any] = json.loads(json.dumps(encode(full)))
    return {**data, "gate": [0.5], "depths": {"1": "0" * 64}, "arguments": {"depth": 4}}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a value, and all that is in it, stands."""
    yield path
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def damaged(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The manifest with another value at each place, without each key, and with one too many."""
    for *path, last in filter(None, places(whole)):
        for value in (None, True, 3, 2.5, "x", [], {}, "fp32", "checkpoint"):
            data = copy.deepcopy(whole)
            inside(data, path)[last] = value
            yield data
        data = copy.deepcopy(whole)
        del inside(data, path)[last]
        yield data
        data = copy.deepcopy(whole)
        holder = inside(data, path)
        holder.append(1) if isinstance(holder, list) else holder.update(new=1)
        yield data


def inside(data: Any, path: list[Any]) -> Any:
    for key in path:
        data = data[key]
    return data


def test_schema_refuses_what_the_reader_refuses(
    whole: dict[str, Any],
    validator: jsonschema.Draft202012Validator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In types, keys and words they agree on everything; the reader's other checks are left out."""
    for cls in (Manifest, InputSpec, ImageStatistics, Window, FrameStatistics):
        monkeypatch.setattr(cls, "__post_init__", lambda self: None, raising=True)
    taken = refused = 0
    for data in damaged(whole):
        if data.get("schema_version") != whole["schema_version"]:  # `read` refuses it before
            assert not validator.is_valid(data)
            continue
        try:
            decode(Manifest, data)
            wanted = True
        except SchemaError:
            wanted = False
        assert validator.is_valid(data) == wanted, data
        taken, refused = taken + wanted, refused + (not wanted)
    assert taken > 50
    assert refused > 500


def test_schema_knows_the_versions_and_precisions_of_files(
    whole: dict[str, Any], validator: jsonschema.Draft202012Validator
) -> None:
    assert validator.is_valid(whole)
    assert not validator.is_valid({**whole, "schema_version": 1})
    assert not validator.is_valid({**whole, "precision": "bf16"})
