"""Other tools find classes and input in the metadata, as their own loaders read them."""

from __future__ import annotations

import ast
import json

import pytest

from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.schema import encode
from edgeunet.exporting.graphs.pixels import PixelsForm
from edgeunet.exporting.graphs.pixels.metadata import metadata_of
from edgeunet.exporting.origins.onnx_metadata import read_metadata
from support.pixels import Small

SMALL = Small.of(InputSpec(16, 24), 3, (0.0, 0.5, 0.5))


def test_the_graph_carries_the_metadata() -> None:
    model = SMALL.pixels(PixelsForm(confidence=True))
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert found == metadata_of(SMALL.manifest, "fp32", any_size=False, confidence=True)


def test_the_manifest_is_there_without_hashes() -> None:
    found = metadata_of(SMALL.manifest, "fp32", any_size=False, confidence=False)
    manifest = json.loads(found["edgeunet_manifest"])
    expected = json.loads(json.dumps(encode(SMALL.manifest)))
    assert {*expected} - {*manifest} == {"files", "depths"}
    assert manifest == {key: expected[key] for key in manifest}
    assert json.loads(found["edgeunet_pixels"])["frames"]["size"] == [16, 24]


def test_our_own_reader_finds_classes_and_size() -> None:
    found = read_metadata(metadata_of(SMALL.manifest, "fp32", any_size=False, confidence=False))
    assert found.classes == SMALL.manifest.classes
    assert found.size == (16, 24)
    assert found.bgr is False
    assert (found.mean, found.std) == ((0.0,) * 3, (1 / 255,) * 3)


@pytest.mark.parametrize("any_size", [False, True])
def test_keys_of_each_reader(any_size: bool) -> None:
    found = metadata_of(SMALL.manifest, "fp32", any_size=any_size, confidence=False)
    assert ast.literal_eval(found["names"]) == dict(enumerate(SMALL.manifest.classes))
    assert ast.literal_eval(found["imgsz"]) == [16, 24]
    assert ast.literal_eval(found["args"]) == {"dynamic": any_size}
    assert (int(found["stride"]), int(found["batch"]), int(found["channels"])) == (8, 4, 3)
    assert all(side % int(found["stride"]) == 0 for side in (16, 24))
    assert found["model_info model_type"] == "Segmentation"
    assert found["model_info labels"].split() == ["class_0", "class_1", "class_2"]
    assert json.loads(found["model_type"]) == "Segmentor"
    assert json.loads(found["class_names"])["2"] == "class 2"
    assert "tile_size" not in found, "tiles are square"
    square = Small.of(InputSpec(16, 16)).manifest
    tile = metadata_of(square, "fp32", any_size=any_size, confidence=False)["tile_size"]
    assert json.loads(tile) == 16


@pytest.mark.parametrize(
    ("spec", "resize", "pad", "turned"),
    [
        (InputSpec(8, 8), "standard", 114, "True"),  # unused: the mean of ImageNet
        (InputSpec(8, 8, resize="pad", mean=(0.5,) * 3), "fit_to_window", 128, "True"),
        (InputSpec(8, 8, resize="pad_centre", fill=7.0), "fit_to_window_letterbox", 7, "True"),
        (
            InputSpec(8, 8, channels=("a", "b"), mean=(0.0,) * 2, std=(1.0,) * 2),
            "standard",
            0,
            "False",
        ),
    ],
)
def test_model_api_prepares_frames_as_the_net_wants(
    spec: InputSpec, resize: str, pad: int, turned: str
) -> None:
    found = metadata_of(Small.of(spec).manifest, "fp32", any_size=False, confidence=False)
    assert found["model_info resize_type"] == resize
    assert int(found["model_info pad_value"]) == pad
    assert found["model_info reverse_input_channels"] == turned
