"""`edgeunet bench --all`: its options, and what it prints."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

from ..bundle.bundle import open_bundle
from ..data.description import LAYOUT
from ..data.fit import Fit
from ..errors import UsageError
from ..fields import described
from ..files import check_file
from ..runtime.options import MAX_OVERLAP, Blend, LoadOptions, Tiling
from .common import echo, echo_json, echo_step

_ALL = "The whole matrix"


@dataclass(frozen=True)
class MatrixOptions:
    """Arguments of `bench --all`; None in overlap and blend is the default of `Tiling`."""

    everything: bool = described(
        False,
        "Time every engine and precision that runs here, each batch and number of threads.",
        flag="--all",
        section=_ALL,
    )
    data: Path | None = described(
        None,
        "Data set (its val split) to measure mIoU on, images or video.",
        shown_default="the golden frames",
        section=_ALL,
    )
    layout: str | None = described(
        None, LAYOUT, metavar="NAME", shown_default="what the folder shows", section=_ALL
    )
    peers: bool = described(
        False,
        "Also time NNCF, ONNX Runtime's quantizer, ncnn, MNN, LiteRT and ExecuTorch.",
        section=_ALL,
    )
    html: Path | None = described(None, "Write a page with a picture.", section=_ALL)
    tile: bool = described(
        False, "Also time frames in tiles; --data has them, larger than the input.", section=_ALL
    )
    overlap: float | None = described(
        None,
        "Overlap of neighbouring tiles, as a share of their side.",
        ge=0,
        le=MAX_OVERLAP,
        metavar="SHARE",
        shown_default=str(Tiling.overlap),
        section=_ALL,
    )
    blend: Blend | None = described(
        None,
        "gaussian averages overlapping tiles; valid takes each pixel from one tile.",
        shown_default=Tiling.blend,
        section=_ALL,
    )


def check_matrix(matrix: MatrixOptions, others: dict[str, Any]) -> None:
    """Refuse options that the chosen kind of benchmark does not use.

    Args:
        others: those of `bench` alone that were given, by flag, and what to do instead.

    Raises:
        UsageError: names the option.
    """
    if not matrix.everything:
        for field in fields(matrix):
            if field.name != "everything" and getattr(matrix, field.name) != field.default:
                raise UsageError(f"--{field.name} needs --all.")
        return
    for flag, advice in others.items():
        raise UsageError(f"got {flag} with --all. {advice}.")
    if matrix.layout is not None and (matrix.data is None or not matrix.data.is_dir()):
        raise UsageError(
            f"got --layout {matrix.layout} without a data set. Pass its folder as --data."
        )
    for name in ("overlap", "blend"):
        if getattr(matrix, name) is not None and not matrix.tile:
            raise UsageError(f"--{name} needs --tile.")


def print_matrix(
    path: Path,
    matrix: MatrixOptions,
    options: LoadOptions,
    *,
    batches: tuple[int, ...],
    threads: tuple[int, ...],
    as_json: bool,
) -> None:
    """Measure all, and print it as a table or as JSON; with --html, write a page too."""
    from ..benchmark.accuracy import read_data
    from ..benchmark.matrix import Plan, measure_all
    from ..benchmark.table import WIDEST, table

    if matrix.html is not None:
        from ..benchmark.html import write_html  # a missing package is told before minutes pass

        check_file(matrix.html, force=True)
    bundle = open_bundle(path)
    data = None
    if matrix.data is not None:
        fit = Fit(bundle.manifest.input, options.reading, resized=not matrix.tile)
        data = read_data(matrix.data, bundle, fit, matrix.layout)
    tiling = None
    if matrix.tile:
        overlap, blend = matrix.overlap, matrix.blend
        tiling = Tiling(
            Tiling.overlap if overlap is None else overlap, Tiling.blend if blend is None else blend
        )
    plan = Plan(batches, threads, options, tiling=tiling, peers=matrix.peers, data=data)
    report = measure_all(bundle, plan, report=echo_step)
    if matrix.html is not None:
        write_html(matrix.html, report)
    if as_json:
        echo_json(report.to_json())
    else:
        columns = get_terminal_size(fallback=(WIDEST, 24)).columns
        echo(table(report, width=columns))
