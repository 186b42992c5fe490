"""The command line, run in the process of the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from edgeunet.cli import main

ROOT = Path(__file__).parents[2]


def call(*arguments: object) -> Result:
    """Run a command; an exception that it lets through is raised."""
    return CliRunner().invoke(
        main, [str(argument) for argument in arguments], catch_exceptions=False
    )


def succeeds(*arguments: object) -> Result:
    """What a command comes to that must not fail."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result


def fails(code: int, *arguments: object) -> str:
    """What a failing command says on stderr; it prints nothing on stdout."""
    result = call(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def start(*arguments: object, without: Sequence[str] = (), **options: Any) -> subprocess.Popen[str]:
    """Run the command line in a process of its own, where the modules `without` are missing."""
    code = (
        "import sys\n"
        f"for name in {list(without)!r}: sys.modules[name] = None\n"
        "from edgeunet.cli import main\nmain(prog_name='edgeunet')"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def run_quietly(folder: Path, *command: object) -> str:
    """Standard output of a program that leaves nothing in its user's home, as telemetry would."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    # Without CI, which switches ONNX Runtime's telemetry off too.
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert names(home) == []
    return done.stdout


def data(*arguments: object) -> Any:
    """What a command prints as JSON."""
    return json.loads(succeeds(*arguments, "--json").stdout)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def visible(folder: Path) -> list[str]:
    """Names without those that begin with a dot, such as the list of the files that a run wrote."""
    return [name for name in names(folder) if not name.startswith(".")]
