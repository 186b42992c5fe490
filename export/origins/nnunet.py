"""`--model nnunet:FOLDER`: 2D nets that nnU-Net v2 trained, with their plans and windows."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeunet.bundle.manifest import BYTE_LEVELS, RGB, InputSpec, channel_names, depth_of
from edgeunet.bundle.steps import ImageStatistics, Window
from edgeunet.data.fit import Frame
from edgeunet.errors import (
    CheckpointError,
    EdgeUNetError,
    MissingDependencyError,
    UsageError,
    first_line,
    printable,
)
from edgeunet.metrics import Mask
from edgeunet.models.state_dict import mismatches
from edgeunet.models.weight_files import check_tensors, check_types, read_weight_file

from ..options import ExportOptions, class_names
from .base import card_of
from .folders import folder_of, read_object, refuse_options
from .module import ModuleOrigin, Segment
from .nnunet_predictor import SCHEMES, STEP, predict

_PLANS, _DATASET = "plans.json", "dataset.json"
_NETS = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
_MODULE = "dynamic_network_architectures.architectures.unet"
_RESIDUAL = "dynamic_network_architectures.building_blocks.residual"
# Classes that plans may name as arguments of a net.
_LAYERS = (
    "Conv2d", "InstanceNorm2d", "BatchNorm2d", "Dropout2d", "LeakyReLU", "ReLU", "GELU", "SiLU",
)  # fmt: skip
_BLOCKS = ("BasicBlockD", "BottleneckD")
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_CHOICES = ("configuration", "fold")
_NO_MIRRORING = (
    "it runs without test-time mirroring, as nnUNetv2_predict --disable_tta; masks may differ from "
    "those with it"
)


def open_nnunet(name: str, options: ExportOptions) -> ModuleOrigin:
    """A results folder with plans.json, dataset.json and fold_X/checkpoint_final.pth.

    The origin's masks are those of `nnunet_predictor`: z-score, windows, Gaussian weights, argmax.

    Raises:
        UsageError: no such folder, a fold or configuration that must be chosen, or options that the
            folder leaves no choice of.
        CheckpointError: plans that a bundle cannot follow, each named, or weights that do not fit.
        MissingDependencyError: dynamic-network-architectures is not installed.
    """
    folder = folder_of(name, "nnunet", [_PLANS, _DATASET])
    refuse_options(options, f"{folder}'s {_PLANS}", but=["arch", "channels", "levels"])
    plans, dataset = read_object(folder / _PLANS), read_object(folder / _DATASET)
    chosen = _choices(options.arch)
    try:
        plan = _plan(plans, chosen.get("configuration") or _configuration_of(folder))
        classes = class_names(options.classes) or _classes(dataset)
        spec, scheme, masked = _input(plan, plans, dataset, options)
        net = _unfilled(plan, inputs=len(spec.channels), classes=len(_classes(dataset)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{folder}: {_PLANS} or {_DATASET} is not as nnU-Net v2 writes it "
            f"({type(error).__name__}: {first_line(error)})."
        ) from None
    except EdgeUNetError as error:
        raise type(error)(f"{folder}: {error}") from None
    path = _checkpoint(folder, chosen.get("fold"))
    _fill(net, path)
    card = card_of(f"nnunet:{type(net).__name__}", classes, spec)
    origin = ModuleOrigin(
        net,
        card,
        segment=_segment(net, spec, scheme, masked=masked),
        weights=f"{folder.absolute().name}/{path.parent.name}",
        title="nnU-Net",
    )
    origin.packages = ("torch", "dynamic-network-architectures")
    origin.notes.append(_NO_MIRRORING)
    if path.name != _CHECKPOINTS[0]:
        origin.notes.append(f"{path.parent.name} has no {_CHECKPOINTS[0]}: {path.name} is used")
    if masked:
        origin.notes.append("zeros in the midst of an image count as empty, unlike in nnU-Net")
    if any(list(folder.glob(f"{place}postprocessing.*")) for place in ("", "crossval_*/")):
        origin.notes.append("its postprocessing (largest components) is no part of the bundle")
    return origin


def _choices(arch: tuple[str, ...]) -> dict[str, str]:
    pairs = [each.partition("=")[::2] for each in arch]
    for key, value in pairs:
        if key not in _CHOICES or not value:
            raise UsageError(
                f"got --arch {printable(key)}; for nnunet: expected configuration=NAME or fold=N."
            )
    return dict(pairs)


def _configuration_of(folder: Path) -> str:
    """The end of TRAINER__PLANS__CONFIGURATION, or 2d."""
    parts = folder.absolute().name.split("__")
    return parts[2] if len(parts) == 3 else "2d"


def _plan(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with what it inherits.

    Raises:
        UsageError: no such configuration. CheckpointError: one that is not a 2D net's own.
    """
    known = plans["configurations"]
    plan: dict[str, Any] = {}
    seen: set[str] = set()
    while name is not None:
        if name not in known or name in seen:
            raise UsageError(
                f"{_PLANS} has no configuration {printable(name)}; it has "
                f"{', '.join(map(printable, known))}. Pass --arch configuration=NAME."
            )
        seen.add(name)
        plan = {**known[name], **plan}
        name = known[name].get("inherits_from")
    sides = len(plan["patch_size"])
    if sides != 2:
        raise CheckpointError(
            f"patches have {sides} dimensions; bundles segment pictures. Train configuration 2d."
        )
    if plan.get("previous_stage"):
        raise CheckpointError("it is the second stage of a cascade; expected a net of its own.")
    spacing, axes = plan["spacing"], plans.get("transpose_forward", [0, 1, 2])
    if any(float(each) != 1 for each in spacing):
        raise CheckpointError(
            f"images are resampled to a spacing of {' x '.join(map(str, spacing))}; expected "
            "1 x 1, as of pictures without a physical size."
        )
    if list(axes) != sorted(axes):
        raise CheckpointError(f"axes are transposed (transpose_forward {axes}); expected 0, 1, 2.")
    return plan


