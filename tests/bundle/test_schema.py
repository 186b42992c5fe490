"""Decoding JSON into dataclasses: what fits comes back equal, what does not is named."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec, Manifest
from edgeunet.bundle.schema import SchemaError, decode, load_json, read
from support.formats import cards, input_specs, manifests, through_json


@dataclass(frozen=True)
class Leaf:
    size: int
    kind: Literal["oak", "elm"] = "oak"


@dataclass(frozen=True)
class Tree:
    name: str
    height: float
    alive: bool
    leaf: Leaf
    position: tuple[int, int]
    leaves: tuple[Leaf, ...] = ()
    rings: dict[str, float] = field(default_factory=dict)
    note: str | None = None
    extra: Any = None

    def __post_init__(self) -> None:
        if self.height < 0:
            raise ValueError(f"height is {self.height}; it must not be negative")


TREE: dict[str, Any] = {
    "name": "a",
    "height": 1.5,
    "alive": True,
    "leaf": {"size": 3},
    "position": [1, 2],
}


# Round trips


@given(value=st.one_of(input_specs(), cards(), manifests()))
def test_round_trip_through_json_text(value: InputSpec | Card | Manifest) -> None:
    again = decode(type(value), through_json(value))
    assert again == value
    assert type(again.input if not isinstance(again, InputSpec) else again) is InputSpec


def test_nested_values_and_defaults() -> None:
    tree = decode(Tree, TREE)
    assert tree == Tree("a", 1.5, True, Leaf(3, "oak"), (1, 2))
    assert decode(Tree, {**TREE, "note": None}) == tree
    full = replace(tree, leaves=(Leaf(1), Leaf(2, "elm")), rings={"x": 1.0}, note="n", extra=[1])
    assert decode(Tree, through_json(full)) == full


def test_integer_becomes_a_float_if_the_field_is_one() -> None:
    tree = decode(Tree, {**TREE, "height": 2, "rings": {"x": 3}})
    assert type(tree.height) is float
    assert type(tree.rings["x"]) is float


# Refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # Scalars
        ({"name": 3}, "$.name: expected str, got 3"),
        ({"name": None}, "$.name: expected str, got None"),
        ({"height": "tall"}, "$.height: expected float, got 'tall'"),
        ({"alive": 1}, "$.alive: expected bool, got 1"),
        ({"note": 5}, "$.note: expected str, got 5"),
        ({"leaf": {"size": 1.0}}, "$.leaf.size: expected int, got 1.0"),
        # bool is no number
        ({"leaf": {"size": True}}, "$.leaf.size: expected int, got True"),
        ({"height": False}, "$.height: expected float, got False"),
        ({"position": [1, True]}, "$.position[1]: expected int, got True"),
        # Objects
        ({"leaf": [3]}, "$.leaf: expected an object, got list"),
        ({"leaf": None}, "$.leaf: expected an object, got NoneType"),
        ({"rings": [1.0]}, "$.rings: expected an object, got list"),
        ({"rings": {"x": "y"}}, "$.rings.x: expected float, got 'y'"),
        # Keys
        ({"colour": "red"}, "$ has unknown key 'colour'"),
        ({"leaf": {"size": 1, "age": 2}}, "$.leaf has unknown key 'age'"),
        ({"leaf": {}}, "$.leaf lacks 'size'"),
        # Literals
        ({"leaf": {"size": 1, "kind": "fir"}}, "$.leaf.kind: expected one of oak, elm, got 'fir'"),
        ({"leaf": {"size": 1, "kind": []}}, "$.leaf.kind: expected one of oak, elm, got []"),
        # Tuples
        ({"position": [1]}, "$.position: expected 2 entries, got 1"),
        ({"position": [1, 2, 3]}, "$.position: expected 2 entries, got 3"),
        ({"position": "12"}, "$.position: expected a list, got str"),
        ({"leaves": {"0": 1}}, "$.leaves: expected a list, got dict"),
        ({"leaves": [{"size": 1}, {"size": "2"}]}, "$.leaves[1].size: expected int, got '2'"),
        # The dataclass's own checks
        ({"height": -1}, "$: height is -1.0; it must not be negative"),
    ],
)
def test_value_that_does_not_fit_is_refused_with_its_path(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SchemaError) as error:
        decode(Tree, {**TREE, **change})
    assert str(error.value) == message


@pytest.mark.parametrize("name", sorted(TREE))
def test_missing_key_is_named(name: str) -> None:
    with pytest.raises(SchemaError, match=rf"^\$ lacks '{name}'$"):
        decode(Tree, {key: value for key, value in TREE.items() if key != name})


@pytest.mark.parametrize("data", [None, [], "text", 3, True])
def test_top_level_must_be_an_object(data: object) -> None:
    message = rf"^\$: expected an object, got {type(data).__name__}$"
    with pytest.raises(SchemaError, match=message):
        decode(Tree, data)


def test_path_starts_where_the_caller_says() -> None:
    with pytest.raises(SchemaError, match=r"^card\.leaf lacks 'size'$"):
        decode(Tree, {**TREE, "leaf": {}}, where="card")


def test_number_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"\$\.height: the integer is too large"):
        decode(Tree, {**TREE, "height": 10**400})


# Files of unknown origin


def unreadable(path: Path) -> str:
    started = time.perf_counter()
    with pytest.raises(SchemaError) as error:
        load_json(path)
    assert time.perf_counter() - started < 10
    message = str(error.value)
    assert message.startswith("cannot be read as JSON: ")
    assert len(message) < 300
    return message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" * 21 + b"]" * 21, "nested more than 20 deep"),
        (b"9" * 101, "an integer has 101 digits; expected at most 100"),
        (b"9" * 1_000_000, "an integer has 1000000 digits"),
        (b"[" + b"1," * 3_000_000 + b"1]", "it has 6000003 bytes; expected at most 4194304"),
        (b'"\xff"', "can't decode byte 0xff"),
        (b"", "Expecting value"),
        (rb'["a\ud800"]', "surrogates not allowed"),
    ],
)
def test_hostile_json_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    assert words in unreadable(tmp_path / "x.json")


def test_only_regular_files_are_read_as_json(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, kind in (("pipe", "pipe"), ("zero", "device"), ("", "directory")):
        assert f"it is a {kind}" in unreadable(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_json(tmp_path / "missing")


def test_json_up_to_the_bounds_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 19 + "9" * 100 + "]" * 19)
    found = load_json(tmp_path / "x.json")
    for _ in range(19):
        (found,) = found
    assert found == int("9" * 100)


def test_long_values_are_cut_in_errors() -> None:
    with pytest.raises(SchemaError) as error:
        decode(Tree, {**TREE, "note": ["x" * 10_000]})
    assert str(error.value).startswith("$.note: expected str, got ['xxx")
    assert len(str(error.value)) < 150
    with pytest.raises(SchemaError) as error:
        decode(Tree, {**TREE, "rings": {"k" * 10_000: "y"}})
    assert len(str(error.value)) < 250


@given(content=st.binary(max_size=60) | st.text(alphabet='[]{}",:1e-.tfn ').map(str.encode))
def test_any_content_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_bytes(content)
    try:
        read(Leaf, path, version=1)
    except SchemaError:
        return
    pytest.fail("a leaf has no version")
