"""ONNX files of other people: `edgeunet export --onnx FILE`. PyTorch is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from edgeunet.bundle.manifest import RGB, InputSpec, imagenet
from edgeunet.data.fit import Frame
from edgeunet.data.preparation import Preparation, for_each
from edgeunet.errors import BackendError, EdgeUNetError, ExportError, UsageError, first_line
from edgeunet.metrics import Mask
from edgeunet.parity.reference import Images
from edgeunet.runtime.backends.ort import OrtNet
from edgeunet.runtime.frames import NetOutputs

from ..graphs.passes.graph import save
from .base import Origin, card_of, named_classes
from .onnx_batch import check_batch
from .onnx_classes import SMALLEST
from .onnx_forms import Normalised, normalise
from .onnx_reading import open_graph

Values = npt.NDArray[Any]

_GRAPH = Path("the graph")  # for errors

_HALVES = np.array([-0.5, 0.5], np.float32).reshape(1, 2, 1, 1)  # of one channel, see onnx_classes
_CLOSE = 1e-3
"""Largest difference of the logits, as a share of the largest, that another order of sums makes."""
_CLOSE_HALF = 3e-2
"""The same for an original that computes in FP16."""


class OnnxOrigin(Origin):
    """An ONNX file as it came, on ONNX Runtime.

    The file's own nodes compute the logits: they become a second output beside its answer. Masks
    are the file's answer itself for frames of its size. For other sizes its logits are enlarged.

    Args:
        path: of the file. size: height and width, if the graph leaves them open.
        output: which output, or value inside, is the logits; None for the only output.
        classes: names; () for those in the file's metadata, else numbers.
        preparation: of the frames, as far as the file does not tell it.
        spec: how frames become the file's own input, if its package tells, instead.

    path: what errors call the file.

    Raises:
        GraphError: a file that is damaged, not ONNX or unsafe. ExportError: a graph that cannot
            become a bundle. UsageError: options that are missing or do not fit.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int] | None = None,
        output: str | None = None,
        classes: Sequence[str] = (),
        preparation: Preparation | None = None,
        spec: InputSpec | None = None,
    ) -> None:
        file = open_graph(path)
        answer = output or str(file.model.graph.outputs[0].name)
        half = any(
            value.dtype == ir.DataType.FLOAT16 for value in file.model.graph.initializers.values()
        )
        try:
            found = normalise(file.model, size=size, output=output)
            notes: list[str] = []
            if spec is None and preparation is not None and preparation.statistics is not None:
                spec = preparation.input(_GRAPH, found.size, found.channels, None)
            if spec is None:
                spec, notes = _input_of(found, preparation or Preparation())
            else:
                spec = _behind(found, spec)
            names = _class_names(found, tuple(classes))
        except EdgeUNetError as error:
            raise type(error)(f"{path}: {error}") from None
        card = card_of(f"onnx:{path.name}", names, spec)
        super().__init__(card, f"{path.name} on ONNX Runtime", weights=path.stem)
        self.found = found
        self.notes += [*found.told(), *notes]
        self.path = path
        self._close = _CLOSE_HALF if half else _CLOSE
        self._net = open_session(file.original, [answer, found.head.value], path)
        self._check()

    def infer(self, images: Images) -> NetOutputs:
        """See `Reference`. Images are fed one by one, in the file's own layout and type."""
        return NetOutputs(np.concatenate([self._run(each[None])[0] for each in images]), None)

    def segment(self, frame: Frame) -> tuple[NetOutputs, Mask]:
        """See `Reference`."""
        logits, ids = self._run(self.prepare(frame))
        outputs, size = NetOutputs(logits, None), (frame.shape[0], frame.shape[1])
        if self.card.input.window is not None and size != self.found.size:
            return outputs, self.on_windows(self.whole(frame), frame)
        if size == ids.shape == self.found.size:
            return outputs, ids
        return outputs, self.decide(outputs, size)

    def write_graph(self, path: Path) -> None:
        """See `Origin`. The graph is compared with the file, and a batch with its images."""
        save(self.found.model, path)
        try:
            check_batch(path)
        except ExportError as error:
            raise ExportError(f"{self.path}: {error}") from None
        spec = self.card.input
        noise = _noise(2, len(spec.channels), spec)
        found, wanted = OrtNet(path).run(noise)[0], self.infer(noise).logits
        difference = _difference(found, wanted)
        if not difference <= self._close:
            raise ExportError(
                f"{self.path}: the rewritten graph differs from the file by {difference:.2g} of "
                "the largest logit. Please report this with the file."
            )

    # The file as it came

    def _run(self, image: Images) -> tuple[npt.NDArray[np.float32], Mask]:
        """One image (1, C, H, W) -> logits (1, classes, h, w), and the file's own ids (h, w)."""
        outputs = self._net.run(self._fed(image))
        answer, logits = outputs[0], outputs[-1].astype(np.float32)
        head = self.found.head
        if head.axis == 3:
            logits = np.moveaxis(logits, 3, 1)
        one = logits.shape[1] == 1
        if head.probabilities:
            both = np.concatenate([1 - logits, logits], 1) if one else logits
            logits = np.log(np.maximum(both, np.float32(SMALLEST)))
            if one:
                logits += np.float32(head.threshold) * -_HALVES
        elif one:
            logits = (logits - np.float32(head.threshold)) * _HALVES
        logits = np.ascontiguousarray(logits, np.float32)
        return logits, self._ids(answer, logits.argmax(1)[0].astype(np.uint8))

    def _fed(self, image: Images) -> npt.NDArray[Any]:
        """Net input of the contract -> the file's own input."""
        values, given = image.astype(np.float64), self.found.input
        known = self.found.normalisation
        if known is not None:
            gain, shift = (np.reshape(each, (1, -1, 1, 1)) for each in (known.gain, known.shift))
            values = ((values - shift) / gain)[:, np.argsort(known.order)]
        if given.layout == "NHWC":
            values = np.moveaxis(values, 1, 3)
        if given.dtype == "uint8":
            values = np.clip(np.rint(values), 0, 255)
        return np.ascontiguousarray(values.astype(given.dtype))

    def _ids(self, answer: Values, ids: Mask) -> Mask:
        """The file's answer for one image -> class ids (h, w); ids: those of its logits."""
        head, classes = self.found.head, self.found.classes
        if head.decision != "none":
            return np.asarray(answer.reshape(ids.shape), np.uint8)
        if classes == 2 and answer.size == ids.size:
            limit = 0.5 if head.activation == "sigmoid" else 0
            return np.asarray(answer.reshape(ids.shape) > limit, np.uint8)
        first = answer.shape[1] == classes and answer.shape[-1] != classes
        if answer.shape[1] == answer.shape[-1]:
            first = head.axis == 1
        planes = answer.reshape((classes, *ids.shape) if first else (*ids.shape, classes))
        return np.asarray(planes.argmax(0 if first else 2), np.uint8)

    def _check(self) -> None:
        """Refuse files whose answer is not what their graph looks like."""
        spec = self.card.input
        noise = _noise(1, len(spec.channels), spec)
        try:
            answer = self._net.run(self._fed(noise))[0]
            logits, ids = self._run(noise)
        except (BackendError, ValueError) as error:
            raise ExportError(
                f"{self.path} does not run on ONNX Runtime as it came: {first_line(error)}. "
                "Export it again."
            ) from None
        if not np.isfinite(logits).all():
            raise ExportError(f"{self.path} gives logits that are not finite. Export it again.")
        head = self.found.head
        if head.activation == head.decision == "none" and _are_probabilities(answer, head.axis):
            raise ExportError(
                f"{self.path} puts out what looks like probabilities, but none of the known forms "
                "of softmax and sigmoid is in front. Name the logits: --head NAME."
            )
        planes = np.sort(logits[0], axis=0)
        clear = planes[-1] - planes[-2] > self._close * max(1.0, float(np.abs(logits).max()))
        wrong = int(((logits[0].argmax(0) != ids) & clear).sum())
        if wrong:
            raise ExportError(
                f"{self.path}: {wrong} pixels of the answer are not what its logits say. Name the "
                "logits: --head NAME."
            )


