"""Results folders of nnU-Net v2 with random weights, as its trainer writes them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeunet import ExportOptions, export_bundle
from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.steps import ImageStatistics, Window
from edgeunet.errors import EdgeUNetError, UsageError
from edgeunet.exporting.origins import open_origin
from edgeunet.exporting.origins.base import Origin
from edgeunet.models import Preparation
from edgeunet.runtime.segmenter import load

unet = pytest.importorskip(
    "dynamic_network_architectures.architectures.unet",
    reason="needs dynamic-network-architectures ([nnunet])",
)

ARGUMENTS: dict[str, Any] = {
    "n_stages": 3,
    "features_per_stage": [4, 8, 8],
    "conv_op": "torch.nn.modules.conv.Conv2d",
    "kernel_sizes": [[3, 3]] * 3,
    "strides": [[1, 1], [2, 2], [2, 2]],
    "n_conv_per_stage": [1, 1, 1],
    "n_conv_per_stage_decoder": [1, 1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": ARGUMENTS,
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
PLAN: dict[str, Any] = {
    "patch_size": [32, 48],
    "spacing": [1.0, 1.0],
    "normalization_schemes": ["ZScoreNormalization"] * 3,
    "use_mask_for_norm": [False] * 3,
    "architecture": ARCHITECTURE,
}
PLANS = {
    "plans_name": "nnUNetPlans",
    "transpose_forward": [0, 1, 2],
    "image_reader_writer": "NaturalImage2DIO",
    "configurations": {"2d": PLAN, "3d_fullres": {**PLAN, "patch_size": [16, 32, 32]}},
}
DATASET = {
    "channel_names": {"0": "R", "1": "G", "2": "B"},
    "labels": {"background": 0, "road": 1, "car": 2},
    "file_ending": ".png",
}


def results(
    parent: Path,
    plan: dict[str, Any] | None = None,
    dataset: dict[str, Any] | None = None,
    plans: dict[str, Any] | None = None,
    *,
    fold: str = "fold_0",
) -> Path:
    """A folder as nnUNetv2_train leaves it, its net trained with deep supervision."""
    folder = parent / "nnUNetTrainer__nnUNetPlans__2d"
    (folder / fold).mkdir(parents=True)
    written = copy.deepcopy(PLANS | (plans or {}))
    written["configurations"] = {**PLANS["configurations"], "2d": PLAN | (plan or {})}
    (folder / "plans.json").write_text(json.dumps(written))
    (folder / "dataset.json").write_text(json.dumps(DATASET | (dataset or {})))
    torch.manual_seed(0)
    layers = {
        "conv_op": torch.nn.Conv2d,
        "norm_op": torch.nn.InstanceNorm2d,
        "nonlin": torch.nn.LeakyReLU,
    }
    net = unet.PlainConvUNet(
        **{**ARGUMENTS, **layers}, input_channels=3, num_classes=3, deep_supervision=True
    )
    momentum = {
        "state": {0: {"momentum_buffer": torch.zeros(5)}},
        "param_groups": [{"lr": 0.01, "params": [0]}],
    }
    torch.save(
        {
            "network_weights": net.state_dict(),
            "optimizer_state": momentum,
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5)], "lrs": [0.01]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 1000,
            "init_args": {
                "plans": written,
                "configuration": "2d",
                "fold": 0,
                "dataset_json": DATASET,
                "device": torch.device("cpu"),
            },
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1),
        },
        folder / fold / "checkpoint_final.pth",
    )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return results(tmp_path_factory.mktemp("nnunet"))


def opened(folder: Path, **options: Any) -> Origin:
    return open_origin(ExportOptions(f"nnunet:{folder}", **options))


def frame_of(height: int, width: int) -> Any:
    """Blocks and noise, with a border of zeros that nnU-Net cuts off."""
    random = np.random.default_rng(2)
    blocks = np.kron(random.integers(20, 236, (9, 9, 3)), np.ones((9, 11, 1)))[:height, :width]
    frame = np.clip(blocks + random.integers(-15, 16, blocks.shape), 1, 255).astype(np.uint8)
    frame[:3], frame[:, -2:] = 0, 0
    return frame


@pytest.mark.parametrize("scheme", ["ZScoreNormalization", "RGBTo01Normalization"])
def test_bundle_agrees_with_nnunets_windows(scheme: str, tmp_path: Path) -> None:
    folder = results(tmp_path, {"normalization_schemes": [scheme] * 3})
    report = export_bundle(tmp_path / "b", ExportOptions(f"nnunet:{folder}"))
    assert report.first_failure is None, report.table()
    origin = opened(folder)
    with load(tmp_path / "b", backend="onnxruntime") as segmenter:
        for height, width in ((81, 99), (30, 60)):
            frame = frame_of(height, width)
            _, wanted = origin.segment(frame)
            assert len(np.unique(wanted)) > 1
            (found,) = segmenter([frame]).masks
            assert (found == wanted).mean() >= 0.999
            assert (wanted[:3] == 0).all()
    manifest = open_bundle(tmp_path / "b").manifest
    assert manifest.classes == ("background", "road", "car")
    assert (manifest.model, manifest.origin) == ("nnunet:PlainConvUNet", "nnU-Net")
    assert manifest.input.window == Window(step=0.5, blend="gaussian", crop=True)


def test_input_is_the_plans(folder: Path, tmp_path: Path) -> None:
    spec = opened(folder).card.input
    assert (spec.height, spec.width, spec.channels) == (32, 48, ("red", "green", "blue"))
    assert spec.statistics == ImageStatistics()
    masked = opened(results(tmp_path, {"use_mask_for_norm": [True] * 3}))
    assert masked.card.input.statistics == ImageStatistics(pixels="content")
    assert "zeros in the midst" in masked.notes[1]


def test_others_channels_and_depths(tmp_path: Path) -> None:
    names = {"0": "DAPI", "1": "GFP", "2": "TRITC"}
    folder = results(
        tmp_path, dataset={"channel_names": names}, plans={"image_reader_writer": "Tiff2DIO"}
    )
    assert opened(folder).card.input.channels == ("dapi", "gfp", "tritc")
    spec = opened(
        folder, preparation=Preparation(channels=("a", "b", "c"), levels=(0, 4095))
    ).card.input
    assert (spec.channels, spec.depth) == (("a", "b", "c"), "uint16")
    with pytest.raises(UsageError, match="takes 3 channels, got 2 names"):
        opened(folder, preparation=Preparation(channels=("a", "b")))


def test_plans_of_older_versions_build_the_same_net(folder: Path, tmp_path: Path) -> None:
    old = {
        "architecture": None,
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "pool_op_kernel_sizes": [[1, 1], [2, 2], [2, 2]],
        "conv_kernel_sizes": [[3, 3]] * 3,
    }
    frame = frame_of(40, 50)
    wanted = opened(folder).segment(frame)[0].logits
    found = opened(results(tmp_path, old)).segment(frame)[0].logits
    assert np.array_equal(found, wanted)


REFUSED: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "3d": ({"plan": {"patch_size": [8, 32, 32]}}, "patches have 3 dimensions"),
    "CT": (
        {"plan": {"normalization_schemes": ["CTNormalization"] * 3}},
        "channels are normalised by CTNormalization; expected one of ZScoreNormalization",
    ),
    "mixed": (
        {"plan": {"use_mask_for_norm": [True, False, False]}},
        "channels are normalised differently",
    ),
    "spacing": ({"plan": {"spacing": [0.5, 0.5]}}, "resampled to a spacing of 0.5 x 0.5"),
    "cascade": ({"plan": {"previous_stage": "2d_low"}}, "second stage of a cascade"),
    "axes": ({"plans": {"transpose_forward": [0, 2, 1]}}, "axes are transposed"),
    "regions": (
        {"dataset": {"labels": {"background": 0, "whole": [1, 2], "core": 2}}},
        "has regions, classes that overlap (whole)",
    ),
    "holes": ({"dataset": {"labels": {"background": 0, "car": 2}}}, "labels [0, 2]; expected each"),
    "own net": (
        {"plan": {"architecture": {**ARCHITECTURE, "network_class_name": "os.system"}}},
        "the net is os.system; expected",
    ),
    "own layer": (
        {
            "plan": {
                "architecture": {
                    **ARCHITECTURE,
                    "arch_kwargs": {**ARGUMENTS, "nonlin": "subprocess.Popen"},
                }
            }
        },
        "the net has nonlin subprocess.Popen; expected one of torch.nn's",
    ),
    "other classes": (
        {"dataset": {"labels": {"background": 0, "road": 1}}},
        "does not fit plans.json: it differs in decoder.seg_layers.0.weight (3, 8, 1, 1)",
    ),
    "no patch": ({"plan": {"patch_size": None}}, "is not as nnU-Net v2 writes it"),
    "no labels": ({"dataset": {"labels": None}}, "is not as nnU-Net v2 writes it"),
    "wrong arguments": (
        {"plan": {"architecture": {**ARCHITECTURE, "arch_kwargs": {**ARGUMENTS, "n_stages": 9}}}},
        "PlainConvUNet cannot be built from the plans",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_bundle_cannot_follow_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    changes, message = REFUSED[kind]
    refused(results(tmp_path, **changes), message)


def refused(folder: Path, message: str, **options: Any) -> None:
    with pytest.raises(EdgeUNetError) as caught:
        opened(folder, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ignored_label_has_no_channel(tmp_path: Path) -> None:
    labels = {"background": 0, "road": 1, "car": 2, "ignore": 3}
    folder = results(tmp_path, dataset={"labels": labels})
    assert opened(folder).card.classes == ("background", "road", "car")
    (folder / "names.txt").write_text("a\nb\nc\n")
    assert opened(folder, classes=(str(folder / "names.txt"),)).card.classes == ("a", "b", "c")


def test_folds_and_configurations_are_chosen(tmp_path: Path) -> None:
    folder = results(tmp_path)
    fold = folder / "fold_1"
    fold.mkdir()
    (fold / "checkpoint_best.pth").symlink_to(folder / "fold_0" / "checkpoint_final.pth")
    refused(folder, "has fold_0, fold_1, which nnU-Net averages; a bundle has one net. Pass --arch")
    origin = opened(folder, arch=("fold=1",))
    assert any("checkpoint_best.pth is used" in note for note in origin.notes)
    refused(folder, "lacks fold_4/checkpoint_final.pth", arch=("fold=4",))
    refused(folder, "expected configuration=NAME or fold=N", arch=("depth=4",))
    refused(folder, "patches have 3 dimensions", arch=("configuration=3d_fullres",))
    refused(folder, "no configuration 2D; it has 2d, 3d_fullres", arch=("configuration=2D",))


def test_checkpoints_of_others_are_refused(tmp_path: Path) -> None:
    folder = results(tmp_path)
    path = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    torch.save({"state_dict": content["network_weights"]}, path)
    refused(folder, "has no network_weights. Expected a checkpoint of nnU-Net v2")
    torch.save({**content, "trainer": EdgeUNetError}, path)
    refused(folder, "holds code (edgeunet.errors.EdgeUNetError), not weights alone")
    weights = {f"module.{key}": value for key, value in content["network_weights"].items()}
    torch.save({"network_weights": weights}, path)
    assert opened(folder).card.classes == ("background", "road", "car")
    key = "decoder.seg_layers.1.bias"
    torch.save({"network_weights": content["network_weights"] | {key: torch.zeros(3).char()}}, path)
    refused(folder, "as a int8 tensor")


def test_postprocessing_is_told(tmp_path: Path) -> None:
    folder = results(tmp_path)
    assert not any("postprocessing" in note for note in opened(folder).notes)
    inner = folder / "crossval_results_folds_0"
    inner.mkdir()
    (inner / "postprocessing.pkl").write_bytes(b"never read")
    assert any("postprocessing" in note for note in opened(folder).notes)


def test_options_that_the_plans_tell_are_refused(folder: Path) -> None:
    refused(folder, "got --size for nnunet:", size=(64, 64))
