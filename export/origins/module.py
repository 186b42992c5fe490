"""Any PyTorch module that turns images into logits."""

from __future__ import annotations

import copy
import operator
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.fit import Frame
from edgeunet.errors import ExportError, ShapeError, UsageError, first_line
from edgeunet.metrics import Mask
from edgeunet.parity.reference import Images
from edgeunet.runtime.frames import NetOutputs

from ..graphs.passes.graph import load, save
from ..graphs.trace import trace
from .base import Origin, card_of, named_classes
from .distance import distance_of
from .onnx_batch import check_batch
from .onnx_classes import to_two_classes
from .onnx_head import Head, cut_head
from .outputs import chosen_output

Segment = Callable[[Frame], Mask]
"""Frame (H, W, C) -> class ids (H, W), by the origin's own code."""

_MULTIPLES = (2, 4, 8, 16, 32, 64, 128)
_SAME = 1e-3  # of the largest logit: what the order of sums changes in FP32, and more
_TINY = np.float32(1e-30)  # probabilities are raised to this before their logarithm


class ModuleOrigin(Origin):
    """A module, and optionally its own way from a frame to a mask.

    It is run when it is opened, and traced when its graph is first needed.

    Args:
        net: in evaluation mode, see `edgeunet.export`.
        card: classes and input; see `card_of`.
        output: name or number of the output that is the logits; None for the first.
        segment: the origin's own way from a frame to a mask; None for that of the card's input.
        weights: how the manifest names them.
        title: what reports call it.

    Raises:
        UsageError: a net in training mode, whose answers change, or that are not logits of the
            card's classes. ShapeError: a size that it does not take.
    """

    packages: tuple[str, ...] = ("torch",)

    def __init__(
        self,
        net: nn.Module,
        card: Card,
        *,
        output: str | int | None = None,
        segment: Segment | None = None,
        weights: str = "memory",
        title: str = "PyTorch",
    ) -> None:
        super().__init__(card, title, weights=weights)
        if not isinstance(net, _Probed):
            net = _Probed(net, output, card.input, card.model)
        self._net = net
        named_classes(self._net.channels, card.classes, card.model)
        self._segment = segment

    @cached_property
    def _traced(self) -> tuple[ir.Model, Head]:
        """The reference graph, and what was cut off behind its logits."""
        graph, head = _graph_of(self._net, self.card)
        if head.cut:
            self.notes.append(head.told)
        return graph, head

    @torch.inference_mode()
    def infer(self, images: Images) -> NetOutputs:
        """See `Reference`. Probabilities become logits, up to what decides nothing."""
        answer = self._net(torch.from_numpy(images)).float().numpy()
        return NetOutputs(_logits_of(answer, self._traced[1]), None)

    def segment(self, frame: Frame) -> tuple[NetOutputs, Mask]:
        """See `Reference`."""
        outputs, mask = super().segment(frame)
        return outputs, mask if self._segment is None else self._segment(frame)

    def make_graph(self) -> None:
        """See `Origin`."""
        _ = self._traced

    def write_graph(self, path: Path) -> None:
        """See `Origin`. A batch is compared with its images."""
        save(self._traced[0], path)
        check_batch(path)

    @torch.inference_mode()
    def distance(self, frames: Iterable[Frame], spec: InputSpec) -> float:
        """See `Origin`."""
        return distance_of(self._net, self._net, frames, spec)


def open_module(
    net: nn.Module,
    *,
    size: tuple[int, int] | None,
    classes: Sequence[str],
    spec: InputSpec | None,
    output: str | int | None,
) -> ModuleOrigin:
    """A module as `edgeunet.export` takes it.

    Raises:
        UsageError: no size, two that differ, or see `ModuleOrigin`.
    """
    net = _unwrapped(net)
    name = type(net).__name__
    classes = _names(classes)
    if spec is None:
        if size is None:
            raise UsageError(
                f"got no size for {name}. Pass size=(height, width) or input=InputSpec(…)."
            )
        spec = _spec_of(size)
    elif size is not None and size != (spec.height, spec.width):
        raise UsageError(
            f"got size {size[0]}x{size[1]} and an input of {spec.height}x{spec.width}. Pass one."
        )
    probed = _Probed(net, output, spec, name)
    card = card_of(name, named_classes(probed.channels, classes, name), spec)
    return ModuleOrigin(probed, card)


