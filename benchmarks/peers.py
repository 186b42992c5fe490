"""`auto` against everything else: our engines and precisions, PyTorch, and other projects' tools.

    python benchmarks/peers.py --prepare [--row NAME …]     # bundles and models; takes an hour
    python benchmarks/peers.py [--row NAME …] [--threads 2,1] [--batch 1,8]
    python benchmarks/peers.py --report                     # Markdown of all that was measured

All at 352x480. A row is a net, a cell one row with one number of threads and one batch size. Each
cell's columns are measured in processes of their own, in turns in blocks, and appended to
`results.jsonl` in the cache. Cells that are there already are not measured again, so a run can be
stopped and goes on. Masks are compared with PyTorch's beside the timings. Peers that are not
installed have no column, and nets of libraries that are not no row: `pip install openvino nncf MNN
'.[ncnn,smp]'`, and `pip install ultralytics` (AGPL-3.0), which nothing else here uses. LiteRT and
ExecuTorch take part where they are installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from peers_nets import ROWS, Kept, calibration_images, is_whole, keep, make_bundle
from peers_report import markdown

from edgeunet.benchmark.peers import PEERS
from edgeunet.errors import EdgeUNetError

RESULTS = "results.jsonl"
_CELL_SECONDS = 900


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), default=Path("peers-cache"))
@click.option("--data", type=click.Path(path_type=Path), default=Path("../shared/data/camvid"))
@click.option("--row", "rows", multiple=True, help="A net by its name; all without.")
@click.option("--threads", default="2,1", show_default=True)
@click.option("--batch", "batches", default="1,8", show_default=True)
@click.option("--budget", default=1.0, show_default=True, help="Seconds of timing a column.")
@click.option("--minutes", default=60.0, show_default=True, help="No cell starts later than this.")
@click.option("--prepare", is_flag=True, help="Make bundles and models.")
@click.option("--again", is_flag=True, help="With --prepare: make the bundles again.")
@click.option("--compile", "compiles", is_flag=True, help="With --prepare: torch.compile too.")
@click.option("--report", is_flag=True, help="Print tables of what was measured.")
@click.option("--cell", hidden=True, is_flag=True)
def main(
    cache: Path,
    data: Path,
    rows: Sequence[str],
    threads: str,
    batches: str,
    budget: float,
    minutes: float,
    prepare: bool,
    again: bool,
    compiles: bool,
    report: bool,
    cell: bool,
) -> None:
    """Prepare, measure or report."""
    unknown = [name for name in rows if name not in ROWS]
    if unknown:
        raise click.UsageError(f"no row {unknown[0]}; there are: {', '.join(ROWS)}")
    cache = cache.resolve()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "inductor"))
    os.environ.setdefault("XDG_CACHE_HOME", str(cache / "choices"))
    results = cache / RESULTS
    if report:
        click.echo(markdown([json.loads(line) for line in results.read_text().splitlines()]))
        return
    kept = [keep(ROWS[name], cache) for name in (rows or ROWS)]
    cells = [(int(t), int(b)) for b in batches.split(",") for t in threads.split(",")]
    if cell:
        _one_cell(kept[0], *cells[0], budget=budget, compiles=compiles)
    elif prepare:
        for each in kept:
            _prepare(each, cache, data, again=again)
        if compiles:
            _in_processes(kept, cells, results=None, minutes=minutes, arguments=["--compile"])
    else:
        _in_processes(
            kept, cells, results=results, minutes=minutes, arguments=["--budget", str(budget)]
        )


def _prepare(kept: Kept, cache: Path, data: Path, *, again: bool) -> None:
    """Make the bundle, and what each peer makes of its FP32 graph; what is there stays."""
    name = kept.row.name
    if kept.row.of_camvid and not data.is_dir():
        click.echo(f"{name}: left out, no data in {data}")
        return
    started = time.monotonic()
    try:
        make_bundle(kept, cache, data, again=again, report=lambda step: None)
    except ModuleNotFoundError as error:
        click.echo(f"{name}: left out, {error}")
        return
    click.echo(f"{name}: bundle, {time.monotonic() - started:.0f} s")
    missing = [
        peer
        for peer in PEERS
        if peer.missing is None and not (kept.folder / "peers" / peer.name / "made").exists()
    ]
    if not missing:
        return
    images = calibration_images(kept, data)
    for peer in missing:
        started = time.monotonic()
        try:
            graph = kept.bundle.model_path("fp32")
            peer.make(graph, images, kept.folder / "peers" / peer.name)
            click.echo(f"{name}: {peer.name}, {time.monotonic() - started:.0f} s")
        except EdgeUNetError as error:
            click.echo(f"{name}: {error}")


def _in_processes(
    kept: Sequence[Kept],
    cells: Sequence[tuple[int, int]],
    *,
    results: Path | None,
    minutes: float,
    arguments: Sequence[str],
) -> None:
    """Do each cell that is not done, in a process of its own."""
    from peers_cell import compiled_mark

    done = _done(results) if results is not None else set()
    ends = time.monotonic() + 60 * minutes
    for threads, batch in cells:
        for each in kept:
            place = each.row.name, threads, batch
            compiled = results is None and compiled_mark(each, threads, batch).exists()
            if place in done or compiled or not is_whole(each):
                continue
            if time.monotonic() > ends:
                click.echo("the time is over; call it again to go on")
                return
            started = time.monotonic()
            line = _cell(each, threads, batch, arguments)
            took = f"{time.monotonic() - started:.0f} s"
            click.echo(f"{each.row.name}, {threads} threads, batch {batch}: {took} {_told(line)}")
            if results is not None and "ms" in line:
                with results.open("a") as file:
                    file.write(json.dumps(line) + "\n")


def _cell(kept: Kept, threads: int, batch: int, arguments: Sequence[str]) -> dict[str, Any]:
    """The result of one cell; {"failed": …} if its process failed."""
    command = [
        *(sys.executable, __file__, "--cell", "--cache", str(kept.folder.parent)),
        *("--row", kept.row.name, "--threads", str(threads), "--batch", str(batch), *arguments),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    try:
        ran = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            timeout=_CELL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"more than {_CELL_SECONDS} s"}
    if ran.returncode:
        return {"failed": (ran.stderr.strip().splitlines() or ["no word"])[-1]}
    answers = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    found: dict[str, Any] = json.loads(answers[-1])  # libraries print other lines
    return found


def _one_cell(kept: Kept, threads: int, batch: int, *, budget: float, compiles: bool) -> None:
    from peers_cell import compile_net, measure_cell

    if compiles:
        compile_net(kept, threads, batch)
        click.echo("{}")
    else:
        click.echo(json.dumps(measure_cell(kept, threads, batch, budget=budget)))


def _done(results: Path) -> set[tuple[str, int, int]]:
    lines = results.read_text().splitlines() if results.exists() else []
    found = [json.loads(line) for line in lines]
    return {(line["row"], line["threads"], line["batch"]) for line in found}


def _told(line: dict[str, Any]) -> str:
    if "ms" not in line:
        return str(line.get("failed", ""))
    best = min(line["ms"], key=line["ms"].__getitem__)
    auto = line["ms"].get(line["auto"])
    ratio = "not timed" if auto is None else f"{auto:.1f} ms, {auto / line['ms'][best]:.2f}x"
    return f"auto {line['auto']} {ratio} of the best, {best} {line['ms'][best]:.1f} ms"


if __name__ == "__main__":
    main()
