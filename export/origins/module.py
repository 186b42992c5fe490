"""Any PyTorch module that turns images into logits."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.datasets import default_palette
from edgeunet.data.fit import Frame
from edgeunet.errors import ExportError, ShapeError, UsageError, first_line
from edgeunet.metrics import Mask
from edgeunet.parity.reference import Images
from edgeunet.runtime.frames import NetOutputs

from ..graphs.trace import trace
from .base import Origin
from .distance import distance_of

Segment = Callable[[Frame], Mask]
"""Frame (H, W, C) -> class ids (H, W), by the origin's own code."""

_MULTIPLES = (2, 4, 8, 16, 32, 64, 128)
_SAME = 1e-3  # of the largest logit: what the order of sums changes in FP32, and more
_DICT_KEYS = ("out", "logits")


class ModuleOrigin(Origin):
    """A module, and optionally its own way from a frame to a mask.

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

    packages = ("torch",)

    def __init__(
        self,
        net: nn.Module,
        card: Card,
        *,
        output: str | None = None,
        segment: Segment | None = None,
        weights: str = "memory",
        title: str = "PyTorch",
    ) -> None:
        super().__init__(card, title, weights=weights)
        if net.training:
            raise UsageError(
                f"{card.model} is in training mode, in which dropout and batch normalisation "
                "change its answers. Call net.eval() first."
            )
        self._logits = _Logits(_on_cpu(net), output)
        self._segment = segment
        _probe(self._logits, card)

    @torch.inference_mode()
    def infer(self, images: Images) -> NetOutputs:
        """See `Reference`."""
        return NetOutputs(self._logits(torch.from_numpy(images)).float().numpy(), None)

    def segment(self, frame: Frame) -> tuple[NetOutputs, Mask]:
        """See `Reference`."""
        outputs, mask = super().segment(frame)
        return outputs, mask if self._segment is None else self._segment(frame)

    def write_graph(self, path: Path) -> None:
        """See `Origin`."""
        spec = self.card.input
        trace(self._logits, path, height=spec.height, width=spec.width, channels=len(spec.channels))

    @torch.inference_mode()
    def distance(self, frames: Iterable[Frame], spec: InputSpec) -> float:
        """See `Origin`."""
        return distance_of(self._logits, self._logits, frames, spec)


def open_module(
    net: nn.Module,
    *,
    size: tuple[int, int] | None,
    classes: Sequence[str],
    spec: InputSpec | None,
    output: str | None,
) -> ModuleOrigin:
    """A module as `edgeunet.export` takes it.

    Raises:
        UsageError: no size, two that differ, or see `ModuleOrigin`.
    """
    name = type(net).__name__
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"got {name}; expected a torch.nn.Module. For a file of weights, use "
            "edgeunet.export_bundle."
        )
    if spec is None:
        if size is None:
            raise UsageError(
                f"got no size for {name}. Pass size=(height, width) or input=InputSpec(…)."
            )
        spec = InputSpec(*size)
    elif size is not None and size != (spec.height, spec.width):
        raise UsageError(
            f"got size {size[0]}x{size[1]} and an input of {spec.height}x{spec.width}. Pass one."
        )
    counted = tuple(classes) or _class_names(_Logits(_on_cpu(net), output), spec, name)
    return ModuleOrigin(net, card_of(name, counted, spec), output=output)


def card_of(model: str, classes: Sequence[str], spec: InputSpec) -> Card:
    """A card for a net of which no more is known."""
    return Card(
        model=model,
        arguments={},
        classes=tuple(classes),
        palette=default_palette(len(classes)),
        input=spec,
        data="unknown",
    )


def _class_names(net: nn.Module, spec: InputSpec, name: str) -> tuple[str, ...]:
    """Numbered names for as many classes as the net has."""
    count = _run(net, spec, name).shape[1]
    return tuple(f"class {index}" for index in range(count)) if count > 1 else TWO_CLASSES


TWO_CLASSES = ("background", "foreground")
"""Names of what one channel decides between."""


class _Logits(nn.Module):
    """The output of a net that is the logits, alone."""

    def __init__(self, net: nn.Module, output: str | None) -> None:
        super().__init__()
        self.net = net
        self.output = output

    def forward(self, image: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes, h, w)."""
        found = chosen_output(self.net(image), self.output)
        return torch.cat([torch.zeros_like(found), found], 1) if found.shape[1] == 1 else found


