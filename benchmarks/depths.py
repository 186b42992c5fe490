"""U-Net++ at each depth: parameters, GFLOPs, latency and mIoU, as a Markdown table.

    python benchmarks/depths.py WEIGHTS --data DIR [--calib DIR] [--threads 2] [--json]

The table of Zhou et al., "UNet++", DLMIA 2018 (arXiv 1807.10165), section 4, for one's own weights
and data: WEIGHTS is a tag or a file of a U-Net++ with deep supervision, DIR a data set whose
validation split is segmented. Each depth is exported to an INT8 bundle; its FP32 and INT8 graphs
take turns with those of all other depths, figures are medians, and ratios are of this run. The mIoU
is PyTorch's and the INT8 bundle's, and no latency is printed for graphs that do not agree with
PyTorch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
from bundle_table import measure_bundles

from edgeunet import ExportOptions
from edgeunet.models import UNetPP
from edgeunet.models.checkpoints import Checkpoint


@click.command()
@click.argument("weights")
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--calib", type=click.Path(path_type=Path), help="[--data]")
@click.option("--max-iou-drop", default=0.5, show_default=True, help="Of INT8, IoU points.")
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=8, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    weights: str,
    data: Path,
    calib: Path | None,
    max_iou_drop: float,
    threads: int,
    rounds: int,
    as_json: bool,
) -> None:
    """Export, check, time, print."""
    opened = Checkpoint.open(weights, "unetpp")
    net, card = opened.net, opened.card
    assert isinstance(net, UNetPP), f"{weights} is a checkpoint of {card.model}"
    options = ExportOptions(
        "unetpp", weights, "int8", calib=calib or data, data=data, max_iou_drop=max_iou_drop
    )
    table = measure_bundles(
        {f"depth {depth}": replace(options, depth=depth) for depth in range(1, net.depth + 1)},
        title=f"unetpp {weights} on {data.resolve().name}",
        threads=threads,
        rounds=rounds,
    )
    click.echo(table.json() if as_json else table.markdown(relative=True))


if __name__ == "__main__":
    main()
