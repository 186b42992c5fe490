"""Packages of BioImage.IO: their own answer, their input and classes, and the bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeunet import ExportOptions, export_bundle
from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.steps import ImageStatistics, Window
from edgeunet.errors import EdgeUNetError, UsageError
from edgeunet.models import Preparation
from edgeunet.runtime.segmenter import load
from support.bioimageio import SIZE, image, net, opened, package, zipped

Array = npt.NDArray[Any]
THREE = ("red", "green", "blue")


def zscore(values: Array) -> Array:
    mean, std = values.mean((2, 3), keepdims=True), values.std((2, 3), keepdims=True)
    return np.asarray((values - mean) / (std + 1e-6))


def spread(values: Array) -> Array:
    low, high = np.percentile(values, (2, 99))
    return np.asarray(np.clip((values - low) / (high - low + 1e-6), 0, 1))


MEAN, STD = [90.0, 100.0, 110.0], [40.0, 50.0, 60.0]


def fixed(values: Array) -> Array:
    mean, std = (np.reshape(each, (1, 3, 1, 1)) for each in (MEAN, STD))
    return np.asarray((values - mean) / (std + 1e-6))


FORMS: dict[str, tuple[dict[str, Any], Callable[[Array], Array], tuple[str, ...], str]] = {
    "0.5 deviations": (
        {"pre": [{"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}}]},
        zscore, THREE, "uint8",
    ),
    "0.4 deviations": (
        {
            "pre": [
                {"name": "zero_mean_unit_variance", "kwargs": {"mode": "per_sample", "axes": "yx"}}
            ]
        },
        zscore, THREE, "uint16",
    ),
    "0.5 percentiles": (
        {
            "pre": [
                {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
                {
                    "id": "scale_range",
                    "kwargs": {"axes": ["channel", "y", "x"], "min_percentile": 2,
                               "max_percentile": 99},
                },
                {"id": "clip", "kwargs": {"min": 0, "max": 1}},
            ]
        },
        spread, THREE, "uint16",
    ),
    "0.5 fixed": (
        {
            "pre": [
                {
                    "id": "fixed_zero_mean_unit_variance",
                    "kwargs": {"axis": "channel", "mean": MEAN, "std": STD},
                }
            ]
        },
        fixed, THREE, "float32",
    ),
    "0.4 fixed": (
        {
            "pre": [
                {
                    "name": "zero_mean_unit_variance",
                    "kwargs": {"mode": "fixed", "axes": "yx", "mean": MEAN, "std": STD},
                }
            ]
        },
        fixed, THREE, "uint8",
    ),
    "0.4 linear": (
        {"pre": [{"name": "scale_linear", "kwargs": {"gain": 1 / 255, "offset": -0.5}}]},
        lambda values: values / 255 - 0.5, ("gray",), "uint8",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_package_segments_as_it_says(form: str, tmp_path: Path) -> None:
    """The test image is a golden frame, and its mask is what the test output decides."""
    steps, before, channels, depth = FORMS[form]
    folder = package(
        tmp_path / "net", form[:3], **steps, before=before, channels=channels,
        classes=("a", "b", "c"), shown=image(len(channels), depth=depth),
    )  # fmt: skip
    packed = zipped(folder, tmp_path / "net.zip")
    report = export_bundle(tmp_path / "b", ExportOptions(f"bioimageio:{packed}"))
    assert report.first_failure is None, report.table()
    bundle = open_bundle(tmp_path / "b")
    spec, golden = bundle.manifest.input, bundle.golden()
    assert (spec.depth, spec.height, spec.width) == (depth, *SIZE)
    wanted = np.load(folder / "output.npy").argmax(1)
    assert len(golden.frames) == 1
    assert (golden.masks == wanted).mean() >= 0.999
    assert len(np.unique(golden.masks)) > 1
    with load(tmp_path / "b", backend="onnxruntime") as segmenter:
        frame = np.pad(golden.frames[0], ((0, 8), (0, 16), (0, 0)), mode="reflect")  # two windows
        (mask,) = segmenter([frame]).masks
        assert (mask == opened(folder).segment(frame)[1]).mean() >= 0.999


def test_card_is_the_descriptions(tmp_path: Path) -> None:
    step = {"id": "scale_range", "kwargs": {"min_percentile": "1e0", "max_percentile": 99.8}}

    def before(values: Array) -> Array:
        low, high = np.percentile(values, (1, 99.8))
        return np.asarray((values - low) / (high - low + 1e-6))

    folder = package(tmp_path / "nuclei", pre=[step], before=before, classes=("nucleus",), halo=4)
    origin = opened(folder)
    card = origin.card
    assert (card.model, card.classes) == ("bioimageio:nuclei", ("background", "nucleus"))
    assert card.input.statistics == ImageStatistics(
        measure="range", percentiles=(1, 99.8), per_channel=False, epsilon=1e-6, adds_epsilon=True
    )
    assert card.input.window == Window(step=0.75, blend="none")
    assert card.input.channels == ("gray",)
    assert any("answer to the test image is the package's" in note for note in origin.notes)
    assert opened(folder, classes=("dirt", "cell")).card.classes == ("dirt", "cell")
    twelve = opened(folder, preparation=Preparation(levels=(0, 4095)), size=(64, 40)).card.input
    assert (twelve.depth, twelve.height, twelve.width) == ("uint16", 64, 40)
    with pytest.raises(UsageError, match=r"16 and steps of 8 more along y\. The nearest is 32"):
        opened(folder, size=(30, 48))


def test_int8_with_a_clip_in_front(tmp_path: Path) -> None:
    steps, before, channels, depth = FORMS["0.5 percentiles"]
    shown = image(3, depth=depth)
    folder = package(tmp_path / "net", **steps, before=before, channels=channels, shown=shown,
                     classes=("a", "b"), model=net(3, 2, apart=2))  # fmt: skip
    (tmp_path / "calib").mkdir()
    import cv2

    for number in range(8):
        turned = np.roll(shown[0], 5 * number, 2).transpose(1, 2, 0)[..., ::-1]
        cv2.imwrite(str(tmp_path / f"calib/{number}.png"), turned)
    report = export_bundle(
        tmp_path / "b",
        ExportOptions(f"bioimageio:{folder}", precision="int8", calib=tmp_path / "calib"),
    )
    assert report.candidate.agreement >= 0.99, report.table()
    assert len(open_bundle(tmp_path / "b").golden().frames) == 4


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "answer": ({"after": lambda v: v + 0.1}, {}, "of the values differ by more than 0.001"),
    "version": ({"format_version": "0.3.6"}, {}, "format version 0.3.6; expected a model of 0.4"),
    "data set": ({"type": "dataset"}, {}, "is a dataset of format version 0.5.3"),
    "code": (
        {"weights": {"torchscript": {"source": "a.pt"}}}, {},
        "its weights are torchscript; expected onnx or pytorch_state_dict. TorchScript holds code",
    ),
    "own net": (
        {
            "weights": {
                "pytorch_state_dict": {
                    "source": "weights.onnx",
                    "architecture": {"callable": "Net", "source": "net.py", "sha256": "0" * 64},
                }
            }
        },
        {},
        "its net is Net of net.py; expected one of monai.networks.nets",
    ),
    "other step": (
        {"post": [{"id": "stardist_postprocessing", "kwargs": {}}]}, {},
        "map is processed by stardist_postprocessing, which a bundle cannot do",
    ),
    "own step": ({"post": [{"id": "custom", "callable": "f", "source": "f.py"}]}, {}, "by custom"),
    "whole set": (
        {"pre": [{"id": "scale_range", "kwargs": {"axes": ["batch", "y", "x"]}}]}, {},
        "raw is normalised by scale_range over a whole data set",
    ),
    "binarize": (
        {"pre": [{"id": "binarize", "kwargs": {"threshold": 3}}]}, {}, "raw is processed by binari"
    ),
    "bytes inside": (
        {
            "pre": [
                {"id": "scale_linear", "kwargs": {"gain": 0.5}},
                {"id": "ensure_dtype", "kwargs": {"dtype": "uint8"}},
            ],
        },
        {}, "by ensure_dtype uint8 behind other steps, which cuts off fractions",
    ),
    "no number": (
        {"pre": [{"id": "scale_linear", "kwargs": {"gain": float("nan")}}]}, {},
        "is not as format 0.5 has it (ValueError: expected a number, got nan)",
    ),
    "inputs": ({"inputs": []}, {}, "the net has 0 inputs (none); expected one, the image"),
    "no axes": ({"inputs": [{"id": "raw"}]}, {}, "is not as format 0.5 has it (KeyError: 'axes')"),
    "output": ({}, {"head": "mask"}, "no output mask; it has map"),
    "option": ({}, {"weights": "a.pt"}, "got --weights for bioimageio:"),
    "arch": ({}, {"arch": ("depth=3",)}, "for bioimageio: expected channel=NAME"),
    "five bands": (
        {"channels": ("c0", "c1", "c2", "c3", "c3")}, {}, "Name them: --channels NAME",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_bundle_cannot_follow_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    changes, options, message = REFUSED[kind]
    with pytest.raises(EdgeUNetError) as caught:
        opened(package(tmp_path / "net", **changes), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
