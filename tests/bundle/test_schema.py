"""Decoding JSON into dataclasses: what fits comes back equal, what does not is named."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import FLAVOURS, InputSpec, Manifest
from edgeunet.bundle.schema import SchemaError, decode, encode
from edgeunet.models.checkpoints import Card


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

texts = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(texts, json_values, max_size=3)
byte = st.integers(0, 255)


@st.composite
def input_specs(draw: st.DrawFn) -> InputSpec:
    color = draw(st.sampled_from(["rgb", "bgr", "gray"]))
    channels = 1 if color == "gray" else 3
    positive = st.floats(min_value=1e-3, max_value=10)
    return InputSpec(
        height=draw(st.integers(1, 5000)),
        width=draw(st.integers(1, 5000)),
        color=color,
        resize=draw(st.sampled_from(["stretch", "pad"])),
        mean=tuple(draw(st.lists(numbers, min_size=channels, max_size=channels))),
        std=tuple(draw(st.lists(positive, min_size=channels, max_size=channels))),
    )


@st.composite
def cards(draw: st.DrawFn) -> Card:
    classes = draw(st.lists(texts, min_size=1, max_size=4))
    return Card(
        model=draw(texts),
        arguments=draw(objects),
        classes=tuple(classes),
        palette=tuple(draw(st.tuples(byte, byte, byte)) for _ in classes),
        input=draw(input_specs()),
        data=draw(texts),
        metrics=draw(objects),
        training=draw(objects),
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    card = draw(cards())
    count = len(card.classes)
    thresholds = st.lists(st.floats(0, 1), min_size=count, max_size=count).map(tuple)
    return Manifest(
        model=card.model,
        arguments=card.arguments,
        weights=draw(texts),
        precision=draw(st.sampled_from(sorted(FLAVOURS))),
        classes=card.classes,
        palette=card.palette,
        input=card.input,
        logits_size=(draw(st.integers(1, 5000)), draw(st.integers(1, 5000))),
        max_batch=draw(st.integers(1, 64)),
        files=draw(st.dictionaries(texts, texts, max_size=3)),
        versions=draw(st.dictionaries(texts, texts, max_size=3)),
        gate=draw(st.none() | thresholds),
    )


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(encode(value)))


@given(value=st.one_of(input_specs(), cards(), manifests()))
def test_round_trip_through_json_text(value: InputSpec | Card | Manifest) -> None:
    again = decode(type(value), through_json(value))
    assert again == value
    assert type(again.input if not isinstance(again, InputSpec) else again) is InputSpec


@given(manifest=manifests())
def test_json_of_a_manifest_has_the_schema_version_first(manifest: Manifest) -> None:
    data = encode(manifest)
    assert next(iter(data)) == "schema_version"
    assert decode(Manifest, json.loads(json.dumps(data))) == manifest


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


@pytest.mark.parametrize("std", [math.nan, 0.0, -1.0])
def test_input_needs_positive_std(std: float) -> None:
    data = {**encode(InputSpec(8, 8)), "std": [0.2, std, 0.2]}
    with pytest.raises(SchemaError, match="std"):
        decode(InputSpec, data)
