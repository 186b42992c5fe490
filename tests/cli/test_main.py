"""The command line: what it prints, its exit codes, and what a failure leaves behind."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from safetensors.torch import load_file, save_file

import edgeunet
from edgeunet.data.cells import write_dataset
from edgeunet.extras import PACKAGES
from edgeunet.models.checkpoints import list_weights
from support.commands import ROOT, call, data, fails, finish, names, start, succeeds
from support.media import cut_to, write_video

VARIANTS = ["eff_unet", "mobile_unet", "resunet", "unet", "unet3p", "unetpp"]
COMMANDS = [
    "bench",
    "build",
    "demo",
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
]


# The group


def test_help_lists_all_commands() -> None:
    listed = re.findall(r"^  (\w+)  +[A-Z]", succeeds("--help").stdout, re.MULTILINE)
    assert sorted(listed) == COMMANDS


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


def test_no_command_shows_the_help() -> None:
    result = call()
    assert result.exit_code == 2
    assert result.stderr == succeeds("--help").stdout


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (KeyboardInterrupt(), "interrupted."),
        (PermissionError(13, "Permission denied", "/root/x"), "/root/x: Permission denied."),
    ],
)
def test_what_ends_a_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, problem: BaseException, words: str
) -> None:
    def ended() -> None:
        raise problem

    monkeypatch.setattr("edgeunet.cli.doctor.diagnose", ended)
    assert fails(1, "doctor") == f"error: {words}\n"


def test_a_bug_is_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeunet.cli.doctor.diagnose", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call("doctor")


def test_errors_of_a_process_are_one_line_on_stderr(tmp_path: Path) -> None:
    code, out, err = finish(start("inspect", tmp_path))
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"error: {tmp_path} is not a bundle: .*edgeunet export.*\n", err)


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        (["run", "bundle", "source"], "cv2", "cpu"),
        (["bench", "bundle", "--json"], "cv2", "cpu"),
        (["models", "--json"], "torch", "export"),
        (["train"], "torchmetrics", "train"),
        (["serve", "bundle", "source"], "starlette", "serve"),
    ],
)
def test_missing_extra_is_named(command: list[str], module: str, extra: str) -> None:
    code, out, err = finish(start(*command, without=[module]))
    assert (code, out) == (1, "")
    assert f"{module} is not installed" in err
    assert f"pip install 'edgeunet[{extra}]'" in err


def test_without_extras_help_and_doctor_work() -> None:
    without = sorted(package.module for package in PACKAGES)
    processes = [start("--help", without=without), start("doctor", without=without)]
    for process, words in zip(processes, ("not available", "python"), strict=True):
        code, out, err = finish(process)
        assert (code, err) == (0, "")
        assert words in out


def test_a_package_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open', name='cv2')")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths}
    asked = [("run", "bundle", "source"), ("--help",)]
    runs, helps = [finish(start(*command, env=environment)) for command in asked]
    told = "cv2 is installed, but cannot be loaded: libGL.so.1: cannot open. "
    assert runs[:2] == (1, "") and runs[2].startswith(f"error: {told}")
    assert helps[0] == 0 and "(not available)" in helps[1]


def test_every_extra_that_a_module_may_lack_is_known() -> None:
    """Else `--help`, which loads all commands, ends with a traceback where one is missing."""
    needed = {"click", "cv2", "numpy", "edgeunet"}  # of every install; OpenCV may be JetPack's
    with_onnx = {"google"}  # protobuf
    loaded_late = {"pycuda", "tensorrt", "tensorrt_rtx_bindings"}  # with messages of their own
    optional = {package.module for package in PACKAGES}
    known = needed | with_onnx | loaded_late | optional | sys.stdlib_module_names
    for folder in ("edgeunet", "export", "runtime"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in imported_by(path):
                assert name in known, f"{path} imports {name}"


def imported_by(path: Path) -> Iterator[str]:
    """Top-level names of the modules that a file imports absolutely."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module is not None
            yield node.module.split(".")[0]


# models, doctor


def test_models_gives_parameters_and_arithmetic() -> None:
    small, large = (
        {row["name"]: row for row in data("models", "--size", size)}
        for size in ("256x320", "512x640")
    )
    assert sorted(small) == VARIANTS
    assert small["mobile_unet"]["parameters"] == 2_376_826
    tags = {name: [entry["tag"] for entry in row["weights"]] for name, row in small.items()}
    assert tags == {name: list_weights(name) for name in VARIANTS}
    # Convolutions do four times as much; what sees one vector an image does not grow.
    growth = {name: large[name]["gflops"] / small[name]["gflops"] for name in VARIANTS}
    assert growth == pytest.approx(dict.fromkeys(VARIANTS, 4.0), abs=0.02)


