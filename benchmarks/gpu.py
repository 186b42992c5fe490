"""TensorRT engines on the GPU at hand: right, how fast, and against what the card can do.

    python benchmarks/gpu.py BUNDLES [-o DIR] [--torch PYTHON] [--minutes 8] [--only NAME]

BUNDLES is what `gpu_bundles.py` wrote. Needs TensorRT 8.6 or newer, nvcc and filelock, no
network and no PyTorch; with `--torch` the interpreter that has it times the same nets at the end.
Each engine is built, checked against its bundle's golden frames, and only then timed: the engine
alone with CUDA events, the whole way from host frames to host masks with the wall clock, and the
kernels against a copy on the device in the same run. Each step is a process of its own, so that one
that fails takes no other with it. What is most wanted comes first; `gpu.json` and `gpu.md` hold
what was measured, and by name what there was no time for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from gpu_report import markdown

# Set for one interpreter, they break another one.
_PYTHONS_OWN = ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH")
_FIRST = ("mobile_unet", "unet3p-gated")
_TORCH_MINUTES = 3.0


@click.command()
@click.argument("bundles", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path())
@click.option("--torch", "torch_python", help="Python interpreter that has PyTorch.")
@click.option("--minutes", default=8.0, show_default=True, help="For all of it.")
@click.option("--only", help="One of the bundles.")
def main(
    bundles: Path, output: Path, torch_python: str | None, minutes: float, only: str | None
) -> None:
    """Build, check, time, write."""
    found = {path.parent.name: path.parent for path in bundles.glob("*/manifest.json")}
    names = sorted(found, key=lambda name: (name not in _FIRST, name))
    names = [name for name in names if only in (None, name)]
    if not names:
        raise click.UsageError(f"{bundles} holds no such bundle; gpu_bundles.py makes them.")
    end = time.monotonic() + 60 * minutes
    report: dict[str, Any] = {"engines": [], "left_out": []}
    output.mkdir(parents=True, exist_ok=True)
    torch_time = 60 * _TORCH_MINUTES if torch_python else 0.0
    for key, label, arguments in _steps(found, names):
        left = end - time.monotonic() - torch_time
        if left <= 0:
            report["left_out"].append(label)
            continue
        result = run_job(arguments, left)
        if key == "engines":
            name, precision = label.split()
            report[key].append({"bundle": name, "precision": precision, **result})
        else:
            report[key] = result
        click.echo(f"{label}: {result}", err=True)
        _write(report, output)
    _write(report, output)
    if torch_python is not None:
        left = min(end - time.monotonic(), torch_time)
        report["torch"] = run_torch(torch_python, bundles, left)
        _write(report, output)
    click.echo(markdown(report))


def _steps(found: dict[str, Path], names: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """(key in the report, name, arguments of `gpu_job.py`) of each step, the most wanted first."""
    yield "machine", "machine", ["machine"]
    for precision in ("fp16", "int8", "fp32"):
        for name in names:
            yield "engines", f"{name} {precision}", ["engine", str(found[name]), precision]
        if precision == "fp16":
            yield "kernels", "kernels", ["kernels"]
            for name in names:
                frames = found[name].with_suffix(".npz")
                if frames.is_file():
                    arguments = ["early-exit", str(found[name]), str(frames)]
                    yield "early_exit", f"{name} early exit", arguments


def _write(report: dict[str, Any], output: Path) -> None:
    """After each step: a run that is cut short leaves what it measured."""
    (output / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    (output / "gpu.md").write_text(markdown(report))


def run_job(arguments: Sequence[str], seconds: float) -> Any:
    """What a step prints as its last line, in JSON, or what kept it from that."""
    job = Path(__file__).with_name("gpu_job.py")
    return _run([sys.executable, str(job), *arguments], seconds)


def run_torch(python: str, bundles: Path, seconds: float) -> Any:
    """What PyTorch does with the same nets."""
    script = Path(__file__).with_name("gpu_torch.py")
    environment = {key: value for key, value in os.environ.items() if key not in _PYTHONS_OWN}
    return _run([python, str(script), str(bundles)], seconds, environment)


def _run(command: list[str], seconds: float, environment: dict[str, str] | None = None) -> Any:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds, env=environment
        )
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"problem": f"not done in the {seconds:.0f} s that were left"}
    except OSError as error:
        return {"problem": str(error)}
    except (IndexError, ValueError):
        return {"problem": f"exit code {done.returncode}: {done.stderr[-1500:].strip()}"}


if __name__ == "__main__":
    main()
