"""Statistics and windows of an input: what they refuse, and what of them is read back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from edgeunet.bundle.manifest import InputSpec, Manifest, imagenet
from edgeunet.bundle.schema import SchemaError, decode, encode
from edgeunet.bundle.steps import ImageStatistics, Window
from support.tiles import bundle_of

MEASURED = {"statistics": encode(ImageStatistics()), "mean": [0.0] * 3, "std": [1.0] * 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"percentiles": [5.0, 5.0], "measure": "range"}, "percentiles"),
        ({"percentiles": [0.0, 100.5], "measure": "range"}, "percentiles"),
        ({"percentiles": [math.nan, 100.0], "measure": "range"}, "percentiles"),
        ({"percentiles": [1.0, 99.0]}, "'zscore' has none"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"pixels": "some"}, "expected one of all, nonzero, content"),
        ({"measure": "median"}, "expected one of zscore, range"),
    ],
)
def test_statistics_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        decode(ImageStatistics, {**encode(ImageStatistics()), **changes})


@pytest.mark.parametrize("step", [0.0, 0.05, 1.5, -1.0, math.nan, math.inf])
def test_steps_that_cannot_be_are_refused(step: float) -> None:
    with pytest.raises(SchemaError, match="step"):
        decode(Window, {"step": step})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": {}, "resize": "pad"}, "frames in windows are not resized"),
        ({"fill": 3.0}, "it is for padding"),
        ({**MEASURED, "resize": "pad", "fill": 3.0}, "padding is 0 if images are measured"),
        (
            {**MEASURED, "statistics": {"pixels": "nonzero"}, "filter": "pillow"},
            "does not fit statistics of some pixels",
        ),
    ],
)
def test_inputs_whose_steps_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        decode(InputSpec, {"height": 8, "width": 8, **changes})


def test_gate_does_not_decide_on_windows() -> None:
    manifest = encode(bundle_of(8, 8, gate=(0.5, 0.5)).manifest)
    manifest["input"]["window"] = {}
    with pytest.raises(SchemaError, match="gate decides on whole frames"):
        decode(Manifest, manifest)


def test_input_with_both_is_read_back_as_it_was() -> None:
    statistics = ImageStatistics(measure="range", percentiles=(1, 99.8), epsilon=1e-6)
    spec = InputSpec(8, 9, statistics=statistics, window=Window(crop=True))
    assert decode(InputSpec, json.loads(json.dumps(encode(spec)))) == spec


def test_usual_mean_and_std_follow_from_the_channels() -> None:
    assert InputSpec(8, 8, channels=("blue", "gray")).mean == imagenet(["blue", "gray"])[0]
    spec = InputSpec(8, 8, channels=("nir", "red"), statistics=ImageStatistics())
    assert (spec.mean, spec.std) == ((0, 0), (1, 1))
    with pytest.raises(ValueError, match="mean and std need 2 values"):
        InputSpec(8, 8, channels=("nir", "red"))