@pytest.mark.parametrize("size", ["96", "96x", "ax64", "96,128"])
def test_size_in_another_form_is_refused(size: str) -> None:
    message = fails(2, "models", "--size", size)
    assert repr(size) in message
    assert "HEIGHTxWIDTH" in message


def test_doctor_lists_parts_and_environment() -> None:
    found = data("doctor")
    parts = {part["name"]: part for part in found["parts"]}
    assert {"onnxruntime", "opencv-python-headless", "av", "torch", "onnx"} <= set(parts)
    assert parts["onnx"]["version"] == onnx.__version__
    assert parts["av"]["extra"] == "video"
    assert found["environment"]["python"] == sys.version.split()[0]
    assert int(found["environment"]["cores"]) >= 1
    assert all(isinstance(warning, str) for warning in found["warnings"])


# inspect


def test_inspect_prints_the_manifest(fp32_bundle: Path) -> None:
    manifest = data("inspect", fp32_bundle)
    assert manifest.pop("engines") == []
    assert manifest == json.loads((fp32_bundle / "manifest.json").read_text())
    assert next(iter(manifest)) == "schema_version"


def test_inspect_describes_the_bundle(int8_bundle: Path) -> None:
    result = call("inspect", int8_bundle)
    assert result.exit_code == 0
    for words in ("mobile_unet (tiny)", "width=8", "64x96 rgb", "batch 1 to 4", "int8.cpu ("):
        assert words in result.stdout
    assert "all hashes match" in result.stdout


