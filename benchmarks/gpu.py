"""TensorRT engines on the GPU at hand: right, how fast, and against what the card can do.

    python benchmarks/gpu.py BUNDLES [--torch PYTHON] [--minutes 14] [--only TEXT] [--results DIR]
    python benchmarks/gpu.py --dry

BUNDLES is what `gpu_bundles.py` wrote. Needs TensorRT 8.6 or newer and what `edgeunet doctor` asks
for, no network and no PyTorch; with `--torch` the interpreter that has it times the same nets. Each
engine is built, checked against its bundle's golden frames, and only then timed: the engine alone
with CUDA events, the whole way from host frames to host masks with the wall clock, and the kernels
against a copy on the device in the same run.

What is most wanted comes first, the kernels before all, since they need no engine. Each step is a
process of its own, so that one that fails takes no other with it, and writes one line of JSON when
it is done, to the screen and to DIR/CARD.jsonl, which `gpu_report.py` makes tables of. No step
starts that is not expected to end within the minutes; each one left out is named. `--dry` prints
the plan and the times that it expects, without a GPU. These are estimates, not measurements.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
from gpu_report import RESULTS, Line, results_file, write_line

# Set for one interpreter, they break another one.
_PYTHONS_OWN = ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH")
_BUNDLES = (
    "mobile_unet",
    "unet3p-gated",
    "unetpp-depth3",
    *(f"unetpp-depth{n}" for n in (1, 2, 4)),
)
"""What `gpu_bundles.py` makes, the most wanted first."""
_WANTED = (
    ("mobile_unet", "fp16"),
    ("mobile_unet", "int8"),
    ("unet3p-gated", "fp16"),
    ("unet3p-gated", "early-exit"),
    ("unetpp-depth3", "fp16"),
    ("unetpp-depth3", "int8"),
    *((name, "torch") for name in _BUNDLES[:3]),
)
"""Of these bundles, what comes before the rest of all."""
_REST = ("fp16", "early-exit", "int8", "torch", "fp32")
# Seconds that a step may take on a fast card with a slow builder. Nothing of it was measured.
_MACHINE, _KERNELS, _EARLY_EXIT, _TORCH, _COMPILE = 15, 40, 40, 30, 120
_ENGINE = {"fp16": 80, "int8": 90, "fp32": 50}
_TWO_ENGINES = 1.5  # times as long as one: encoder and decoder are smaller
_LIMIT = 3  # times the seconds expected: a step that hangs takes no other's time
_NO_TORCH = "needs --torch PYTHON"


@dataclass(frozen=True)
class Step:
    """One process: its name in the lines, the seconds expected, script and arguments."""

    name: Mapping[str, str]
    seconds: float
    script: str
    arguments: tuple[str, ...]

    @property
    def label(self) -> str:
        """The name in words."""
        return " ".join(self.name.values())

    @property
    def is_torch(self) -> bool:
        """Whether it runs in the interpreter that has PyTorch."""
        return self.script == "gpu_torch.py"


@click.command()
@click.argument(
    "bundles", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False
)
@click.option("--torch", "torch_python", help="Python interpreter that has PyTorch.")
@click.option("--minutes", default=14.0, show_default=True, help="For all of it.")
@click.option("--only", multiple=True, help="Steps that hold this text; may be repeated.")
@click.option(
    "--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the lines."
)
@click.option("--dry", is_flag=True, help="Print the plan, run nothing.")
def main(
    bundles: Path | None,
    torch_python: str | None,
    minutes: float,
    only: tuple[str, ...],
    results: Path,
    dry: bool,
) -> None:
    """Build, check, time, write."""
    if bundles is None and not dry:
        raise click.UsageError("name the folder that gpu_bundles.py wrote, or pass --dry.")
    found = {name: Path(name) for name in _BUNDLES}
    if bundles is not None:
        found = {path.parent.name: path.parent for path in bundles.glob("*/manifest.json")}
    if not found:
        raise click.UsageError(f"{bundles} holds no bundle; gpu_bundles.py makes them.")
    plan = [step for step in _plan(found) if not only or any(text in step.label for text in only)]
    if not plan:
        raise click.UsageError(f"no step holds {' or '.join(only)}; --dry prints all of them.")
    if dry:
        click.echo(_schedule(plan, minutes, torch_python))
        return
    sys.exit(_run_all(plan, time.monotonic() + 60 * minutes, torch_python, results))


def _plan(found: Mapping[str, Path]) -> Iterator[Step]:
    """All steps with these bundles, the most wanted first."""
    names = sorted(found, key=lambda name: (_rank(name), name))
    yield _job("kernels", _KERNELS)
    for name, what in dict.fromkeys([*_WANTED, *((n, what) for what in _REST for n in names)]):
        if name in found:
            yield from _of_bundle(name, found[name], what)
    for name in names[:1]:  # takes a minute or two
        named = {"step": "torch-compile", "bundle": name}
        yield Step(named, _COMPILE, "gpu_torch.py", (str(found[name]), "--compile"))


def _rank(name: str) -> int:
    return _BUNDLES.index(name) if name in _BUNDLES else len(_BUNDLES)


def _of_bundle(name: str, path: Path, what: str) -> Iterator[Step]:
    gated = name.endswith("gated")
    if what == "torch":
        yield Step({"step": "torch", "bundle": name}, _TORCH, "gpu_torch.py", (str(path),))
    elif what != "early-exit":
        seconds = _ENGINE[what] * (_TWO_ENGINES if gated else 1.0)
        yield _job("engine", seconds, str(path), what, bundle=name, precision=what)
    elif gated:
        frames = str(path.with_suffix(".npz"))
        yield _job("early-exit", _EARLY_EXIT, str(path), frames, bundle=name)


def _job(step: str, seconds: float, *arguments: str, **named: str) -> Step:
    return Step({"step": step, **named}, seconds, "gpu_job.py", (step, *arguments))


def _schedule(plan: Sequence[Step], minutes: float, torch_python: str | None) -> str:
    """The plan as text: what is expected to run when, and what is not."""
    lines = ["Seconds are estimates; none was measured.", "", f"{'from':>6}{'takes':>7}  step"]
    at = float(_MACHINE)
    lines.append(f"{0:>6.0f}{_MACHINE:>7.0f}  machine")
    for step in plan:
        if step.is_torch and torch_python is None:
            start, note = "-", f"  ({_NO_TORCH})"
        elif at + step.seconds > 60 * minutes:
            start, note = "-", "  (no time)"
        else:
            start, note = f"{at:.0f}", ""
            at += step.seconds
        lines.append(f"{start:>6}{step.seconds:>7.0f}  {step.label}{note}")
    lines += ["", f"{at:.0f} s of {60 * minutes:.0f} s."]
    return "\n".join(lines)


def _run_all(plan: Sequence[Step], end: float, torch_python: str | None, results: Path) -> int:
    """Run what fits before `end`; the exit code, 1 if a step failed."""
    started = _now()
    machine = run_step(_job("machine", _MACHINE), _LIMIT * _MACHINE, torch_python)
    path = None
    if "result" in machine:
        path = results_file(results, machine["result"]["gpu"])
    write_line({"step": "machine", "started": started, **machine}, path)
    if path is None:
        click.echo("Without a GPU no other step can run.", err=True)
        return 1
    failed, left_out = False, []
    for step in plan:
        left, line = end - time.monotonic(), {**step.name, "started": _now()}
        if step.is_torch and torch_python is None:
            line["left_out"] = _NO_TORCH
        elif left < step.seconds:
            line["left_out"] = f"takes about {step.seconds:.0f} s, {max(0.0, left):.0f} s are left"
        else:
            line |= run_step(step, min(left, _LIMIT * step.seconds), torch_python)
        failed |= "problem" in line
        left_out += [step.label] if "left_out" in line else []
        write_line(line, path)
    if left_out:
        click.echo(f"Left out: {', '.join(left_out)}.", err=True)
    click.echo(f"python {Path(__file__).with_name('gpu_report.py')} {path}", err=True)
    return int(failed)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def run_step(step: Step, seconds: float, torch_python: str | None) -> Line:
    """Run a step for at most so many seconds: its result or its problem, and what it took."""
    script = str(Path(__file__).parent / step.script)
    python, environment = sys.executable, dict(os.environ)
    if step.is_torch:
        python = str(torch_python)
        environment = {key: each for key, each in environment.items() if key not in _PYTHONS_OWN}
    started = time.monotonic()
    found = _run([python, script, *step.arguments], seconds, environment)
    problem = isinstance(found, dict) and "problem" in found
    outcome: dict[str, Any] = found if problem else {"result": found}
    return {"seconds": round(time.monotonic() - started, 1), **outcome}


def _run(command: list[str], seconds: float, environment: dict[str, str]) -> Any:
    """What a process prints as its last line, in JSON, or what kept it from that."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env=environment,
        )
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"problem": f"not done within {seconds:.0f} s"}
    except OSError as error:
        return {"problem": str(error)}
    except (IndexError, ValueError):
        return {"problem": f"exit code {done.returncode}: {done.stderr[-1500:].strip()}"}


if __name__ == "__main__":
    main()
