"""The command line: what it prints, its exit codes, and what a failure leaves behind."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from commands import call, fails, succeeds
from media import cut_to, decode, read_mask_png, write_png, write_video

import edgeunet
from edgeunet.files import sha256
from edgeunet.models.checkpoints import list_weights
from edgeunet.runtime import load
from edgeunet.runtime.sources import open_source
from edgeunet.training.cells import snapshots, write_dataset

ROOT = Path(__file__).parents[1]
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
    "train",
]


def data(*arguments: object) -> Any:
    """What a command prints as JSON."""
    return json.loads(succeeds(*arguments, "--json").stdout)


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


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images with cells in them."""
    folder = tmp_path_factory.mktemp("images")
    drawn = snapshots(40, height=50, width=70, seed=1)
    crowded = (frame for frame in drawn if 0.2 < np.mean(frame.mask > 0) < 0.8)
    for index, frame in enumerate(islice(crowded, 5)):
        write_png(folder / f"{index}.png", frame.image)
    return folder


@pytest.fixture(scope="module")
def wrong_bundle(fp32_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, whole by its hashes, whose graph gives the logits the wrong sign."""
    copy = shutil.copytree(fp32_bundle, tmp_path_factory.mktemp("wrong") / "wrong")
    path = copy / "model.fp32.onnx"
    model = onnx.load(path)
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = [f"{name}_before" if name == output.name else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Neg", [f"{output.name}_before"], [output.name]))
    onnx.save(model, path)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["model.fp32.onnx"] = sha256(path)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


# The group


def test_help_lists_all_commands() -> None:
    result = call("--help")
    assert result.exit_code == 0
    listed = re.findall(r"^  (\w+)  +[A-Z]", result.stdout.split("Commands:")[1], re.MULTILINE)
    assert listed == COMMANDS


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
    assert "No such command 'segment'" in fails(2, "segment")


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
    ],
)
def test_missing_extra_is_named(command: list[str], module: str, extra: str) -> None:
    code, out, err = finish(start(*command, without=[module]))
    assert (code, out) == (1, "")
    assert f"{module} is not installed" in err
    assert f"pip install 'edgeunet[{extra}]'" in err


def test_without_extras_help_and_doctor_work() -> None:
    without = ["torch", "onnx", "onnx_ir", "onnxruntime", "safetensors", "cv2", "av"]
    processes = [start("--help", without=without), start("doctor", without=without)]
    for process, words in zip(processes, ("not installed", "python"), strict=True):
        code, out, err = finish(process)
        assert (code, err) == (0, "")
        assert words in out


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
    assert "all hashes right" in result.stdout


def test_inspect_refuses_a_damaged_bundle(fp32_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(fp32_bundle, tmp_path / "copy")
    with (copy / "golden.npz").open("ab") as file:
        file.write(b"!")
    message = fails(1, "inspect", copy)
    assert "golden.npz has SHA-256" in message
    assert "copy the bundle again" in message


# run


def test_run_writes_masks_in_order(fp32_bundle: Path, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "masks"
    summary = data("run", fp32_bundle, images, "-o", output, "--batch", "2")
    assert {**summary, "seconds": 0, "rate": 0} == {
        "frames": 5, "seconds": 0, "rate": 0, "backend": "onnxruntime", "depths": {}
    }  # fmt: skip
    assert summary["rate"] == pytest.approx(5 / summary["seconds"])
    assert names(output) == [f"{index:06d}.png" for index in range(5)]
    with load(fp32_bundle) as segmenter:
        for frame, name in zip(open_source(images), names(output), strict=True):
            wanted = segmenter([frame.image]).masks[0]
            np.testing.assert_array_equal(read_mask_png(output / name), wanted)
            assert len(np.unique(wanted)) > 1, "one class alone shows nothing"


def test_run_writes_an_overlay_video(fp32_bundle: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.mp4", 6)
    result = call("run", fp32_bundle, source, "-o", tmp_path / "out.mp4")
    assert result.exit_code == 0, result.output
    assert re.match(r"6 frames in .* frames/s on onnxruntime, wrote .*out\.mp4\n", result.stdout)
    frames, rate = decode(tmp_path / "out.mp4")
    assert len(frames) == 6
    assert rate == 25


def test_run_needs_no_output(
    fp32_bundle: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert data("run", fp32_bundle, images, "--backend", "pytorch")["backend"] == "pytorch"
    assert names(tmp_path) == []


def test_run_as_a_process_keeps_stdout_to_its_data(fp32_bundle: Path, images: Path) -> None:
    code, out, err = finish(start("run", fp32_bundle, images / "1.png", "--json"))
    assert (code, err) == (0, "")
    assert json.loads(out)["frames"] == 1


@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_run_onto_an_existing_output_needs_force(
    fp32_bundle: Path, images: Path, tmp_path: Path, name: str
) -> None:
    output = tmp_path / name
    arguments = ("run", fp32_bundle, images, "-o", output)
    assert call(*arguments).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in [output, *output.rglob("*")]}
    message = fails(2, *arguments)
    assert f"{name} exists already" in message
    assert "--force" in message
    assert {path: path.stat().st_mtime_ns for path in [output, *output.rglob("*")]} == before
    assert call(*arguments, "--force").exit_code == 0
    assert output.stat().st_mtime_ns != before[output]


def test_run_of_a_truncated_video_keeps_the_masks_before_the_cut(
    fp32_bundle: Path, tmp_path: Path
) -> None:
    source = cut_to(write_video(tmp_path / "clip.mp4", 12, index_first=True), 0.6)
    message = fails(1, "run", fp32_bundle, source, "-o", tmp_path / "masks", "--batch", "4")
    (last,) = map(int, re.findall(r"clip\.mp4 is .* frame (\d+)\b", message))
    written = names(tmp_path / "masks")
    assert 1 < len(written) < 12
    assert written == [f"{index:06d}.png" for index in range(len(written))]
    assert len(written) in (last, last + 1)  # damaged at that frame, or truncated after it


def test_run_of_a_truncated_video_finishes_the_overlay(fp32_bundle: Path, tmp_path: Path) -> None:
    source = cut_to(write_video(tmp_path / "clip.mp4", 12, index_first=True), 0.6)
    fails(1, "run", fp32_bundle, source, "-o", tmp_path / "out.mp4")
    assert 1 < len(decode(tmp_path / "out.mp4")[0]) < 12


@pytest.mark.parametrize("name", ["absent", "absent.png", "absent.mp4"])
def test_run_of_a_missing_source(fp32_bundle: Path, tmp_path: Path, name: str) -> None:
    message = fails(1, "run", fp32_bundle, tmp_path / name, "-o", tmp_path / "masks")
    assert f"{name} does not exist" in message
    assert names(tmp_path) == []


@pytest.mark.parametrize("source", ["rtsp://camera/1", "v4l2:///dev/video0"])
def test_run_of_a_stream_is_wrong_usage(fp32_bundle: Path, source: str) -> None:
    assert f"{source.split(':')[0]}:// is not read" in fails(2, "run", fp32_bundle, source)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--backend", "tpu", ["'tpu'", "auto, onnxruntime, pytorch"]),
        ("--batch", "9", ["batch is 9", "1 to 4", "--max-batch"]),
        ("--batch", "0", ["--batch", "x>=1"]),
    ],
)
def test_run_with_a_wrong_option_touches_no_output(
    fp32_bundle: Path, images: Path, tmp_path: Path, option: str, value: str, words: list[str]
) -> None:
    (tmp_path / "000000.png").write_bytes(b"old")
    message = fails(2, "run", fp32_bundle, images, "-o", tmp_path, "--force", option, value)
    for word in words:
        assert word in message
    assert names(tmp_path) == ["000000.png"]


def test_run_refuses_other_outputs(fp32_bundle: Path, images: Path, tmp_path: Path) -> None:
    message = fails(2, "run", fp32_bundle, images, "-o", tmp_path / "out.avi")
    assert "NAME.mp4" in message
    assert names(tmp_path) == []


def test_run_refuses_a_bundle_that_answers_wrongly(
    wrong_bundle: Path, images: Path, tmp_path: Path
) -> None:
    message = fails(1, "run", wrong_bundle, images, "-o", tmp_path / "masks")
    assert "of the golden pixels agree with PyTorch" in message
    assert names(tmp_path) == []


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
        ([], "neither --depth nor --ratio came"),
        (["--depth", "2", "--ratio", "0.5"], "--depth and --ratio came"),
        (["--depth", "5"], "1<=x<=4"),
        (["--depth", "2"], "mobile_unet has no depth to prune"),
        (["--ratio", "0.5"], "--ratio came without --data"),
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
    ("size", "near"), [("65x96", "96x96"), ("64x97", "64x128"), ("0x96", "32x96")]
)
def test_export_proposes_a_size_that_the_net_takes(
    checkpoint: Path, tmp_path: Path, size: str, near: str
) -> None:
    message = fails(2, *export(checkpoint, tmp_path / "bundle", "--size", size))
    assert f"size is {size}; mobile_unet needs multiples of 32" in message
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
    assert f"{kind} {'is not a directory' if kind == 'absent' else 'holds no image'}" in message


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
    assert "--num-classes and --size" in message
    message = fails(1, *export(bare, tmp_path / "bundle", "--num-classes", "3", "--size", "64x96"))
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
