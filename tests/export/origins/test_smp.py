"""Nets of segmentation_models_pytorch open with their encoder's pre-processing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeunet.bundle.bundle import open_bundle
from edgeunet.data.preparation import Preparation
from edgeunet.errors import CheckpointError, EdgeUNetError, UnknownNameError, UsageError
from edgeunet.exporting.origins.smp import NETS, preprocessing
from support.commands import fails, succeeds
from support.exports import need_simulator
from support.library_nets import agreement, frames, opened, saved, smp_net
from support.media import write_png

SMALL: dict[str, Any] = {"encoder_depth": 3, "decoder_channels": (32, 16, 8)}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return smp_net("Unet", classes=3, **SMALL)


@pytest.fixture
def weights(net: nn.Module, tmp_path: Path) -> Path:
    return saved(net, tmp_path / "best.ckpt", "model.", "state_dict")


def folder_of(net: nn.Module, path: Path, **changed: Any) -> Path:
    """What `save_pretrained` writes, with parts of its config changed."""
    net.save_pretrained(path)  # type: ignore[operator]
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **changed}))
    return path


def test_whole_way_agrees_with_the_library(weights: Path) -> None:
    origin = opened("smp:Unet", weights, "encoder_name=resnet18")
    for frame in frames(2, (64, 96)) + frames(2, (112, 136)):
        assert agreement(origin, frame) >= 0.999


def test_logits_are_those_of_the_net(net: nn.Module, weights: Path) -> None:
    origin = opened("smp:Unet", weights, "encoder_name=resnet18", "classes=3")
    image = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        assert np.array_equal(origin.infer(image.numpy()).logits, net(image).numpy())
    assert "mean and std are those of the library for resnet18" in origin.notes


def test_folder_of_save_pretrained_tells_all(tmp_path: Path) -> None:
    net = smp_net("FPN", classes=2, decoder_pyramid_channels=64, activation="softmax2d")
    origin = opened(f"smp:{folder_of(net, tmp_path / 'mine')}", None)
    assert (origin.card.model, origin.weights) == ("smp:FPN", "mine")
    assert "its softmax2d is cut off, as the largest logit decides" in origin.notes
    frame = frames(1, (64, 96))[0]
    assert agreement(origin, frame) >= 0.999


def test_one_gray_channel_decides_between_two_classes(tmp_path: Path) -> None:
    path = saved(smp_net("Unet", in_channels=1, **SMALL), tmp_path / "w.pth")
    origin = opened("smp:Unet", path, "encoder_name=resnet18", classes=("crack",))
    assert origin.card.classes == ("background", "crack")
    assert origin.card.input.channels == ("gray",)
    assert (origin.card.input.mean, origin.card.input.std) == ((0.0,), (1.0,))


def test_frames_can_be_letterboxed(net: nn.Module, weights: Path) -> None:
    chosen = Preparation(resize="pad", fill=114.0)
    origin = opened("smp:Unet", weights, "encoder_name=resnet18", preparation=chosen)
    (frame,) = frames(1, (40, 96))
    padded = np.full((64, 96, 3), 114, np.uint8)
    padded[:40] = frame
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    image = torch.from_numpy((padded / 255 - mean) / std).movedim(-1, 0)[None].float()
    with torch.inference_mode():
        wanted = net(image)[0, :, :40].argmax(0).numpy()
    assert (origin.segment(frame)[1] == wanted).mean() >= 0.999


def test_own_statistics_win(weights: Path) -> None:
    chosen = Preparation(mean=(0.5,), std=(0.25,))
    origin = opened("smp:Unet", weights, "encoder_name=resnet18", preparation=chosen)
    assert origin.card.input.mean == (0.5, 0.5, 0.5)
    assert not any("of the library" in note for note in origin.notes)


@pytest.mark.parametrize(
    ("encoder", "pretrained", "mean"),
    [
        ("resnet18", "imagenet", 0.485),
        ("xception", None, 0.5),
        ("inceptionv4", "imagenet+background", 0.5),
        ("dpn68", None, 124 / 255),
        ("timm-efficientnet-b0", "advprop", 0.5),
        ("timm-efficientnet-b0", "noisy-student", 0.485),
        ("timm-tf_efficientnet_lite0", "imagenet", 0.5),
        ("tu-vit_base_patch16_224.augreg_in21k", None, 0.5),
        ("tu-resnet18", None, 0.485),
    ],
)
def test_statistics_of_encoders(encoder: str, pretrained: str | None, mean: float) -> None:
    found = preprocessing(encoder, pretrained).mean
    assert found is not None
    assert found[0] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("model", "arch", "error", "message"),
    [
        ("smp:Unett", (), UsageError, "Did you mean 'Unet'? Known: DPT"),
        ("smp:losses", (), UsageError, "smp:losses is none of the nets that can be built"),
        ("smp:Unet", ("encoder=a",), UnknownNameError, "Did you mean 'encoder_name'"),
        ("smp:Unet", ("encoder_name=resnet81",), UnknownNameError, "Did you mean 'resnet18'"),
        ("smp:Unet", ("encoder_name=tu-hf-hub:a/b",), UsageError, "unknown encoder"),
        ("smp:Unet", ("encoder_name=timm-res2net:x",), UnknownNameError, "unknown encoder"),
        ("smp:Unet", ("activation=clamp",), UsageError, "clamp, which cannot be cut off"),
        ("smp:Unet", ("encoder_name=resnet34",), CheckpointError, "does not fit smp:Unet with"),
        ("smp:Unet", ("encoder_name=resnet18", "classes=4"), CheckpointError, "(3, 8, 3, 3)"),
        ("smp:Unet", ("encoder_name=resnet18", "encoder_depth=9"), UsageError, "cannot be built"),
    ],
)
def test_bad_input_is_refused(
    model: str, arch: tuple[str, ...], error: type[EdgeUNetError], message: str, weights: Path
) -> None:
    with pytest.raises(error) as caught:
        opened(model, weights, *arch)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_are_needed() -> None:
    with pytest.raises(UsageError, match="got no weights for smp:Unet"):
        opened("smp:Unet", None)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"_model_class": "from_pretrained"}, UnknownNameError, "unknown class in "),
        ({"_model_class": None}, CheckpointError, "names no _model_class"),
        ({"checkpoint_path": "x"}, UnknownNameError, "'checkpoint_path'"),
        ({"encoder_name": "tu-local-dir:/etc"}, UsageError, "unknown encoder"),
        ({"encoder_name": "resnet34"}, CheckpointError, "does not fit"),
    ],
)
def test_hostile_folders_are_refused(
    changed: dict[str, Any],
    error: type[EdgeUNetError],
    message: str,
    net: nn.Module,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        opened(f"smp:{folder_of(net, tmp_path / 'mine', **changed)}", None)


def test_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config.json cannot be read"):
        opened(f"smp:{tmp_path}", None)


def test_known_nets_are_the_library_s() -> None:
    import segmentation_models_pytorch as smp

    assert {each.__name__ for each in smp.MODEL_ARCHITECTURES_MAPPING.values()} == set(NETS)


def test_command_line_goes_to_int8(weights: Path, tmp_path: Path) -> None:
    need_simulator()
    data = tmp_path / "data"
    for split, count in (("train", 8), ("val", 2)):
        for folder in ("images", "masks"):
            (data / split / folder).mkdir(parents=True)
        for index, frame in enumerate(frames(count, (64, 96))):
            write_png(data / split / "images" / f"{index}.png", frame)
            write_png(data / split / "masks" / f"{index}.png", frame[..., 0] % 3)
    (data / "dataset.json").write_text(json.dumps({"classes": ["road", "car", "sky"]}))
    (tmp_path / "names.txt").write_text("road\ncar\nsky\n")
    # Random weights say nothing of accuracy: any drop is allowed.
    result = succeeds(
        "export", "--model", "smp:Unet", "--arch", "encoder_name=resnet18,encoder_depth=3",
        "--weights", weights, "--size", "64x96", "--classes", tmp_path / "names.txt", "--int8",
        "--calib", data / "train" / "images", "--calib-method", "percentile",
        "--data", data, "--max-iou-drop", "100", "-o", tmp_path / "b",
    )  # fmt: skip
    assert "smp:Unet with resnet18, 3 channels, 3 classes" in result.output
    manifest = open_bundle(tmp_path / "b").manifest
    assert (manifest.classes, manifest.weights) == (("road", "car", "sky"), "best")
    assert "segmentation-models-pytorch" in manifest.versions


def test_command_line_names_what_is_missing(weights: Path) -> None:
    said = fails(2, "export", "--model", "smp:Unet", "--weights", weights)
    assert "Pass --size HxW" in said
