"""What a caller of `edgeunet deploy` chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from edgeunet.bundle.manifest import Flavour
from edgeunet.errors import UsageError
from edgeunet.fields import check, described

from ..graphs.pixels import PixelsForm
from ..options import Pixels

_FOR_ALL = ("flavour",)


@dataclass(frozen=True, kw_only=True)
class DeployOptions:
    """How to deploy; the help texts of the fields say what each is.

    Example:
        >>> from edgeunet.exporting.deploy import DeployOptions
        >>> DeployOptions(pixels="any").form
        PixelsForm(any_size=True, confidence=False)
    """

    flavour: Flavour | None = described(
        None, "Graph to deploy.", metavar="FLAVOUR", shown_default="the target's best"
    )
    pixels: Pixels | None = described(
        None, "Size of the frames that the graph takes.", shown_default="fixed: the net's size"
    )
    confidence: bool = described(False, "The graph puts out the confidence of each pixel too.")
    authors: tuple[str, ...] = described((), "Who made the net, for bioimageio.", metavar="NAME,…")
    cite: str | None = described(
        None, "What to cite, with a DOI or an address behind it, for bioimageio.", metavar="TEXT"
    )
    license: str | None = described(
        None, "SPDX identifier of the net's licence, for bioimageio.", metavar="NAME"
    )
    target: str | None = described(
        None, "SoC to compile for, for rockchip.", metavar="SOC", shown_default="rk3588"
    )
    package: Path | None = described(
        None,
        "What `npm pack` wrote of onnxruntime-web, for web.",
        metavar="FILE",
        shown_default="fetched by npm",
    )
    soc: str | None = described(
        None,
        "System on a chip to compile for, such as QCS6490, or the generation of its Hexagon, for "
        "qualcomm.",
        metavar="NAME",
        shown_default="each generation of Hexagon",
    )

    @property
    def form(self) -> PixelsForm:
        """Of the graph from frames to masks."""
        return PixelsForm(any_size=self.pixels == "any", confidence=self.confidence)


def check_options(options: DeployOptions, to: str, taken: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse values out of range, and options that do nothing for a target.

    Args:
        to: the target. taken: names of the fields that each target takes.

    Raises:
        UsageError, UnknownNameError: see above.
    """
    check(options)
    for field in fields(options):
        name, given = field.name, getattr(options, field.name)
        if name in (*_FOR_ALL, *taken[to]) or given == field.default:
            continue
        takers = [target for target, names in taken.items() if name in names]
        do = "does" if len(takers) == 1 else "do"
        raise UsageError(
            f"got {name}, and {to} does not use it; {', '.join(takers)} {do}. Leave it out."
        )
