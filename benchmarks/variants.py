"""All variants with their default weights: parameters, GFLOPs, latency and mIoU, as Markdown.

    python benchmarks/variants.py --data DIR [--threads 2] [--json]

DIR is the procedural data that `edgeunet train --data cells` writes. Each variant is exported to an
INT8 bundle; the FP32 and INT8 graphs of all of them take turns, figures are medians, and ratios are
of this run. No latency is printed for graphs that do not agree with PyTorch.
"""

from __future__ import annotations

from pathlib import Path

import click
from bundle_table import measure_bundles

from edgeunet import ExportOptions, list_models
from edgeunet.catalogue import list_weights


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=8, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(data: Path, threads: int, rounds: int, as_json: bool) -> None:
    """Export, check, time, print."""
    table = measure_bundles(
        {
            model: ExportOptions(model, precision="int8", calib=data, data=data)
            for model in list_models()
            if "cells" in list_weights(model)
        },
        title=f"weights cells on {data.resolve().name}",
        threads=threads,
        rounds=rounds,
    )
    click.echo(table.json() if as_json else table.markdown(relative=False))


if __name__ == "__main__":
    main()
