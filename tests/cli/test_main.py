"""The command line: what it prints, its exit codes, and what a failure leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import edgeunet
from edgeunet.cli import main
from edgeunet.extras import PACKAGES
from support.commands import ROOT, call, fails, finish, start, succeeds

FULL = (
    "No space left. Free some, choose another output, or set TMPDIR to a place for temporary files."
)
COMMANDS = [
    "bench",
    "build",
    "data",
    "demo",
    "deploy",
    "doctor",
    "export",
    "gate",
    "inspect",
    "lint",
    "models",
    "parity",
    "prune",
    "run",
    "serve",
    "train",
    "tune",
]


# The group


def test_help_lists_all_commands() -> None:
    listed = re.findall(r"^  (\w+)  +[A-Z]", succeeds("--help").stdout, re.MULTILINE)
    assert sorted(listed) == COMMANDS


def test_help_has_the_first_sentence_of_each_command() -> None:
    shown = " ".join(succeeds("--help").stdout.split())
    with click.Context(main) as context:
        for name in COMMANDS:
            command = main.get_command(context, name)
            assert command is not None
            assert f" {name} {command.get_short_help_str(80)}" in shown


def test_help_has_a_section_for_each_kind_of_command() -> None:
    sections = re.findall(r"^(\w+):\n((?:  .*\n)+)", succeeds("--help").stdout, re.MULTILINE)
    commands = {title: re.findall(r"^  (\w+)", rows, re.MULTILINE) for title, rows in sections}
    assert list(commands) == ["Options", "Make", "Run", "Prove", "Machine"]
    assert commands["Run"] == ["run", "serve", "demo"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_terminal_and_is_not_cut_off(command: str) -> None:
    lines = succeeds(*command.split(), "--help").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    if not command:
        assert [line for line in lines if line.endswith("...")] == [lines[0]]  # [ARGS]...


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {command} ")


def test_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeunet", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"edgeunet, version {edgeunet.__version__}\n"


def test_unknown_command() -> None:
    message = fails(2, "segment")
    assert message == "error: No such command 'segment'. See `main --help`.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["exprot"], "Did you mean 'export'?"),
        (["models", "--sise", "64x96"], "Did you mean '--size'?"),
        (["export", "--model", "unet", "--calib-method", "minmx"], "Did you mean 'minmax'?"),
        (["train", "--model", "unet", "--data", "cells", "--loss", "hybird"], "mean 'hybrid'?"),
        (["export", "--model", "unett", "-o", "nowhere"], "Did you mean 'unet'? Known: "),
    ],
)
def test_a_mistyped_word_gets_a_suggestion(arguments: list[str], words: str) -> None:
    assert words in fails(2, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument 'BUNDLE'. See `main run --help`."),
        (["--sise"], "No such option '--sise'. See `main --help`."),
        (
            ["export", "--model", "unet", "--fp16", "--int8"],
            "got both --fp16 and --int8. Pass --int8: it writes the FP16 graph too.",
        ),
    ],
)
def test_errors_of_all_kinds_look_alike(arguments: list[str], message: str) -> None:
    assert fails(2, *arguments) == f"error: {message}\n"


def test_predict_is_another_name_of_run() -> None:
    assert fails(2, "predict").replace("predict", "run") == fails(2, "run")
    assert "predict" in succeeds("run", "--help").stdout
    assert "predict" not in succeeds("--help").stdout


def test_shell_completion_knows_commands_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_CWORD", "2")
    for words, expected in (("edgeunet exp", "export"), ("edgeunet run --prec", "--precision")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        monkeypatch.setenv("_EDGEUNET_COMPLETE", "bash_complete")
        ran = subprocess.run(
            [sys.executable, "-c", "from edgeunet.cli import main; main(prog_name='edgeunet')"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert f"plain,{expected}" in ran.stdout.splitlines()


def test_no_command_shows_the_help() -> None:
    result = call()
    assert result.exit_code == 2
    assert result.stderr == succeeds("--help").stdout


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (KeyboardInterrupt(), "interrupted."),
        (PermissionError(13, "Permission denied", "/root/x"), "/root/x: Permission denied."),
        (OSError(28, "No space left"), f"where the output or temporary files go: {FULL}"),
        (OSError(28, "No space left", "/tmp/a", None, "/mnt/b"), f"/mnt/b: {FULL}"),
    ],
)
def test_what_ends_a_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, problem: BaseException, words: str
) -> None:
    def ended() -> None:
        raise problem

    monkeypatch.setattr("edgeunet.cli.doctor.diagnose", ended)
    assert fails(1, "doctor") == f"error: {words}\n"


LONG = """
import subprocess, sys, tempfile, time
import edgeunet.cli.doctor
from edgeunet.cli import main