def _classes(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """Names by id; an `ignore` label has no channel."""
    labels = {name: value for name, value in dataset["labels"].items() if name != "ignore"}
    regions = [name for name, value in labels.items() if isinstance(value, (list, tuple))]
    if regions or dataset.get("regions_class_order"):
        listed = ", ".join(map(printable, regions[:4]))
        raise CheckpointError(
            f"{_DATASET} has regions, classes that overlap ({listed}); bundles have one class for "
            "each pixel. Train with plain labels."
        )
    names = {int(value): name for name, value in labels.items()}
    if sorted(names) != list(range(len(labels))):
        raise CheckpointError(
            f"{_DATASET} has labels {sorted(names)}; expected each of 0 to {len(labels) - 1}."
        )
    return tuple(names[index] for index in range(len(names)))


def _input(
    plan: Mapping[str, Any],
    plans: Mapping[str, Any],
    dataset: Mapping[str, Any],
    options: ExportOptions,
) -> tuple[InputSpec, str, bool]:
    """The input, the normalisation scheme and whether it is masked."""
    schemes, masks = list(plan["normalization_schemes"]), list(plan["use_mask_for_norm"])
    scheme, masked = schemes[0], bool(masks[0])
    unknown = sorted({str(each) for each in schemes} - set(SCHEMES))
    if unknown:
        raise CheckpointError(
            f"channels are normalised by {', '.join(map(printable, unknown))}; expected one of "
            f"{', '.join(SCHEMES)}."
        )
    if set(schemes) != {scheme} or {bool(each) for each in masks} != {masked}:
        raise CheckpointError(
            f"channels are normalised differently ({', '.join(schemes)}); expected one way for all."
        )
    masked = masked and scheme == "ZScoreNormalization"
    given = options.preparation
    channels = _channels(dataset, plans, given.channels if given is not None else None)
    low, high = (given.levels if given is not None else None) or BYTE_LEVELS
    measured = {
        "ZScoreNormalization": ImageStatistics(pixels="content" if masked else "all"),
        "RescaleTo01Normalization": ImageStatistics(measure="range"),
    }.get(scheme)
    if measured is None and (low, high) != BYTE_LEVELS:
        raise UsageError(f"{scheme} takes values of 0 to 255. Leave out --levels.")
    count = len(channels)
    std = (1 / 255 if scheme == "NoNormalization" else 1.0,) * count
    height, width = (int(side) for side in plan["patch_size"])
    spec = InputSpec(
        height,
        width,
        channels=channels,
        levels=(low, high),
        depth=depth_of((low, high)),
        statistics=measured,
        window=Window(step=STEP, blend="gaussian", crop=True),
        mean=(0.0,) * count,
        std=std,
    )
    return spec, scheme, masked


def _channels(
    dataset: Mapping[str, Any], plans: Mapping[str, Any], given: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Names of the channels: a user's, else red, green, blue or gray, else the data set's."""
    told = dataset.get("channel_names") or dataset["modality"]
    own = [str(told[str(index)]).strip().lower() for index in range(len(told))]
    if given is not None:
        if len(given) != len(own):
            raise UsageError(f"the net takes {len(own)} channels, got {len(given)} names.")
        return given
    if len(own) == 1:
        return ("gray",)
    reader = plans.get("image_reader_writer")
    if len(own) == 3 and (reader == "NaturalImage2DIO" or [each[0] for each in own] == list("rgb")):
        return RGB
    try:
        return channel_names(own)
    except UsageError:
        raise UsageError(
            f"channels are called {', '.join(map(printable, own))}. Name them: --channels NAME,…."
        ) from None


def _unfilled(plan: Mapping[str, Any], *, inputs: int, classes: int) -> nn.Module:
    """The net on the device "meta", without deep supervision.

    Raises:
        CheckpointError: a class that is not allowed.
    """
    try:
        unet = importlib.import_module(_MODULE)
        residual = importlib.import_module(_RESIDUAL)
    except ModuleNotFoundError:
        raise MissingDependencyError("dynamic_network_architectures") from None
    architecture = plan.get("architecture") or _of_old_plans(plan)
    module, _, name = str(architecture["network_class_name"]).rpartition(".")
    if module != _MODULE or name not in _NETS:
        raise CheckpointError(
            f"the net is {printable(architecture['network_class_name'])}; expected {_MODULE}'s "
            f"{', '.join(_NETS)}. Code of others is never run; export the net to ONNX."
        )
    arguments = dict(architecture["arch_kwargs"])
    for key in architecture.get("_kw_requires_import", ()):
        if arguments.get(key) is None:
            continue
        package, _, layer = str(arguments[key]).rpartition(".")
        if layer in _LAYERS and package.split(".")[:2] == ["torch", "nn"]:
            arguments[key] = getattr(nn, layer)
        elif layer in _BLOCKS and package == _RESIDUAL:
            arguments[key] = getattr(residual, layer)
        else:
            raise CheckpointError(
                f"the net has {key} {printable(arguments[key])}; expected one of torch.nn's "
                f"{', '.join(_LAYERS)}."
            )
    arguments |= {"input_channels": inputs, "num_classes": classes, "deep_supervision": False}
    try:
        with torch.device("meta"):
            net: nn.Module = getattr(unet, name)(**arguments)
    except Exception as error:  # whatever wrong arguments raise
        raise CheckpointError(
            f"{name} cannot be built from the plans: {first_line(error)}"
        ) from None
    return net.eval()


def _of_old_plans(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture of plans before nnU-Net 2.4, which say it in keys of their own."""
    stages = plan["n_conv_per_stage_encoder"]
    base, most = int(plan["UNet_base_num_features"]), int(plan["unet_max_num_features"])
    name = plan["UNet_class_name"]
    per_stage = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
    return {
        "network_class_name": f"{_MODULE}.{name}",
        "arch_kwargs": {
            "n_stages": len(stages),
            "features_per_stage": [min(base * 2**index, most) for index in range(len(stages))],
            "conv_op": "torch.nn.Conv2d",
            "kernel_sizes": plan["conv_kernel_sizes"],
            "strides": plan["pool_op_kernel_sizes"],
            per_stage: stages,
            "n_conv_per_stage_decoder": plan["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": "torch.nn.InstanceNorm2d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "nonlin"],
    }


def _checkpoint(folder: Path, fold: str | None) -> Path:
    """The checkpoint of the only fold, or of the chosen one."""
    found = sorted(
        {each.parent.name for name in _CHECKPOINTS for each in folder.glob(f"fold_*/{name}")}
    )
    if fold is None and len(found) > 1:
        raise UsageError(
            f"{folder} has {', '.join(map(printable, found))}, which nnU-Net averages; a bundle "
            f"has one net. Pass --arch {found[0].replace('_', '=', 1)}."
        )
    wanted = found[0] if fold is None and found else f"fold_{fold}"
    if wanted not in found:
        lacking = "fold_X" if fold is None else printable(wanted)
        raise CheckpointError(
            f"{folder} lacks {lacking}/{_CHECKPOINTS[0]}; it has "
            f"{', '.join(map(printable, found)) or 'no fold'}."
        )
    return next(
        folder / wanted / each for each in _CHECKPOINTS if (folder / wanted / each).is_file()
    )


def _fill(net: nn.Module, path: Path) -> None:
    """Give a net on the device "meta" the weights of a checkpoint, in FP32.

    Raises:
        CheckpointError: a file that is no checkpoint of nnU-Net, or of another net.
    """
    content = read_weight_file(path).get("network_weights")
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} has no network_weights. Expected a checkpoint of nnU-Net v2."
        )
    tensors = {
        str(key).removeprefix("module.").removeprefix("_orig_mod."): value
        for key, value in content.items()
        if isinstance(value, Tensor)
    }
    # The decoder holds the encoder, and each block its layers twice: one tensor has several names.
    once = {(each.data_ptr(), each.shape, each.stride()): key for key, each in tensors.items()}
    check_tensors(path, {key: tensors[key] for key in once.values()})
    expected = {key: value.shape for key, value in net.state_dict().items()}
    if complaints := mismatches(expected, tensors):
        raise CheckpointError(f"{path} does not fit {_PLANS}: it {'; it '.join(complaints)}.")
    floats = {key: each for key, each in tensors.items() if not key.endswith("num_batches_tracked")}
    check_types(path, floats)
    zero = torch.zeros((), dtype=torch.int64)
    filled = {key: floats[key].float() if key in floats else zero for key in expected}
    net.load_state_dict(filled, assign=True)
    net.requires_grad_(False)


def _segment(net: nn.Module, spec: InputSpec, scheme: str, *, masked: bool) -> Segment:
    """The origin's own way from a frame to class ids."""

    @torch.inference_mode()
    def infer(window: Any) -> Any:
        return net(torch.from_numpy(window)).numpy()

    def segment(frame: Frame) -> Mask:
        image = frame
        if spec.channels == ("gray",) and frame.shape[2] == 3:
            image = np.rint(frame @ np.array([0.299, 0.587, 0.114]))[..., None]  # as Pillow's "L"
        elif set(spec.channels) <= set(RGB):
            image = frame[..., [RGB.index(each) for each in spec.channels]]
        return predict(infer, image, (spec.height, spec.width), scheme=scheme, masked=masked)

    return segment