def _unwrapped(net: Any) -> nn.Module:
    """The module without what compiles it or spreads it over devices, which cannot be traced.

    Raises:
        UsageError: anything that is not a module of Python code.
    """
    name = type(net).__name__
    if isinstance(net, torch.jit.ScriptModule):
        raise UsageError(
            f"got {name}, which is TorchScript; expected the torch.nn.Module that it was made of. "
            "Pass that, or write it as ONNX and use edgeunet export --onnx."
        )
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"got {name}; expected a torch.nn.Module. For a file of weights, use "
            "edgeunet.export_bundle."
        )
    inside = getattr(net, "_orig_mod", None)  # torch.compile's
    if isinstance(net, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        inside = net.module
    return _unwrapped(inside) if isinstance(inside, nn.Module) else net


def _names(classes: Sequence[str]) -> tuple[str, ...]:
    """UsageError for a text in place of names, and for a name that occurs twice."""
    if isinstance(classes, str):
        raise UsageError(f"got classes={classes!r}; expected a list with one name for each class.")
    names = tuple(classes)
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise UsageError(f"classes has {twice!r} twice. Pass one name for each class.")
    return names


def _spec_of(size: tuple[int, int]) -> InputSpec:
    """RGB with ImageNet's statistics; UsageError for what is no height and width."""
    try:
        height, width = map(operator.index, size)
        return InputSpec(height, width)
    except (TypeError, ValueError):
        raise UsageError(
            f"got size={size!r}; expected two positive numbers, size=(height, width)."
        ) from None


class _Probed(nn.Module):
    """The output of a net that is the logits, alone; a copy of the net if it must be one.

    channels: of the logits.

    Args:
        name: of the net, for errors.

    Raises:
        UsageError, ShapeError: see `ModuleOrigin`.
    """

    def __init__(
        self, net: nn.Module, output: str | int | None, spec: InputSpec, name: str
    ) -> None:
        super().__init__()
        training = _training(net)
        if training is not None:
            raise UsageError(
                f"{f'{name}.{training}' if training else name} is in training mode, in which "
                "dropout and batch normalisation change its answers. Call net.eval() first."
            )
        self.net = _on_cpu(net)
        self.output = output
        self.channels = _probe(self, spec, name)

    def forward(self, image: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits, or what was made of them (N, channels, h, w)."""
        return chosen_output(self.net(image), self.output)


def _graph_of(net: nn.Module, card: Card) -> tuple[ir.Model, Head]:
    """The reference graph of a net, and what was cut off behind its logits."""
    spec = card.input
    with tempfile.TemporaryDirectory(prefix="edgeunet-") as folder:
        path = Path(folder) / "traced.onnx"
        trace(net, path, height=spec.height, width=spec.width, channels=len(spec.channels))
        model = load(path)
    head = cut_head(model)
    to_two_classes(model, head)
    return model, head


def _logits_of(answer: Images, head: Head) -> Images:
    """What a net answers (N, channels, h, w) -> logits (N, classes, h, w)."""
    logits = answer
    if head.activation in ("softmax", "sigmoid"):
        logits = np.log(np.maximum(answer, _TINY))
    if head.activation == "sigmoid":
        logits = logits - np.log(np.maximum(1 - answer, _TINY))
    both = np.concatenate([-logits, logits], 1) / 2 if logits.shape[1] == 1 else logits
    return np.asarray(both, np.float32)


def _training(net: nn.Module) -> str | None:
    """Name of the first module whose training mode changes answers, "" for the net itself."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    for name, module in net.named_modules():
        if module.training and (not name or isinstance(module, kinds)):
            return str(name)
    return None


def _on_cpu(net: nn.Module) -> nn.Module:
    """The net itself, or a copy in FP32 on the CPU if it is not there."""
    tensors = [*net.parameters(), *net.buffers()]
    floats = [tensor for tensor in tensors if tensor.is_floating_point()]
    elsewhere = any(tensor.device.type != "cpu" for tensor in tensors)
    if not elsewhere and all(tensor.dtype == torch.float32 for tensor in floats):
        return net
    try:
        return copy.deepcopy(net).cpu().float()
    except Exception as error:  # modules with tensors that are no leaves
        raise UsageError(
            f"{type(net).__name__} cannot be copied to the CPU in FP32: {first_line(error)}. Pass "
            "net.cpu().float()."
        ) from None


def _probe(net: nn.Module, spec: InputSpec, name: str) -> int:
    """Channels of the logits; raises unless an image has the same finite ones each time."""
    found = _run(net, spec, name)
    largest = float(found.abs().max())
    if not np.isfinite(largest):
        raise UsageError(f"{name} returns logits that are not finite. Are its weights loaded?")

    def differs(again: Tensor) -> bool:
        return not float((found - again).abs().max()) <= _SAME * largest

    # The second image tells both faults; only if there is one does the net run again.
    two = _run(net, spec, name, batch=2)
    if two.shape[0] == 2 and not differs(two[:1]):
        return found.shape[1]
    if differs(_run(net, spec, name)):
        raise UsageError(
            f"{name} answers the same image differently each time: is dropout left on? Call "
            "net.eval(), and keep random numbers out of forward."
        )
    raise UsageError(
        f"{name} answers an image differently in a batch of two. Its forward must treat each "
        "image by itself."
    )


@torch.inference_mode()
def _run(net: nn.Module, spec: InputSpec, name: str, *, batch: int = 1) -> Tensor:
    """Logits of noise; errors of the net become a ShapeError if another size helps."""
    try:
        return _answer(net, spec, batch)
    except UsageError:
        raise
    except Exception as error:  # whatever the net's code raises
        fitting = _fitting(net, spec)
        if fitting is None:
            channels = _fitting_channels(net, spec)
            takes = "" if channels is None else f" It takes {channels}: pass input=InputSpec(…)."
            raise ExportError(
                f"{name} fails on an image of {spec.height}x{spec.width} with "
                f"{len(spec.channels)} channels: {_sentence(error)}{takes}"
            ) from None
        raise ShapeError(
            f"{name} does not take {spec.height}x{spec.width}: {_sentence(error)} It takes "
            f"{fitting[0]}x{fitting[1]}."
        ) from None


def _sentence(error: Exception) -> str:
    """The first line of an error, with one full stop."""
    return first_line(error).rstrip(". ") + "."


def _answer(net: nn.Module, spec: InputSpec, batch: int, channels: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    count = len(spec.channels) if channels is None else channels
    image = torch.rand(1, count, spec.height, spec.width, generator=generator)
    other = torch.rand(batch - 1, *image.shape[1:], generator=generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the net's own affair
        answer: Tensor = net(torch.cat([image, other]))
    return answer


def _fitting(net: nn.Module, spec: InputSpec) -> tuple[int, int] | None:
    """The next larger size that the net takes, None if none was found."""
    for step in _MULTIPLES:
        height, width = (-(-side // step) * step for side in (spec.height, spec.width))
        if (height, width) == (spec.height, spec.width):
            continue
        try:
            _answer(net, replace(spec, height=height, width=width), 1)
        except Exception:  # noqa: S112  # whatever the net's code raises
            continue
        return height, width
    return None


def _fitting_channels(net: nn.Module, spec: InputSpec) -> int | None:
    """The number of channels that the net's first convolution takes; None if that fails too."""
    first = next((each for each in net.modules() if isinstance(each, nn.Conv2d)), None)
    if first is None or first.in_channels == len(spec.channels):
        return None
    try:
        _answer(net, spec, 1, first.in_channels)
    except Exception:  # whatever the net's code raises
        return None
    return first.in_channels
