"""Parameter types, options and progress that several commands share."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from ..bundle.manifest import Color, Precision
from ..runtime.backends.tiling import Blend, Tiling
from ..runtime.backends.tiling.plan import MAX_OVERLAP

F = TypeVar("F", bound=Callable[..., Any])


class SizeType(click.ParamType[Any]):
    """`HxW`, such as 352x480."""

    name = "HxW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """(height, width)."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)[xX](\d+)", str(value))
        if match is None:
            self.fail(f"{value!r} is not a size; HEIGHTxWIDTH was wanted, such as 352x480.")
        return int(match[1]), int(match[2])


class NumbersType(click.ParamType[Any]):
    """Numbers with commas between them, such as 0.485,0.456,0.406."""

    name = "N[,N…]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers."""
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers, such as 0.5 or 0.485,0.456,0.406.")


SIZE = SizeType()
NUMBERS = NumbersType()
DIRECTORY = click.Path(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
force_option = click.option("--force", is_flag=True, help="Replace what exists.")
backend_option = click.option(
    "--backend",
    default="auto",
    show_default=True,
    help="auto, onnxruntime, pytorch, rtx or tensorrt.",
)

_device_option = click.option(
    "--device", type=click.IntRange(0), metavar="INDEX", help="GPU to compute on.  [0]"
)
_dla_option = click.option(
    "--dla",
    type=click.IntRange(0),
    metavar="CORE",
    help="Core of the Deep Learning Accelerator; what it cannot run falls back to the GPU.  "
    "tensorrt only.",
)
_precision_option = click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="One that the bundle holds.  [the one that it was exported for]",
)

target_fps_option = click.option(
    "--target-fps",
    type=click.FloatRange(min=0, min_open=True),
    help="Frame rate to hold, by switching between the depths that the bundle carries.",
)

temporal_option = click.option(
    "--temporal",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="SHARE",
    help="Share of the past in the logits of each frame, against flicker, such as 0.3.  [none]",
)


_color_option = click.option(
    "--color", type=click.Choice(get_args(Color)), help="For weights without a card.  [rgb or gray]"
)
_mean_option = click.option(
    "--mean", type=NUMBERS, help="Of values in 0..1, for weights without a card."
)
_std_option = click.option(
    "--std", type=NUMBERS, help="Of values in 0..1, for weights without a card."
)


def preparation_options(command: F) -> F:
    """--color, --mean and --std: how frames are prepared for weights without a card."""
    return _color_option(_mean_option(_std_option(command)))


def gpu_options(command: F) -> F:
    """--device and --dla; see `gpu_of`."""
    return _device_option(_dla_option(command))


def net_options(command: F) -> F:
    """What runs the net of a bundle: --backend, `gpu_options` and --precision."""
    return backend_option(gpu_options(_precision_option(command)))


def gpu_of(device: int | None, dla: int | None) -> dict[str, Any]:
    """What of `gpu_options` was given, as arguments of a backend or a build."""
    given = {"device": device, "dla": dla}
    return {name: value for name, value in given.items() if value is not None}


def echo_json(value: object, *, err: bool = False) -> None:
    """Print a value as indented JSON, on stderr if asked."""
    click.echo(json.dumps(value, indent=1), err=err)


@contextmanager
def progress(label: str, length: int | None) -> Iterator[Callable[..., None]]:
    """Bar with rate and remaining time on stderr.

    Yields a function that takes the count so far, and the length where it is known only then.
    """
    with click.progressbar(
        length=length or 1,
        label=label,
        show_pos=True,
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
    ) as bar:

        def report(count: int, length: int | None = None) -> None:
            bar.length = length or bar.length
            bar.update(count - bar.pos)

        yield report


tile_option = click.option(
    "--tile",
    is_flag=True,
    help="Cut frames into tiles of the net's input size, --batch a call, instead of resizing them.",
)
overlap_option = click.option(
    "--overlap",
    type=click.FloatRange(0, MAX_OVERLAP),
    help=f"Share of a tile's side that neighbours have in common.  [{Tiling.overlap}]",
)
blend_option = click.option(
    "--blend",
    type=click.Choice(get_args(Blend)),
    help=f"Add overlapping tiles up, or take each pixel from one.  [{Tiling.blend}]",
)


def tiling_of(tile: bool, overlap: float | None, blend: Blend | None, batch: int) -> Tiling | None:
    """What the options ask for, None without `--tile`.

    Raises:
        click.UsageError: `--overlap` or `--blend` without it.
    """
    given: dict[str, Any] = {"overlap": overlap, "blend": blend}
    given = {name: value for name, value in given.items() if value is not None}
    if tile:
        return Tiling(batch=batch, **given)
    if given:
        raise click.UsageError(f"--{next(iter(given))} needs --tile.")
    return None
