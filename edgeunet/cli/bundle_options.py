"""Options of the commands that load a bundle: backend, batch, tiles, smoothing, the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from ..bundle.bundle import open_bundle
from ..catalogue import packaged_name
from ..data.fit import Reading
from ..fields import described
from ..runtime.backends.choice import choose
from ..runtime.backends.fallback import uses_gpu
from ..runtime.options import MAX_OVERLAP, Blend, LoadOptions, Tiling
from ..runtime.sources.named import split_name
from ..runtime.sources.opening import find_frames
from .common import echo, option
from .steps import ShownSteps

_BACKENDS = "auto, onnxruntime, openvino, pytorch, rknn, rtx or tensorrt."

backend_option = option("--backend", section="Net", metavar="NAME", default="auto", help=_BACKENDS)
explain_option = option(
    "--explain",
    is_flag=True,
    section="Net",
    help="Measure again what --backend auto chooses from, and print it. EDGEUNET_MEASURE=0 in the "
    "environment keeps auto from measuring.",
)


def explain_choice(bundle: Path, backend: str, options: LoadOptions) -> None:
    """Measure what `auto` chooses from, keep the choice, and print all of it on stderr."""
    if backend != "auto":
        raise click.UsageError(f"--explain tells what auto chooses; leave out --backend {backend}.")
    if uses_gpu(options):
        echo("auto uses the GPU by TensorRT, and measures nothing.", err=True)
        return
    choice = choose(open_bundle(bundle), options, thorough=True, tell=lambda why: None)
    echo(choice.table, err=True)


def bundle_of(
    given: Path, sources: Sequence[str], *, checked: bool = True, quiet: bool = False
) -> Path:
    """The bundle that a command was given, by its path or as MODEL:TAG of packaged weights.

    Those are exported at their first use, calibrated with the first source that is no camera.

    Args:
        checked: whether to look for the sources before the export takes its minute.

    Raises:
        SourceError: a source that is not there, or neither images nor a video.
    """
    if packaged_name(str(given)) is None:
        return given
    from ..exporting.packaged import packaged_bundle  # needs PyTorch

    places = [split_name(source)[1] for source in sources]
    if checked:
        for place in places:
            find_frames(place)
    paths = map(Path, places)
    calib = next((path for path in paths if path.exists() and not path.is_char_device()), None)
    with ShownSteps(quiet=quiet) as steps:
        return packaged_bundle(str(given), calib=calib, report=steps)


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How `run` and `serve` feed the net; None in overlap and blend is the default of `Tiling`."""

    backend: str = described("auto", _BACKENDS, metavar="NAME")
    batch: int | None = described(
        None,
        "Frames, or tiles, per call of the net.",
        ge=1,
        shown_default="1, or one frame of each source",
    )
    temporal: float | None = described(
        None,
        "Share of earlier frames in each frame's logits, such as 0.3; reduces flicker.",
        ge=0,
        lt=1,
        metavar="SHARE",
        shown_default="no smoothing",
    )
    tile: bool = described(
        False,
        "Cut frames into tiles of the net's input size instead of resizing them.",
        section="Tiles",
    )
    overlap: float | None = described(
        None,
        "Overlap of neighbouring tiles, as a share of their side.",
        section="Tiles",
        ge=0,
        le=MAX_OVERLAP,
        metavar="SHARE",
        shown_default=str(Tiling.overlap),
    )
    blend: Blend | None = described(
        None,
        "gaussian averages overlapping tiles; valid takes each pixel from one tile.",
        section="Tiles",
        shown_default=Tiling.blend,
    )

    def __post_init__(self) -> None:
        for name in ("overlap", "blend"):
            if getattr(self, name) is not None and not self.tile:
                raise click.UsageError(f"--{name} needs --tile.")

    def arguments(self, options: LoadOptions, reading: Reading) -> dict[str, Any]:
        """Keyword arguments of `run` and `serve`; with --tile, the batch is of tiles."""
        tiling = None
        if self.tile:
            given: dict[str, Any] = {"overlap": self.overlap, "blend": self.blend}
            chosen = {name: value for name, value in given.items() if value is not None}
            tiling = Tiling(batch=self.batch or 1, **chosen)
        return {
            "backend": self.backend,
            "options": replace(options, tiling=tiling, reading=reading),
            "batch": 1 if self.tile else self.batch,
            "temporal": self.temporal,
        }
