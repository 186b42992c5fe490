"""preprocessor_config.json becomes an input, or is refused by the setting that does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from edgeunet.bundle.manifest import InputSpec, imagenet
from edgeunet.errors import CheckpointError, EdgeUNetError, UsageError
from edgeunet.exporting.origins.hf_processor import input_of, processor_name

SETTINGS: dict[str, Any] = {
    "do_resize": True,
    "size": {"height": 32, "width": 48},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def test_usual_settings_are_pillows_bytes_and_the_statistics() -> None:
    mean, std = imagenet(("red", "green", "blue"))
    assert input_of(SETTINGS) == InputSpec(32, 48, filter="pillow", mean=mean, std=std)


@pytest.mark.parametrize(
    ("settings", "mean", "std"),
    [
        ({"do_normalize": False}, 0.0, 1.0),
        ({"do_rescale": False, "image_mean": 127.5, "image_std": [51.0] * 3}, 0.5, 0.2),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": 1}, 0.5, 0.5),
        ({"do_rescale": None, "do_normalize": None}, 0.0, 1 / 255),
    ],
)
def test_factor_mean_and_std_count_together(
    settings: dict[str, Any], mean: float, std: float
) -> None:
    spec = input_of(SETTINGS | settings)
    assert spec.mean == pytest.approx((mean,) * 3)
    assert spec.std == pytest.approx((std,) * 3)


def test_bicubic_flipped_and_multiples() -> None:
    spec = input_of(
        SETTINGS | {"resample": 3, "do_flip_channel_order": True, "ensure_multiple_of": 20}
    )
    assert (spec.filter, spec.channels[0], spec.height, spec.width) == (
        "pillow_bicubic",
        "blue",
        40,
        40,
    )


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"do_resize": False}, UsageError, "does not resize frames (do_resize is false)"),
        ({"size": {"shortest_edge": 32}}, UsageError, "resizes by shortest_edge, so that sizes"),
        ({"size": {}}, UsageError, "resizes by nothing"),
        ({"do_center_crop": True}, UsageError, "cuts out the centre of frames (do_center_crop)"),
        ({"keep_aspect_ratio": True}, UsageError, "keeps the aspect ratio (keep_aspect_ratio)"),
        ({"do_pad": True, "size_divisor": 32}, UsageError, "pads images (do_pad)"),
        ({"resample": 0}, CheckpointError, "resample 0 (nearest); expected 2 (bilinear) or 3"),
        ({"resample": 9}, CheckpointError, "resample 9 (9)"),
        ({"rescale_factor": 0}, CheckpointError, "rescale_factor 0.0; expected a positive"),
        ({"rescale_factor": float("nan")}, CheckpointError, "rescale_factor nan"),
        ({"image_mean": [0.5] * 4}, CheckpointError, "image_mean [0.5, 0.5, 0.5, 0.5]; expected"),
        ({"image_std": None}, CheckpointError, "image_std None; expected three numbers"),
        ({"image_std": [0.5, 0.5, 0]}, CheckpointError, "std is"),
        ({"size": {"height": 32.5, "width": 48}}, CheckpointError, "expected whole pixels"),
    ],
)
def test_what_an_input_cannot_say_is_refused_by_name(
    settings: dict[str, Any], error: type[EdgeUNetError], message: str
) -> None:
    with pytest.raises(error) as caught:
        input_of(SETTINGS | settings)
    assert message in str(caught.value)
    if error is UsageError:
        assert "Pass --size HxW" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "SegformerImageProcessor"),
        ({"image_processor_type": "SegformerImageProcessorFast"}, "SegformerImageProcessor"),
        ({"feature_extractor_type": "DPTFeatureExtractor"}, "DPTImageProcessor"),
    ],
)
def test_processor_is_found_by_any_of_its_names(settings: dict[str, Any], name: str) -> None:
    assert processor_name(settings, "upernet") == name


def test_unknown_processor_is_refused() -> None:
    with pytest.raises(CheckpointError, match="names OwnProcessor; expected one of BeitImage"):
        processor_name({"image_processor_type": "OwnProcessor"}, "segformer")