def test_inspect_refuses_a_damaged_bundle(fp32_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(fp32_bundle, tmp_path / "copy")
    with (copy / "golden.npz").open("ab") as file:
        file.write(b"!")
    message = fails(1, "inspect", copy)
    assert "golden.npz has SHA-256" in message
    assert "copy the bundle again" in message


# bench, parity


def test_bench_times_every_batch(fp32_bundle: Path) -> None:
    report = data("bench", fp32_bundle, "--repeats", "3", "--batch", "1,2")
    assert [row["batch"] for row in report["batches"]] == [1, 2]
    for row in report["batches"]:
        assert set(row["stages"]) == {"preprocess", "infer", "postprocess", "sink"}
        for times in row["stages"].values():
            assert 0 < times["p50"] <= times["p90"] <= times["p99"]
        assert 0 < row["serial_rate"] < row["net_rate"]
    assert report["frame_size"] == [64, 96]
    assert report["peak_memory_mb"] > 10
    assert {"processor", "cores", "onnxruntime"} <= set(report["environment"])


def test_bench_decodes_a_source(fp32_bundle: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.mp4", 12)
    result = call("bench", fp32_bundle, "--repeats", "3", "--source", source)
    assert result.exit_code == 0, result.output
    for words in ("mobile_unet fp32 on onnxruntime", "decode", "p99", "frames/s through the net"):
        assert words in result.stdout


def test_bench_says_which_precision_to_use(int8_bundle: Path) -> None:
    report = data("bench", int8_bundle, "--repeats", "3")
    results = report["verdict"]["results"]
    assert [entry["precision"] for entry in results] == ["fp32", "fp16", "int8"]
    assert all(entry["latency_ms"] > 0 and entry["agreement"] > 0.98 for entry in results)
    use = report["verdict"]["use"]
    assert f"use {use.upper()}" in report["verdict"]["why"]
    # Another run may come to another verdict: the machine is not the same twice.
    assert re.search(
        "ms: use (FP32|FP16|INT8)", call("bench", int8_bundle, "--repeats", "1").output
    )
    alone = data("bench", int8_bundle, "--repeats", "1", "--precision", "fp32")
    assert alone["verdict"] is None
    assert alone["precision"] == "fp32"


@pytest.mark.parametrize(
    ("batch", "words"), [("1,x", "'1,x' is not a list"), ("1,9", "batch is 9"), ("0", "batch is 0")]
)
def test_bench_refuses_other_batches(fp32_bundle: Path, batch: str, words: str) -> None:
    assert words in fails(2, "bench", fp32_bundle, "--batch", batch)


def test_bench_reports_no_speed_of_a_wrong_bundle(wrong_bundle: Path) -> None:
    assert "of the golden pixels agree" in fails(1, "bench", wrong_bundle, "--repeats", "1")


def test_parity_gives_every_stage(fp32_bundle: Path, tmp_path: Path) -> None:
    report = data("parity", fp32_bundle, "-o", tmp_path / "report")
    assert [stage["name"] for stage in report["stages"]] == [
        "preprocessing",
        "postprocessing",
        "fp32",
    ]
    assert report["ok"] is True
    assert report["first_failure"] is None
    assert all(stage["agreement"] >= 0.9999 for stage in report["stages"])
    assert json.loads((tmp_path / "report" / "parity.json").read_text()) == report
    assert (tmp_path / "report" / "parity.html").read_text().startswith("<!doctype html>")


def test_parity_of_a_wrong_bundle_fails_and_says_where(wrong_bundle: Path) -> None:
    result = call("parity", wrong_bundle)
    assert result.exit_code == 1
    assert "first out of tolerance: fp32" in result.stdout
    assert call("parity", wrong_bundle, "--backend", "pytorch").exit_code == 0


# prune


def test_prune_writes_a_checkpoint_that_exports(checkpoint: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=2, val=1, height=64, width=96)
    output = tmp_path / "small.safetensors"
    arguments = ["prune", "--model", "mobile_unet", "--weights", checkpoint, "-o", output]
    channels = ["--ratio", "0.5", "--data", tmp_path / "data", "--finetune-epochs", "0"]
    report = data(*arguments, *channels)
    assert report["checkpoint"] == str(output)
    before, pruned = report["rows"]
    assert pruned["parameters"] < 0.5 * before["parameters"]
    assert "--force" in fails(2, *arguments, *channels)
    result = call(*arguments, *channels, "--force")
    assert result.exit_code == 0, result.output
    assert re.search(r"^pruned +[\d,]+ +\d+%", result.stdout, re.MULTILINE)
    assert result.stdout.endswith(f"wrote {output}\n")
    assert data(*export(output, tmp_path / "bundle", "--max-iou-drop", "100"))["parity"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "got neither --depth nor --ratio"),
        (["--depth", "2", "--ratio", "0.5"], "got --depth and --ratio"),
        (["--depth", "5"], "1<=x<=4"),
        (["--depth", "2"], "mobile_unet has no depth to prune"),
        (["--ratio", "0.5"], "--ratio needs --data DIR"),
        (["--ratio", "0.5", "--data", "absent", "--finetune-epochs", "-1"], "x>=0"),
    ],
)
def test_prune_with_wrong_options(
    checkpoint: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    output = tmp_path / "small.safetensors"
    common = ["prune", "--model", "mobile_unet", "--weights", checkpoint, "-o", output]
    assert words in fails(2, *common, *arguments).splitlines()[-1]
    assert names(tmp_path) == []


# export


def export(
    checkpoint: object, output: Path, *more: object, model: str = "mobile_unet"
) -> list[Any]:
    return ["export", "--model", model, "--weights", checkpoint, "-o", output, *more]


def test_export_writes_a_bundle_that_runs(checkpoint: Path, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    printed = data(*export(checkpoint, output, "--size", "96x128", "--max-batch", "2"))
    assert printed["bundle"] == str(output)
    assert printed["parity"]["ok"] is True
    assert names(tmp_path) == ["bundle"]
    manifest = data("inspect", output)
    assert (manifest["input"]["height"], manifest["input"]["width"]) == (96, 128)
    assert manifest["max_batch"] == 2
    assert data("run", output, images, "--batch", "2")["frames"] == 5


def test_export_onto_an_existing_output(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "kept").write_bytes(b"kept")
    message = fails(2, *export(checkpoint, tmp_path / "bundle"))
    assert "bundle exists already" in message
    assert "--force" in message
    assert names(tmp_path) == ["bundle"]
    assert names(tmp_path / "bundle") == ["kept"]


@pytest.mark.parametrize(
    ("size", "near"), [("65x96", "96x96"), ("64x97", "64x128"), ("1x96", "32x96")]
)
def test_export_proposes_a_size_that_the_net_takes(
    checkpoint: Path, tmp_path: Path, size: str, near: str
) -> None:
    message = fails(2, *export(checkpoint, tmp_path / "bundle", "--size", size))
    assert f"size is {size}; MobileUNet needs multiples of 32" in message
    assert f"--size {near}" in message
    assert names(tmp_path) == []


def test_export_with_two_precisions(checkpoint: Path, tmp_path: Path) -> None:
    message = fails(2, *export(checkpoint, tmp_path / "bundle", "--fp16", "--int8"))
    assert "--fp16" in message
    assert "--int8" in message


def test_export_at_a_depth_is_for_unetpp(checkpoint: Path, tmp_path: Path) -> None:
    message = fails(2, *export(checkpoint, tmp_path / "bundle", "--depth", "2"))
    assert "mobile_unet has no depth to prune; unetpp has" in message
    assert names(tmp_path) == []


def test_export_of_an_unknown_model_lists_the_known_ones(checkpoint: Path, tmp_path: Path) -> None:
    message = fails(2, *export(checkpoint, tmp_path / "bundle", model="vnet"))
    assert "'vnet'" in message
    assert ", ".join(VARIANTS) in message


def test_export_of_an_unknown_tag_lists_the_known_ones(tmp_path: Path) -> None:
    message = fails(2, *export("nosuch", tmp_path / "bundle"))
    assert "unknown weights of mobile_unet 'nosuch'. Known: " in message
    assert (", ".join(list_weights("mobile_unet")) or "none") in message


def copied(checkpoint: Path, folder: Path, **changes: Any) -> Path:
    """Copy of the checkpoint whose card says something else."""
    path = folder / "copy.safetensors"
    shutil.copy(checkpoint, path)
    card = json.loads(checkpoint.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, **changes}))
    return path