def open_session(proto: onnx.ModelProto, outputs: Sequence[str], path: Path) -> OrtNet:
    """The graph as it is, with these values as its outputs, in place of those that it has.

    Raises:
        ExportError: ONNX Runtime does not run it.
    """
    known = {value.name: value for value in proto.graph.output}
    del proto.graph.output[:]
    for name in dict.fromkeys(outputs):
        proto.graph.output.append(known.get(name) or onnx.ValueInfoProto(name=name))
    try:
        return OrtNet(proto.SerializeToString())
    except BackendError as error:
        raise ExportError(
            f"{path} does not run on ONNX Runtime as it came: {first_line(error)}. Export it again."
        ) from None


def _noise(count: int, channels: int, spec: InputSpec) -> Images:
    """Images of noise over the range of pixels, normalised."""
    values = np.random.default_rng(0).random((count, channels, spec.height, spec.width))
    mean, std = (np.reshape(each, (1, -1, 1, 1)) for each in (spec.mean, spec.std))
    noise: Images = ((np.rint(values * 255) / 255 - mean) / std).astype(np.float32)
    return noise


def _difference(found: Values, wanted: Values) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.abs(found - wanted).max() / max(1.0, float(np.abs(wanted).max())))


def _are_probabilities(answer: Values, axis: int) -> bool:
    """Whether an answer lies in 0..1, and sums to 1 over more than one class."""
    if answer.dtype.kind != "f" or answer.min() < 0 or answer.max() > 1 + 1e-3:
        return False
    if answer.ndim != 4 or answer.shape[axis] == 1:
        return True
    return bool(np.abs(answer.sum(axis) - 1).max() < 1e-2)