def chosen_output(answer: Any, output: str | None) -> Tensor:
    """The tensor in what a net returns that is the logits.

    Raises:
        UsageError: no tensor of four dimensions is there, or not under that name.
    """
    if output is None:
        found = answer
        while not isinstance(found, Tensor):
            found = _first(found)
    else:
        found = _named(answer, output)
    if found.ndim != 4:
        raise UsageError(
            f"the net returns a tensor {_shape(found)}; expected logits (N, classes, h, w). If "
            "another output is the logits, name it."
        )
    return found


def _first(answer: Any) -> Any:
    """What comes first, or what is called logits, in something that is not a tensor."""
    logits = getattr(answer, "logits", None)
    if logits is not None:
        return logits
    if isinstance(answer, Mapping) and answer:
        return next(
            (answer[key] for key in _DICT_KEYS if key in answer), next(iter(answer.values()))
        )
    if isinstance(answer, (tuple, list)) and answer:
        return answer[0]
    raise UsageError(
        f"the net returns {_described(answer)}; expected logits (N, classes, h, w) in a tensor, "
        "tuple, list or dict, or as .logits."
    )


def _named(answer: Any, output: str) -> Tensor:
    found = None
    if isinstance(answer, Mapping):
        found = answer.get(output)
    elif output.isdecimal() and isinstance(answer, (tuple, list)) and int(output) < len(answer):
        found = answer[int(output)]
    elif isinstance(getattr(answer, output, None), Tensor):
        found = getattr(answer, output)
    if not isinstance(found, Tensor):
        raise UsageError(f"the net has no output {output!r}; it returns {_described(answer)}.")
    return found


def _described(answer: Any) -> str:
    """What a net returned, in words."""
    if isinstance(answer, Mapping):
        return f"a dict of {', '.join(map(repr, answer)) or 'nothing'}"
    if isinstance(answer, (tuple, list)):
        return f"a {type(answer).__name__} of {len(answer)}"
    return type(answer).__name__


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


def _probe(net: nn.Module, card: Card) -> None:
    """Raise unless the net gives the same finite logits of the card's classes each time."""
    name, spec = card.model, card.input
    found = _run(net, spec, name)
    again = _run(net, spec, name)
    largest = float(found.abs().max())
    if not np.isfinite(largest):
        raise UsageError(f"{name} returns logits that are not finite. Are its weights loaded?")
    if float((found - again).abs().max()) > _SAME * largest:
        raise UsageError(
            f"{name} answers the same image differently each time: is dropout left on? Call "
            "net.eval(), and keep random numbers out of forward."
        )
    if found.shape[1] != len(card.classes):
        raise UsageError(
            f"{name} returns {found.shape[1]} channels, got names of {len(card.classes)} classes: "
            f"{', '.join(card.classes)}. Pass one name a channel."
        )
    two = _run(net, spec, name, batch=2)
    if two.shape[0] != 2 or float((two[:1] - found).abs().max()) > _SAME * largest:
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
            raise ExportError(
                f"{name} fails on an image of {spec.height}x{spec.width} with "
                f"{len(spec.channels)} channels: {first_line(error)}"
            ) from None
        raise ShapeError(
            f"{name} does not take {spec.height}x{spec.width}: {first_line(error)}. It takes "
            f"{fitting[0]}x{fitting[1]}."
        ) from None


def _answer(net: nn.Module, spec: InputSpec, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, len(spec.channels), spec.height, spec.width, generator=generator)
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


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
