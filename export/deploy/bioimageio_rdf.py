"""What a package of BioImage.IO says about its net: the steps around it, and rdf.yaml.

Format: bioimageio.spec, model description 0.5. Programs that read it differ in what they can do.
QuPath's reader takes gains only as a list (`DoubleArrayDeserializer`), and the format only as a
number unless each channel has its own; JDLL, which deepImageJ uses, then takes the first for all
(`ScaleLinearTransformation`), and knows no softmax. So the graph does all that fixed numbers can,
and the description has only what is measured on each image.

It is written as 0.5.3, whose names of files are plain texts: QuPath's reader takes no others.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from edgeunet.bundle.manifest import RGB, InputSpec, Manifest
from edgeunet.bundle.steps import ImageStatistics
from edgeunet.data.normalise import scaling
from edgeunet.errors import UsageError
from edgeunet.files import sha256

Numbers = npt.NDArray[np.float32]

FORMAT_VERSION = "0.5.3"
IMAGE, PROBABILITIES = "image", "probabilities"
"""Names of the tensors, in the graph too."""

_UNNAMED_PAPER = (
    "No publication of this net was named. Nets of its kind: Ronneberger et al., U-Net, 2015",
    "10.1007/978-3-319-24574-4_28",
)
_CITED = re.compile(r"(\S.*?)[\s,;]+(10\.\d{4,9}/\S+|https?://\S+)")
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
_ODD = re.compile(r"[^A-Za-z0-9_+() -]")  # what a name must not have
_LONGEST_NAME, _LONGEST_DESCRIPTION = 64, 512
_LARGEST_EPSILON = 0.1
_TINY = 1e-6
"""Whole numbers that are not all equal deviate by far more than this, so that adding it to the
deviation and taking the larger of the two are the same."""


@dataclass(frozen=True)
class Credits:
    """Who made a net and how it may be used; a bundle does not know.

    authors: their names. cite: a text that ends with a DOI or an address. license: an SPDX
    identifier.

    Raises:
        UsageError: they have another form.

    Example:
        >>> from edgeunet.exporting.deploy.bioimageio_rdf import Credits
        >>> Credits(cite="Doe et al., 2026. 10.1234/abc").cited
        ('Doe et al., 2026.', '10.1234/abc')
    """

    authors: tuple[str, ...] = ()
    cite: str | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        for name in self.authors:
            if not name.strip() or {"/", "\\"} & set(name):
                raise UsageError(f"got author {name!r}; expected a name without slashes.")
        if self.cite is not None and self.cited is None:
            raise UsageError(
                f"got --cite {self.cite!r}; expected a text and a DOI or an address behind it, "
                "such as 'Doe et al., 2026. 10.1234/abc'."
            )
        if self.license is not None and _LICENSE.fullmatch(self.license) is None:
            raise UsageError(
                f"got --license {self.license!r}; expected an SPDX identifier, such as MIT or "
                "CC-BY-4.0."
            )

    @property
    def cited(self) -> tuple[str, str] | None:
        """The text of `cite`, and its DOI or address."""
        found = _CITED.fullmatch(self.cite or "")
        return found and (found[1], found[2])


def check_input(spec: InputSpec) -> None:
    """Refuse an input that the format cannot describe.

    Raises:
        UsageError: by name.
    """
    size, window, problem = (spec.height, spec.width), spec.window, ""
    if window is not None and (window.blend != "none" or window.crop):
        problem = f"runs on {window.describe()}; the format has tiles with a halo alone"
    elif spec.fitted_size(*size) != size:
        problem = (
            f"pads frames of its own size, {spec.height}x{spec.width}, and the format cannot. "
            "Export it with a --size of multiples of 8"
        )
    elif spec.statistics is not None:
        problem = _unmeasured(spec.statistics, spec.depth)
    if problem:
        raise UsageError(
            f"the net {problem}. `edgeunet run` and `edgeunet deploy --to triton` take it."
        )


def _unmeasured(statistics: ImageStatistics, depth: str) -> str:
    """What the format cannot say of how images are normalised; empty if it can."""
    said = f"normalises images by {statistics.describe()}"
    if statistics.masks:
        return f"{said}; the format measures all pixels"
    exact = statistics.adds_epsilon or (statistics.epsilon <= _TINY and depth != "float32")
    if not exact or statistics.epsilon > _LARGEST_EPSILON:
        return (
            f"{said}, with a divisor of at least {statistics.epsilon:g}; the format adds up to "
            f"{_LARGEST_EPSILON} to it"
        )
    if statistics.measure == "range" and statistics.percentiles[1] <= 1:
        return f"{said}; the format's upper percentile is more than 1"
    return ""


def channels_of(spec: InputSpec) -> tuple[str, ...]:
    """Channels of the package's images: red, green, blue in this order, or the net's own.

    Programs take channels in the order that an image has them, and do not look at their names.
    """
    return RGB if set(spec.channels) == set(RGB) else spec.channels


def identifiers(names: Sequence[str]) -> list[str]:
    """Names as format 0.5.3 has those of channels: each an identifier of its own.

    Example:
        >>> from edgeunet.exporting.deploy.bioimageio_rdf import identifiers
        >>> identifiers(["red cell", "red-cell", "2nd"])
        ['red_cell', 'red_cell_2', 'c_2nd']
    """
    found: list[str] = []
    for name in names:
        plain = re.sub(r"\W+", "_", name) or "c"
        plain = plain if plain.isidentifier() and not keyword.iskeyword(plain) else f"c_{plain}"
        number, chosen = 1, plain
        while chosen in found:
            number += 1
            chosen = f"{plain}_{number}"
        found.append(chosen)
    return found


def scaling_of(spec: InputSpec) -> tuple[Numbers, Numbers]:
    """Gain and shift of each channel of the net, in its order, behind the steps."""
    if spec.statistics is None:
        return scaling(spec)
    mean, std = (np.asarray(each, np.float32) for each in (spec.mean, spec.std))
    return np.float32(1) / std, -mean / std


def steps_before(spec: InputSpec) -> list[dict[str, Any]]:
    """What a program does with an image in front of the net.

    Example:
        >>> from edgeunet.bundle.manifest import InputSpec
        >>> from edgeunet.bundle.steps import ImageStatistics
        >>> from edgeunet.exporting.deploy.bioimageio_rdf import steps_before
        >>> [step["id"] for step in steps_before(InputSpec(64, 96, statistics=ImageStatistics()))]
        ['zero_mean_unit_variance']
    """
    statistics = spec.statistics
    if statistics is None:
        return []
    axes = ["y", "x"] if statistics.per_channel else ["channel", "y", "x"]
    measured: dict[str, Any] = {"axes": axes, "eps": statistics.epsilon}
    if statistics.measure == "zscore":
        return [{"id": "zero_mean_unit_variance", "kwargs": measured}]
    low, high = statistics.percentiles
    percentiles = {"min_percentile": low, "max_percentile": high}
    return [{"id": "scale_range", "kwargs": measured | percentiles}]


def halo_of(spec: InputSpec) -> tuple[int, int]:
    """Rows and columns at the border of a tile that only the border of an image uses."""
    if spec.window is None:
        return 0, 0
    sides = (spec.height, spec.width)
    rows, columns = (round(side * (1 - spec.window.step) / 2) for side in sides)
    return rows, columns


def credit_entries(credit: Credits) -> dict[str, Any]:
    """Authors, citation and licence.

    Format 0.5.3 demands all of them. If nobody is named, the entries say so.

    Raises:
        UsageError: no licence.
    """
    if credit.license is None:
        raise UsageError(
            "expected the licence of the net, which a package must name and a bundle does not "
            "know. Pass --license with an SPDX identifier, such as MIT or CC-BY-4.0."
        )
    text, target = credit.cited or _UNNAMED_PAPER
    return {
        "authors": [{"name": name.strip()} for name in credit.authors or ("unknown",)],
        "cite": [{"text": text, "url" if "://" in target else "doi": target}],
        "license": credit.license,
    }


def describe_model(
    manifest: Manifest, credit: Credits, folder: Path, *, opset: int
) -> dict[str, Any]:
    """The description of a package.

    Args:
        folder: holds the files that it names. opset: of the weights.
    """
    spec = manifest.input
    tiles = {"concatenable": True} if spec.window is not None else {}
    sides = {"y": spec.height, "x": spec.width}
    halos = dict(zip("yx", halo_of(spec), strict=True))
    batch = {"type": "batch"}
    image = {
        "id": IMAGE,
        "axes": [
            batch,
            {"type": "channel", "channel_names": identifiers(channels_of(spec))},
            *({"type": "space", "id": axis, "size": size} | tiles for axis, size in sides.items()),
        ],
        "data": {"type": "float32"},
        "preprocessing": steps_before(spec),
        "test_tensor": _file(folder, "image.npy"),
    }
    probabilities = {
        "id": PROBABILITIES,
        "axes": [
            batch,
            {"type": "channel", "channel_names": identifiers(manifest.classes)},
            *(
                {"type": "space", "id": axis, "size": {"tensor_id": IMAGE, "axis_id": axis}}
                | ({"halo": halos[axis]} if halos[axis] else {})
                for axis in sides
            ),
        ],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": _file(folder, "probabilities.npy"),
    }
    classes = ", ".join(manifest.classes)
    return {
        "type": "model",
        "format_version": FORMAT_VERSION,
        "name": _ODD.sub("-", f"{manifest.model} of edgeunet")[-_LONGEST_NAME:],
        "description": f"Semantic segmentation: {classes}"[:_LONGEST_DESCRIPTION],
        **credit_entries(credit),
        "documentation": "README.md",
        "covers": ["cover.png"],
        "tags": ["semantic-segmentation", "2d", "onnx", "edgeunet"],
        "inputs": [image],
        "outputs": [probabilities],
        "weights": {"onnx": {**_file(folder, "weights.onnx"), "opset_version": opset}},
        # As they are called: channels must be identifiers.
        "config": {
            "edgeunet": {"channels": list(channels_of(spec)), "classes": list(manifest.classes)}
        },
    }


def _file(folder: Path, name: str) -> dict[str, str]:
    return {"source": name, "sha256": sha256(folder / name)}


class _Text(str):
    """A value that is written in quotes."""


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    def ignore_aliases(self, data: object) -> bool:
        """Repeat what occurs twice: who does not trust a file refuses aliases."""
        return True


_Dumper.add_representer(
    _Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def _quoted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _quoted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_quoted(each) for each in value]
    return _Text(value) if isinstance(value, str) else value


def to_yaml(content: dict[str, Any]) -> str:
    """A description as YAML.

    Texts are in quotes, as versions 1.1 and 1.2 differ in which plain words are numbers.

    Example:
        >>> from edgeunet.exporting.deploy.bioimageio_rdf import to_yaml
        >>> print(to_yaml({"tags": ["0o17", "no"]}), end="")
        tags:
        - "0o17"
        - "no"
    """
    dumped: str = yaml.dump(_quoted(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return dumped
