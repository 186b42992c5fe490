"""Nets of other people's libraries through the whole export, as Markdown or JSON.

    python benchmarks/zoo.py [--only TEXT] [-o runs/zoo]     # random weights: which stages pass
    python benchmarks/zoo.py --trained [--only TEXT]         # 12 of them: train, then hold promises
    python benchmarks/zoo.py --time [--only TEXT]            # FP32 and INT8 on an idle machine
    python benchmarks/zoo.py --table [--json]                # what has been measured so far

Needs the extra [zoo]; downloads nothing. `zoo_nets.py` lists the 40 nets. Each goes through
`edgeunet.export` to an INT8 bundle, and each of its graphs is compared with PyTorch; those for
TensorRT are simulated on ONNX Runtime, and built for TensorRT-RTX if that is installed. A net that
is refused says why, in the words that a user reads.

With random weights only the stages and the signal to noise of the logits say something: a deep net
of random weights amplifies each error, and no threshold is held. So 12 nets are trained on
procedural cells, and must then keep what the project promises (`PROMISED`).

Each step is a process of its own with a limit of time and memory, so that no net takes another one
with it. It writes one line to `results.jsonl` when it is done; a step that has a line is not run
again, unless with `--again`. A training that was stopped resumes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from zoo_nets import ZOO, Architecture
from zoo_table import ENOUGH, tables
from zoo_train import kept_graphs

Line = dict[str, Any]
Job = str

MINUTES: Mapping[Job, float] = {"sweep": 15, "train": 20, "prove": 30, "time": 5}
"""Limit of a step, on a machine that does something else beside."""
GIGABYTES = 16.0
"""Limit of a step's address space."""


@click.command()
@click.option("--only", multiple=True, help="Nets whose name holds this text; may be repeated.")
@click.option("--trained", is_flag=True, help="Train the nets that train, and prove them.")
@click.option("--time", "timed", is_flag=True, help="Time the graphs. Needs an idle machine.")
@click.option("--table", is_flag=True, help="Run nothing.")
@click.option("--again", is_flag=True, help="Also run steps that have a result.")
@click.option("--threads", default=2, show_default=True, help="Of PyTorch and ONNX Runtime.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("runs/zoo"), show_default=True
)
@click.option("--json", "as_json", is_flag=True)
def main(
    only: tuple[str, ...],
    trained: bool,
    timed: bool,
    table: bool,
    again: bool,
    threads: int,
    output: Path,
    as_json: bool,
) -> None:
    """Run what has no result yet, then print all results."""
    chosen = [net for name, net in ZOO.items() if not only or any(text in name for text in only)]
    if not chosen:
        raise click.UsageError(f"no net holds {' or '.join(only)}; zoo_nets.py lists them.")
    results = Results(output / "results.jsonl")
    if not table:
        for job, net in _plan(chosen, trained=trained, timed=timed):
            if again or results.find(job, net.name) is None:
                if job == "prove" and not _is_trained(results, net):
                    continue
                if job == "time" and kept_graphs(output, net) is None:
                    click.echo(f"{net.name} was not exported: there is nothing to time.", err=True)
                    continue
                line = run_step(job, net.name, output, threads=threads)
                results.add(line)
                click.echo(f"{job} {net.name}: {_in_short(line)}", err=True)
    lines = results.last
    click.echo(json.dumps(lines, indent=1) if as_json else tables(lines))


def _plan(
    chosen: Iterable[Architecture], *, trained: bool, timed: bool
) -> Iterator[tuple[Job, Architecture]]:
    for net in chosen:
        if timed:
            yield "time", net
        elif not trained:
            yield "sweep", net
        elif net.trains:
            yield "train", net
            yield "prove", net


def _is_trained(results: Results, net: Architecture) -> bool:
    line = results.find("train", net.name)
    return line is not None and line.get("miou", 0.0) >= ENOUGH


class Results:
    """The lines of all steps, in a file; the last one of a step and a net counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[tuple[Job, str], Line] = {}
        if path.exists():
            for text in path.read_text(encoding="utf-8").splitlines():
                line = json.loads(text)
                self._lines[line["job"], line["name"]] = line

    @property
    def last(self) -> list[Line]:
        """The lines that count."""
        return list(self._lines.values())

    def find(self, job: Job, name: str) -> Line | None:
        """The line of a step; a step that was stopped at its limit or failed has none."""
        line = self._lines.get((job, name))
        return None if line is None or "fault" in line else line

    def add(self, line: Line) -> None:
        """Keep a line."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._lines[line["job"], line["name"]] = line


def run_step(
    job: Job,
    name: str,
    output: Path,
    *,
    threads: int,
    minutes: float | None = None,
    gigabytes: float = GIGABYTES,
) -> Line:
    """Run a step in a process of its own; {"fault": …} if that leaves no result."""
    limit = 60 * (MINUTES[job] if minutes is None else minutes)
    script = Path(__file__).with_name("zoo_job.py")
    command = [sys.executable, str(script), job, name, str(output.absolute())]
    memory = int(gigabytes * 2**30)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join([str(script.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    with TemporaryDirectory(prefix="edgeunet-zoo-") as scratch:  # outlives a process that is killed
        try:
            done = subprocess.run(
                command,
                env={**environment, "TMPDIR": scratch},
                stdout=subprocess.PIPE,
                timeout=limit,
                text=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory)),
            )
        except subprocess.TimeoutExpired:
            return {"job": job, "name": name, "fault": f"took longer than {limit / 60:g} minutes"}
    if done.returncode:
        fault = f"the process ended with code {done.returncode}; it may use {gigabytes:g} GB"
        return {"job": job, "name": name, "fault": fault}
    line: Line = json.loads(done.stdout.splitlines()[-1])
    return line


def _in_short(line: Line) -> str:
    if "fault" in line:
        return f"FAULT {line['fault'].strip().splitlines()[-1]}"
    if "refused" in line:
        return f"refused in {line['refused']['step']}: {line['refused']['reason']}"
    return ", ".join(f"{key} {line[key]}" for key in ("miou", "snr", "ms") if key in line)


if __name__ == "__main__":
    main()