def work():
    try:
        with tempfile.TemporaryDirectory() as folder:
            print(folder, flush=True)
            # Python loses a program if a signal comes while it starts it.
            subprocess.run(["sh", "-c", "sleep 0.3; echo started; exec sleep 60"])
    finally:
        print("ended", flush=True)
        if sys.argv[1:] == ["slowly"]:
            time.sleep(60)

edgeunet.cli.doctor.diagnose = work
main(["doctor"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_no_folder_and_no_program(number: signal.Signals) -> None:
    process = _started(LONG)
    folder = Path(process.stdout.readline().rstrip())
    assert folder.is_dir()
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    # The program that it started holds the pipe too.
    assert process.communicate(timeout=60) == ("ended\n", "")
    assert process.returncode == -number
    assert not folder.exists()


def test_second_signal_ends_a_command_at_once() -> None:
    with _started(LONG, "slowly") as process:
        for _ in ("folder", "started"):
            process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "ended\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == -signal.SIGTERM


def test_signals_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are ignored, as by nohup, and those that a program around us handles."""
    kept = {signal.SIGHUP: signal.SIG_IGN, signal.SIGTERM: lambda *_: None}
    before = {number: signal.signal(number, handler) for number, handler in kept.items()}
    found = {}

    def noted() -> None:
        found.update({number: signal.getsignal(number) for number in kept})
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeunet.cli.doctor.diagnose", noted)
    try:
        fails(1, "doctor")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert found == kept


def _started(code: str, *arguments: str) -> Any:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_bug_is_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeunet.cli.doctor.diagnose", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call("doctor")


def test_errors_of_a_process_are_one_line_on_stderr(tmp_path: Path) -> None:
    code, out, err = finish(start("inspect", tmp_path))
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"error: {tmp_path} is not a bundle: .*edgeunet export.*\n", err)


UNET3P = ("--model", "unet3p", "--data", "nowhere", "-o", "never")
"""Trains with a loss of torchmetrics."""


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        (["run", "bundle", "source"], "cv2", "cpu"),
        (["bench", "bundle", "--json"], "cv2", "cpu"),
        (["gate", "--help-me"], "torch", "export"),
        (["train", *UNET3P], "torchmetrics", "train"),
        (["serve", "bundle", "source"], "starlette", "serve"),
    ],
)
def test_missing_extra_is_named(command: list[str], module: str, extra: str) -> None:
    code, out, err = finish(start(*command, without=[module]))
    assert (code, out) == (1, "")
    assert f"{module} is not installed" in err
    assert f"pip install '.[{extra}]'" in err


def test_without_extras_help_and_doctor_work() -> None:
    without = sorted(package.module for package in PACKAGES)
    processes = [start("--help", without=without), start("doctor", without=without)]
    for process, words in zip(processes, ("Train a variant", "python"), strict=True):
        code, out, err = finish(process)
        assert (code, err) == (0, "")
        assert words in out


def test_a_package_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open', name='cv2')")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths}
    asked = [("run", "bundle", "source"), ("run", "--help")]
    runs, helps = [finish(start(*command, env=environment)) for command in asked]
    told = "cv2 is installed, but cannot be loaded: libGL.so.1: cannot open. "
    assert runs[:2] == (1, "") and runs[2].startswith(f"error: {told}")
    assert helps[0] == 0 and "Not available: cv2 is installed" in helps[1]


def test_errors_print_names_with_escapes(tmp_path: Path) -> None:
    name = os.fsdecode(b"stra\xdfe\x1b[2J")
    said = fails(1, "train", "--check", "--model", "unet", "--data", tmp_path / name)
    assert said.startswith(f"error: {tmp_path}/stra\\xdfe\\x1b[2J/dataset.json does not exist")
    assert said.count("\n") == 1