def _input_of(found: Normalised, given: Preparation) -> tuple[InputSpec, list[str]]:
    """How frames become the input, and what was assumed.

    Raises:
        UsageError: what is given contradicts the graph, or channels without names.
    """
    inside, told = found.normalisation, found.metadata
    order = range(found.channels) if inside is None else inside.order
    names = found.names
    if given.channels is not None:
        if len(given.channels) != found.channels:
            raise UsageError(
                f"the graph takes {found.channels} channels; --channels "
                f"{','.join(given.channels)} does not fit."
            )
        names = tuple(given.channels[place] for place in order)
    if names is None:
        raise UsageError(
            f"the graph takes {found.channels} channels. Name them in its order, such as "
            "--channels red,green,blue,nir."
        )
    mean, std, notes = _statistics(found, names, given)
    spec = given.spec(found.size, names, mean, std)
    if told.bgr and not given.channels:
        notes.append("its metadata say that it takes blue, green, red")
    return spec, notes


def _behind(found: Normalised, own: InputSpec) -> InputSpec:
    """The input behind what the graph does with raw values, for one in front of it.

    Raises:
        UsageError: another number of channels.
    """
    inside, count = found.normalisation, len(own.channels)
    if count != found.channels:
        raise UsageError(f"the graph takes {found.channels} channels, got {count} names.")
    if inside is None:
        return replace(own, height=found.size[0], width=found.size[1])
    each = zip(inside.gain, inside.shift, inside.order, strict=True)
    values = [
        (own.channels[at], own.mean[at] - shift * own.std[at] / gain, own.std[at] / gain)
        for gain, shift, at in each
    ]
    names, mean, std = zip(*values, strict=True)
    return replace(
        own, height=found.size[0], width=found.size[1], channels=names, mean=mean, std=std
    )


def _statistics(
    found: Normalised, names: tuple[str, ...], given: Preparation
) -> tuple[tuple[float, ...], tuple[float, ...], list[str]]:
    """Mean and std for values in 0..1, and where they are from if the graph does not tell."""
    count, inside, told = found.channels, found.normalisation, found.metadata
    own = inside is not None and inside.levels is not None
    mean, std = for_each(given.mean, count), for_each(given.std, count)
    if own and (mean or std):
        raise UsageError("the graph normalises its input itself. Leave out --mean and --std.")
    if own:
        assert inside is not None
        ignored = ["its metadata tell another mean and std: not used"] if told.mean else []
        return inside.mean, inside.std, ignored
    if mean or std:
        return mean or (0.0,) * count, std or (1.0,) * count, []
    mean, std = for_each(told.mean, count), for_each(told.std, count)
    zero, one = (0.0,) * count, (1.0,) * count
    if mean or std:
        return mean or zero, std or (1 / 255,) * count, ["mean and std are those of its metadata"]
    colour = set(names) == set(RGB)
    mean, std = imagenet(names) if colour else (zero, one)
    assumed = "ImageNet's" if colour else "values in 0..1"
    note = f"its mean and std are not known: assumed {assumed}; pass --mean and --std if not"
    return mean, std, [note]


def _class_names(found: Normalised, given: tuple[str, ...]) -> tuple[str, ...]:
    """The given names, else those in the file's metadata if there is one for each class."""
    told = found.metadata.classes if len(found.metadata.classes) == found.classes else ()
    one = found.one_channel or (found.classes == 2 and len(given) == 1)
    return named_classes(1 if one else found.classes, given or told, "the graph")
