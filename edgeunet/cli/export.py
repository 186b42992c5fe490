"""`edgeunet export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import click

from ..bundle.calibration_table import Method
from ..bundle.manifest import Color, Precision
from ..errors import UsageError
from ..export import ExportOptions, Preparation, export_bundle
from .common import DIRECTORY, SIZE, echo_json, force_option, json_option, preparation_options


class DepthList(click.ParamType[tuple[int, ...]]):
    """`1,2,3,4`."""

    name = "L,L[,L…]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The depths."""
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of depths, such as 1,2,3,4.")


@click.command("export")
@click.option("--model", required=True, help="Variant; `edgeunet models` lists them.")
@click.option("--weights", default="cells", show_default=True, help="Tag or checkpoint file.")
@click.option("--num-classes", type=int, help="Classes that the weights must have.")
@preparation_options
@click.option("--depth", type=click.IntRange(1, 4), help="Cut unetpp down to a depth.  [whole]")
@click.option(
    "--depths",
    type=DepthList(),
    help="Depths of unetpp to carry in one bundle, for `run --target-fps`.",
)
@click.option("--ensemble", is_flag=True, help="Mean of the heads of unetpp.  [the deepest]")
@click.option("--fp16", is_flag=True, help="Write the FP16 graph too.")
@click.option("--int8", is_flag=True, help="Write the FP16 and INT8 graphs too.")
@click.option("--calib", type=DIRECTORY, help="Frames, data set or video to calibrate INT8 with.")
@click.option(
    "--calib-method",
    type=click.Choice(["auto", *get_args(Method)]),
    default="auto",
    show_default=True,
    help="How ranges are made of values; auto measures which is best.",
)
@click.option("--calib-table", type=DIRECTORY, help="calibration.json to use instead of frames.")
@click.option("--data", type=DIRECTORY, help="Data set to measure parity on.  [golden frames]")
@click.option("--size", type=SIZE, help="Input of the net.  [that of the checkpoint]")
@click.option("--max-batch", type=click.IntRange(1), default=8, show_default=True)
@click.option("--max-iou-drop", type=float, default=0.5, show_default=True, help="IoU points.")
@click.option("-o", "output", type=DIRECTORY, help="Bundle.  [MODEL-PRECISION]")
@force_option
@json_option
def command(
    model: str,
    weights: str,
    num_classes: int | None,
    color: Color | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    depth: int | None,
    depths: tuple[int, ...] | None,
    ensemble: bool,
    fp16: bool,
    int8: bool,
    calib: Path | None,
    calib_method: Literal["auto"] | Method,
    calib_table: Path | None,
    data: Path | None,
    size: tuple[int, int] | None,
    max_batch: int,
    max_iou_drop: float,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Turn a checkpoint into a bundle and prove it against PyTorch."""
    if fp16 and int8:
        raise UsageError("--fp16 and --int8 came together; --int8 writes the FP16 graph as well.")
    if calib_table is not None and not int8:
        raise UsageError("--calib-table came without --int8; only INT8 is calibrated. Add --int8.")
    if calib_table is not None and calib_method != "auto":
        raise UsageError(
            f"--calib-table and --calib-method {calib_method} came together; a table has its "
            "method already. Leave one out."
        )
    precision: Precision = "int8" if int8 else "fp16" if fp16 else "fp32"
    options = ExportOptions(
        model=model,
        weights=weights,
        precision=precision,
        num_classes=num_classes,
        preparation=Preparation(color, mean, std),
        depth=depth,
        depths=depths or (),
        ensemble=ensemble,
        calib=calib,
        calib_method=None if calib_method == "auto" else calib_method,
        calib_table=calib_table,
        data=data,
        size=size,
        max_batch=max_batch,
        max_iou_drop=max_iou_drop,
    )
    target = output or Path(f"{model}-{precision}")
    parity = export_bundle(
        target, options, force=force, report=lambda step: click.echo(f"  {step}", err=True)
    )
    if as_json:
        echo_json({"bundle": str(target), "parity": parity.to_json()})
    else:
        click.echo(f"{parity.table()}\nwrote {target}")