def test_int8_of_foreign_data_asks_for_frames(checkpoint: Path, tmp_path: Path) -> None:
    weights = copied(checkpoint, tmp_path, data="camvid")
    message = fails(1, *export(weights, tmp_path / "bundle", "--int8"))
    assert "camvid" in message
    assert "--calib" in message
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_calibration_without_images(checkpoint: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "empty").mkdir()
    message = fails(
        1, *export(checkpoint, tmp_path / "bundle", "--int8", "--calib", tmp_path / kind)
    )
    assert f"{kind} {'does not exist' if kind == 'absent' else 'holds no image'}" in message


def test_checkpoint_of_another_class_count(checkpoint: Path, tmp_path: Path) -> None:
    message = fails(1, *export(checkpoint, tmp_path / "bundle", "--num-classes", "5"))
    assert "has 3 classes; --num-classes 5" in message


def test_checkpoint_of_another_net(checkpoint: Path, tmp_path: Path) -> None:
    message = fails(1, *export(checkpoint, tmp_path / "bundle", model="unetpp"))
    assert "is a checkpoint of mobile_unet; unetpp was asked for" in message


def test_weights_without_a_card(checkpoint: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copy(checkpoint, tmp_path / "bare.safetensors"))
    message = fails(2, *export(bare, tmp_path / "bundle"))
    assert "no card bare.json" in message
    assert "Pass --size" in message
    assert "both sides must be at least 1" in fails(
        2, *export(bare, tmp_path / "bundle", "--size", "0x96")
    )
    tensors = load_file(bare)
    save_file({**tensors, "head.weight": tensors["head.weight"][:, 1:].contiguous()}, bare)
    message = fails(1, *export(bare, tmp_path / "bundle", "--size", "64x96"))
    assert "does not fit MobileUNet with 3 classes" in message
    assert re.search(r"differs in \S+ \(\d.*\) instead of \(\d", message)


def test_normalisation_is_for_weights_without_a_card(checkpoint: Path, tmp_path: Path) -> None:
    message = fails(2, *export(checkpoint, tmp_path / "bundle", "--mean", "0.5"))
    assert "has a card, which says how frames are prepared" in message
    message = fails(2, *export(checkpoint, tmp_path / "bundle", "--std", "0.5,x"))
    assert "'0.5,x' is not a list of numbers" in message


def test_weights_that_cannot_be_read(checkpoint: Path, tmp_path: Path) -> None:
    weights = cut_to(copied(checkpoint, tmp_path), 0.5)
    message = fails(1, *export(weights, tmp_path / "bundle"))
    assert "copy.safetensors cannot be read as weights" in message


def test_kill_during_export_leaves_no_bundle(checkpoint: Path, tmp_path: Path) -> None:
    process = start(*export(checkpoint, tmp_path / "bundle", "--int8"))
    ends = time.monotonic() + 60
    while not list(tmp_path.glob(".bundle.*/model.fp32.onnx")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < ends
        time.sleep(0.005)
    process.kill()
    code, _, _ = finish(process)
    assert code == -signal.SIGKILL
    assert not (tmp_path / "bundle").exists()
    fails(1, "inspect", tmp_path / "bundle")
