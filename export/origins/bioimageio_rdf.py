"""Descriptions of BioImage.IO's models, versions 0.4 and 0.5, as far as an export needs them.

Format: bioimageio.spec, model description 0.4.10 and 0.5.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgeunet.errors import CheckpointError, UsageError, first_line

from .bioimageio_package import File, Package, quoted
from .bioimageio_steps import Cast, Step, steps_of

_VERSIONS = ("0.4", "0.5")
_SHARES = {"0.4": 0.0, "0.5": 1e-4}  # of the values that may differ more, if nothing is told
_LETTERS = {"batch": "b", "channel": "c", "index": "i", "time": "t"}
_GENERIC = re.compile(r"(channel|c|class|output|input|ch)?[ _-]?\d*", re.IGNORECASE)
_TYPICAL, _LARGEST = 256, 512  # sides of windows that the description leaves open


@dataclass(frozen=True)
class Tensor:
    """The input or an output of a net.

    axes: such as "bcyx". sizes: of the axes y and x, the smallest and the step to the next, 0 for a
    fixed one; empty if the input decides. channels: names of them, "" for those without one.
    dtype: of the array. halo, offset: by axis, what is to be cut off, and by how much an output is
    larger than its input. values: names of the values of an output.
    """

    name: str
    axes: str
    sizes: Mapping[str, tuple[int, int]]
    channels: tuple[str, ...]
    dtype: str
    steps: tuple[Step, ...] = ()
    test: File | None = None
    halo: Mapping[str, int] = field(default_factory=dict)
    offset: Mapping[str, float] = field(default_factory=dict)
    values: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of an output; () if they have none of their own."""
        names = tuple(each.strip() for each in self.channels)
        own = all(names) and len(set(names)) == len(names)
        return names if own and not any(map(_GENERIC.fullmatch, names)) else ()

    def window(
        self, wanted: tuple[int, int] | None, shown: tuple[int, int] | None
    ) -> tuple[int, int]:
        """Height and width of the net's input.

        Args:
            wanted: by the user. shown: those of the test image.

        Raises:
            UsageError: a size that the net does not take.
        """
        sides = []
        for place, axis in enumerate("yx"):
            least, step = self.sizes[axis]
            if wanted is not None:
                side = wanted[place]
                if side < least or (side - least) % step if step else side != least:
                    nearest = least + max(0, round((side - least) / step)) * step if step else least
                    told = f"{least} and steps of {step} more" if step else f"{least}"
                    raise UsageError(
                        f"got --size {wanted[0]}x{wanted[1]}; the net takes {told} along {axis}. "
                        f"The nearest is {nearest}."
                    )
            elif not step:
                side = least
            else:
                most = _LARGEST if shown is None else min(shown[place], _LARGEST)
                most = _TYPICAL if shown is None else most
                side = least + max(0, (most - least) // step) * step
            sides.append(side)
        return sides[0], sides[1]


@dataclass(frozen=True)
class Tolerance:
    """How much an answer may differ from the package's: |difference| <= absolute + relative * |it|.

    share: of the values that may differ more.
    """

    relative: float = 1e-3
    absolute: float = 1e-3
    share: float = 0.0

    def __post_init__(self) -> None:
        values = (self.relative, self.absolute, self.share)
        if not all(0 <= value < math.inf for value in values):  # NaN too, which allows everything
            raise CheckpointError(
                f"its tolerances are {self.relative:g}, {self.absolute:g} and {self.share:g} of "
                "the values; expected finite numbers that are not negative."
            )


@dataclass(frozen=True)
class Told:
    """A tolerance, and the formats of weights and the outputs that it is for; () for all."""

    weights: tuple[str, ...]
    outputs: tuple[str, ...]
    tolerance: Tolerance


@dataclass(frozen=True)
class Description:
    """What a description says: the one input, the outputs, the weights by format, and tolerances.

    tolerances: as the file lists them, see `tolerance`.
    """

    version: str
    input: Tensor
    outputs: tuple[Tensor, ...]
    weights: Mapping[str, Any]
    tolerances: tuple[Told, ...]

    def tolerance(self, weights: str, output: str) -> Tolerance:
        """That of an output and a format of weights; the format's default if none is told."""
        for each in self.tolerances:
            if weights in (each.weights or [weights]) and output in (each.outputs or [output]):
                return each.tolerance
        return Tolerance(share=_SHARES[self.version])


def read_description(package: Package) -> Description:
    """What the package's description says.

    Raises:
        CheckpointError: another version or resource, several inputs, volumes, or what the format
            does not have.
    """
    where, content = f"{package.path}: {package.description}", package.read()
    if not isinstance(content, dict):
        raise CheckpointError(f"{where} holds no description of a model.")
    version = ".".join(str(content.get("format_version")).split(".")[:2])
    if content.get("type", "model") != "model" or version not in _VERSIONS:
        raise CheckpointError(
            f"{where} is a {quoted(content.get('type', 'model'))} of format version "
            f"{quoted(content.get('format_version'))}; expected a model of "
            f"{' or '.join(_VERSIONS)}. Update it: bioimageio update-format."
        )
    try:
        read = _older if version == "0.4" else _newer
        inputs = [read(each, content, "inputs", n) for n, each in enumerate(content["inputs"])]
        outputs = [read(each, content, "outputs", n) for n, each in enumerate(content["outputs"])]
        if len(inputs) != 1:
            names = ", ".join(quoted(each.name) for each in inputs[:4]) or "none"
            raise CheckpointError(
                f"the net has {len(inputs)} inputs ({names}); expected one, the image."
            )
        named = (content.get("config") or {}).get("edgeunet") or {}
        inputs = [_renamed(each, named.get("channels")) for each in inputs]
        outputs = [_renamed(each, named.get("classes")) for each in outputs]
        for tensor in (*inputs, *outputs):
            _check_axes(tensor)
        if set(inputs[0].sizes) != {"y", "x"}:
            raise ValueError("the input has no height or width")
        for tensor in outputs:
            _check_sizes(inputs[0], tensor)
        weights = {str(key): each for key, each in content["weights"].items() if each is not None}
        for entry in weights.values():
            for named in (entry, entry.get("external_data")):
                if named is not None:
                    File.of(named)  # it raises now what it would raise later
        return Description(
            version, inputs[0], tuple(outputs), weights, _tolerances(content, version)
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, LookupError) as error:
        raise CheckpointError(
            f"{where} is not as format {version} has it ({type(error).__name__}: "
            f"{quoted(first_line(error))})."
        ) from None
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from None


def _older(given: Mapping[str, Any], content: Mapping[str, Any], kind: str, index: int) -> Tensor:
    """A tensor of version 0.4, whose axes are letters."""
    name, axes, shape = str(given["name"]), str(given["axes"]), given["shape"]
    tests = content.get(f"test_{kind}") or []
    sizes: dict[str, tuple[int, int]] = {}
    offset: dict[str, float] = {}
    count: float = 1
    for place, axis in enumerate(axes):
        if isinstance(shape, Mapping) and "min" in shape:
            size = int(shape["min"][place]), int(shape["step"][place])
        elif isinstance(shape, Mapping):
            offset[axis] = 2 * float(shape["offset"][place])
            of_input = float(shape["scale"][place] or 0) * _older_channels(content)
            size = int(of_input + offset[axis]), 0
        else:
            size = int(shape[place]), 0
        if axis == "c":
            count = size[0]
        elif axis in "yx" and not (isinstance(shape, Mapping) and "min" not in shape):
            sizes[axis] = size
    halo = given.get("halo") or [0] * len(axes)
    processing = "preprocessing" if kind == "inputs" else "postprocessing"
    return Tensor(
        name,
        axes,
        sizes,
        ("",) * int(count),
        str(given.get("data_type", "float32")),
        steps_of(given.get(processing), axes, name),
        File.of(tests[index]) if tests else None,
        {axis: int(halo[place]) for place, axis in enumerate(axes)},
        {axis: value for axis, value in offset.items() if axis in "yx"},
    )


def _older_channels(content: Mapping[str, Any]) -> int:
    """Number of channels of the input in version 0.4."""
    given = content["inputs"][0]
    place = str(given["axes"]).find("c")
    shape = given["shape"]["min"] if isinstance(given["shape"], Mapping) else given["shape"]
    return int(shape[place]) if place >= 0 else 1


def _newer(given: Mapping[str, Any], content: Mapping[str, Any], kind: str, index: int) -> Tensor:
    """A tensor of version 0.5, whose axes are objects."""
    name = str(given.get("id", kind[:-1]))
    axes = ""
    channels: tuple[str, ...] = ("",)
    sizes: dict[str, tuple[int, int]] = {}
    halo: dict[str, int] = {}
    offset: dict[str, float] = {}
    listed = {str(axis.get("id", axis["type"])): axis for axis in given["axes"]}
    for axis in listed.values():
        space = axis["type"] == "space"
        letter = str(axis.get("id", "x")) if space else _LETTERS[axis["type"]]
        if len(letter) != 1:
            raise CheckpointError(f"{quoted(name)} has an axis {quoted(letter)}; expected y and x.")
        axes += letter
        if letter == "c":
            channels = tuple(map(str, axis["channel_names"]))
        size = axis.get("size")
        if space and isinstance(size, Mapping) and "axis_id" in size and kind == "inputs":
            if size.get("offset"):
                raise CheckpointError(f"{quoted(name)} has sides that depend on each other.")
            size = listed[str(size["axis_id"])]["size"]
        if space and isinstance(size, Mapping) and "min" in size:
            sizes[letter] = int(size["min"]), int(size["step"])
        elif space and isinstance(size, Mapping):
            offset[letter] = float(size.get("offset", 0))
        elif space:
            sizes[letter] = int(size), 0
        halo[letter] = int(axis.get("halo") or 0)
    data = given.get("data") or {}
    data = data[0] if isinstance(data, list) else data
    dtype = str(data.get("type", "float32"))
    processing = "preprocessing" if kind == "inputs" else "postprocessing"
    steps = steps_of(given.get(processing), axes, name)
    if kind == "inputs" and steps and isinstance(steps[0], Cast):
        dtype = steps[0].dtype
    values = data.get("values") or []
    test = given.get("test_tensor")
    return Tensor(
        name,
        axes,
        sizes,
        channels,
        dtype,
        steps,
        None if test is None else File.of(test),
        halo,
        offset,
        tuple(values) if all(isinstance(each, str) for each in values) else (),
    )


def _renamed(tensor: Tensor, names: Any) -> Tensor:
    """With the names that edgeunet wrote: the format's own must be identifiers."""
    fits = isinstance(names, list) and len(names) == len(tensor.channels)
    if not fits or not all(isinstance(name, str) for name in names):
        return tensor
    return replace(tensor, channels=tuple(names))


def _check_axes(tensor: Tensor) -> None:
    """Refuse volumes, and sides in another order."""
    if not set(tensor.axes) <= set("bcyx") or not {"y", "x"} <= set(tensor.axes):
        raise CheckpointError(
            f"{quoted(tensor.name)} has the axes {quoted(tensor.axes)}; expected b, c, y and "
            "x. Nets of volumes and of objects are not taken."
        )
    if tensor.axes.index("y") > tensor.axes.index("x") or len(set(tensor.axes)) < len(tensor.axes):
        raise CheckpointError(
            f"{quoted(tensor.name)} has the axes {quoted(tensor.axes)}; expected y before x."
        )
    for least, step in tensor.sizes.values():
        if least < 1 or step < 0 or not math.isfinite(step):
            raise ValueError(f"{quoted(tensor.name)} has sizes {least} and steps of {step}")


def _check_sizes(given: Tensor, output: Tensor) -> None:
    """Refuse an output that is no map of the whole image."""
    differs = max(map(abs, output.offset.values()), default=0.0)
    for axis, (side, step) in given.sizes.items():
        own, other = output.sizes.get(axis, (side, step))
        if not step and not other and own != side and own % side and side % own:
            differs = abs(own - side)
    if differs:
        raise CheckpointError(
            f"{quoted(output.name)} is {differs:g} pixels smaller or larger than the image, as "
            "of convolutions without padding; expected a map of the whole image."
        )


def _tolerances(content: Mapping[str, Any], version: str) -> tuple[Told, ...]:
    """What `config` says of tolerances, the most special first."""
    config = (content.get("config") or {}).get("bioimageio") or {}
    listed = [dict(each) for each in config.get("reproducibility_tolerance") or ()]
    for weights, given in (config.get("test_kwargs") or {}).items():
        listed.append({"weights_formats": [weights], **(given or {})})
    told = []
    for each in listed:
        share = each.get("mismatched_elements_per_million", _SHARES[version] * 1e6)
        tolerance = Tolerance(
            float(each.get("relative_tolerance", 1e-3)),
            float(each.get("absolute_tolerance", 1e-3)),
            float(share) / 1e6,
        )
        formats, outputs = each.get("weights_formats") or (), each.get("output_ids") or ()
        told.append(Told(tuple(map(str, formats)), tuple(map(str, outputs)), tolerance))
    return tuple(told)
