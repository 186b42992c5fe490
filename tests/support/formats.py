"""Strategies for values of the bundle's format."""

from __future__ import annotations

import json
from typing import Any, get_args

from hypothesis import strategies as st

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import FLAVOURS, InputSpec, Manifest
from edgeunet.bundle.schema import encode
from edgeunet.bundle.steps import (
    SMALLEST_STEP,
    Blend,
    ImageStatistics,
    Measure,
    Measured,
    Window,
)

texts = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(texts, json_values, max_size=3)
byte = st.integers(0, 255)
small = st.floats(-70_000, 70_000)
channel = st.sampled_from(["red", "green", "blue", "gray", "nir", "band 7", "swir-1"])


@st.composite
def statistics(draw: st.DrawFn) -> ImageStatistics:
    kind = draw(st.sampled_from(get_args(Measure)))
    percent = draw(st.tuples(st.floats(0, 49), st.floats(51, 100)))
    return ImageStatistics(
        measure=kind,
        pixels=draw(st.sampled_from(get_args(Measured))),
        per_channel=draw(st.booleans()),
        percentiles=(0, 100) if kind == "zscore" else percent,
        epsilon=draw(st.sampled_from([1e-8, 1e-6])),
        adds_epsilon=draw(st.booleans()),
    )


windows = st.builds(
    Window,
    step=st.floats(SMALLEST_STEP, 1),
    blend=st.sampled_from(get_args(Blend)),
    crop=st.booleans(),
)


@st.composite
def input_specs(draw: st.DrawFn) -> InputSpec:
    channels = draw(st.lists(channel, min_size=1, max_size=5, unique=True))
    count = len(channels)
    resize = draw(st.sampled_from(["stretch", "pad", "pad_centre"]))
    measured = draw(st.none() | statistics())
    levels = sorted(draw(st.lists(small, min_size=2, max_size=2, unique=True)))
    positive = st.floats(min_value=1e-3, max_value=10)
    return InputSpec(
        height=draw(st.integers(1, 5000)),
        width=draw(st.integers(1, 5000)),
        channels=tuple(channels),
        levels=(levels[0], levels[1]),
        depth=draw(st.sampled_from(["uint8", "uint16", "int16", "float32"])),
        resize=resize,
        statistics=measured,
        window=draw(st.none() | windows) if resize == "stretch" else None,
        fill=None if resize == "stretch" or measured else draw(st.none() | small),
        mean=tuple(draw(st.lists(numbers, min_size=count, max_size=count))),
        std=tuple(draw(st.lists(positive, min_size=count, max_size=count))),
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
        reference="checkpoint",
        origin="PyTorch",
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
        gate=draw(st.none() | thresholds) if card.input.window is None else None,
    )


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(encode(value)))
