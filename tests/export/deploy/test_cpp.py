"""Target `cpp`: compiled with g++, and run on ONNX Runtime's own library."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeunet
from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.steps import ImageStatistics, Window
from edgeunet.errors import UsageError
from edgeunet.exporting.deploy import DeployOptions, deploy
from edgeunet.exporting.deploy.cpp import check_input, write_golden
from edgeunet.files import sha256
from support.commands import ROOT, run_quietly
from support.cpp import assert_masks, check, onnxruntime_root, write_small
from support.pixels import Small, noise

RGB_MEAN = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}


@pytest.fixture(scope="module")
def deployed(int8_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An INT8 net as a folder for C++. Do not change it: copy it."""
    folder = tmp_path_factory.mktemp("cpp") / "net"
    deploy(int8_bundle, "cpp", folder)
    return folder


def test_golden_frames_get_the_runtimes_masks(
    deployed: Path, int8_bundle: Path, tmp_path: Path
) -> None:
    code, said = check(deployed / "model", deployed / "golden")
    assert code == 0, said
    assert re.fullmatch(
        r"mobile_unet, int8\.cpu: [\d.]+% of \d+ pixels as edgeunet's own runtime, expected "
        r"99\.0%; [\d.]+ ms for a frame of 64x96\n",
        said,
    )
    assert deploy(int8_bundle, "cpp", tmp_path / "fp32", DeployOptions(flavour="fp32")) == ("fp32",)
    code, said = check(tmp_path / "fp32" / "model", tmp_path / "fp32" / "golden", "1")
    assert code == 0, said
    assert ", fp32: " in said
    # A whole bundle opens too.
    assert check(int8_bundle, deployed / "golden")[0] == 0


def test_wrong_masks_are_told(deployed: Path, tmp_path: Path) -> None:
    golden = shutil.copytree(deployed / "golden", tmp_path / "golden")
    masks = np.fromfile(golden / "masks.raw", np.uint8)
    masks[: len(masks) // 20] ^= 1
    masks.tofile(golden / "masks.raw")
    code, said = check(deployed / "model", golden)
    assert (code, " 95.0" in said) == (1, True), said
    (golden / "masks.raw").write_bytes(b"short")
    assert "golden.json does not fit" in check(deployed / "model", golden)[1]


def test_gate_closes_classes_and_skips_the_decoder(gated_bundle: Path, tmp_path: Path) -> None:
    """In one batch: frames that need the decoder, and others between them."""
    deploy(gated_bundle, "cpp", tmp_path / "net", DeployOptions(flavour="fp32"))
    model = tmp_path / "net" / "model"
    held = {path.name for path in model.iterdir()}
    assert held == {"manifest.json", "model.fp32.encoder.onnx", "model.fp32.decoder.onnx"}
    code, said = check(model, tmp_path / "net" / "golden")
    assert code == 0, said
    open_, closed = _frames_by_gate(gated_bundle)
    frames = np.stack([closed, open_, closed, open_, open_, closed])
    with edgeunet.load(gated_bundle, precision="fp32") as segmenter:
        masks = np.stack([result.mask for result in segmenter(list(frames))])
    assert masks[1].any()
    assert not masks[0].any()
    write_golden(tmp_path / "golden", frames, masks)
    code, said = check(model, tmp_path / "golden")
    assert code == 0, said


def _frames_by_gate(bundle: Path) -> tuple[np.ndarray, np.ndarray]:
    """A frame for which the decoder runs, and one for which it does not."""
    opened = open_bundle(bundle)
    frames = [*opened.golden().frames, np.zeros((64, 96, 3), np.uint8)]
    assert opened.manifest.gate is not None
    with edgeunet.load(bundle, precision="fp32") as segmenter:
        number = [
            int((result.presence >= opened.manifest.gate).sum()) for result in segmenter(frames)
        ]
    return frames[number.index(max(number))], frames[number.index(min(number))]


CASES: dict[str, tuple[InputSpec, tuple[int, int]]] = {
    "stretch": (InputSpec(24, 40, **RGB_MEAN), (37, 101)),
    "pad": (InputSpec(32, 48, resize="pad"), (50, 33)),
    "pad, fill": (InputSpec(48, 48, resize="pad_centre", fill=114, **RGB_MEAN), (25, 50)),
    "enlarged, bgr": (InputSpec(24, 32, channels=("blue", "green", "red")), (5, 1)),
    "gray of RGB": (InputSpec(24, 32, channels=("gray",)), (24, 32)),
    "uint16": (
        InputSpec(24, 32, channels=("gray",), depth="uint16", levels=(0, 4095), filter="antialias"),
        (61, 20),
    ),
    "int16": (
        InputSpec(
            24, 32, channels=("a", "b"), depth="int16", levels=(-1000, 3000), mean=(0.1, 0.2),
            std=(0.2, 0.3),
        ),
        (40, 30),
    ),
    "area": (InputSpec(24, 32, filter="area"), (57, 90)),
    "area, enlarged": (InputSpec(24, 32, filter="area"), (17, 90)),
    "torchvision": (InputSpec(24, 32, filter="torchvision"), (57, 90)),
    "pillow, columns first": (InputSpec(24, 32, filter="pillow"), (49, 90)),
    "pillow, rows first": (InputSpec(24, 32, filter="pillow_bicubic"), (90, 33)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_frames_of_any_size_are_prepared_as_by_the_runtime(name: str, tmp_path: Path) -> None:
    spec, size = CASES[name]
    assert_masks(Small.of(spec, 4, stride=2), noise(spec, size=size, count=6), tmp_path)


def test_gray_frames_and_alpha_are_taken(tmp_path: Path) -> None:
    spec = InputSpec(24, 32)
    small = Small.of(spec, 3)
    (frame,) = noise(spec, count=1)
    gray = np.repeat(frame[:, :, :1], 3, axis=2)
    model = write_small(small, tmp_path / "model")
    for name, given, same in (("gray", gray[:, :, :1], gray), ("alpha", None, frame)):
        shown = np.dstack([frame, frame[:, :, 0]]) if given is None else given
        masks = small.finish()(*small.outputs([same]), (24, 32))
        write_golden(tmp_path / name, shown[None], masks)
        code, said = check(model, tmp_path / name)
        assert code == 0, (name, said)


@pytest.mark.parametrize(
    ("step", "spec", "message"),
    [
        (
            "statistics",
            InputSpec(16, 16, statistics=ImageStatistics()),
            "mean and deviation of each channel of",
        ),
        ("window", InputSpec(16, 16, window=Window()), "windows every 0.5 of their side"),
    ],
)
def test_input_that_the_header_lacks_is_refused_by_both(
    step: str, spec: InputSpec, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as refusal:
        check_input(spec)
    assert message in str(refusal.value)
    model = write_small(Small.of(InputSpec(16, 16)), tmp_path / "model")
    _edit(model, lambda manifest: manifest["input"].update({step: {}}))
    write_golden(
        tmp_path / "golden", np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 2, 2), np.uint8)
    )
    code, said = check(model, tmp_path / "golden")
    assert code == 2
    assert f"input.{step} is set, which this library lacks. Use edgeunet's own runtime" in said


def _edit(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((model / "manifest.json").read_text())
    change(manifest)
    (model / "manifest.json").write_text(json.dumps(manifest))


GRAPH = "model.fp32.onnx"


def _cut(model: Path) -> None:
    (model / GRAPH).write_bytes((model / GRAPH).read_bytes()[:-7])


def _cut_with_its_hash(model: Path) -> None:
    _cut(model)
    _edit(model, lambda manifest: manifest["files"].update({GRAPH: sha256(model / GRAPH)}))


def _linked(model: Path) -> None:
    (model / GRAPH).rename(model.parent / GRAPH)
    (model / GRAPH).symlink_to(model.parent / GRAPH)


def _text(text: str) -> Callable[[Path], object]:
    return lambda model: (model / "manifest.json").write_text(text)


def _changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    return lambda model: _edit(model, change)


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (_cut, r"model\.fp32\.onnx has SHA-256 \w{12}\.\.\.; the manifest expects \w{12}\.\.\."),
    (_cut_with_its_hash, "ONNX Runtime cannot load .*model.fp32.onnx"),
    (_linked, "is a link that leaves the folder. Refused."),
    (lambda model: (model / GRAPH).unlink(), "model.fp32.onnx is missing"),
    (
        lambda model: (model / "manifest.json").unlink(),
        "is no model: it has no manifest.json. `edgeunet deploy BUNDLE --to cpp` writes one.",
    ),
    (_text('{"schema_version": 2, "model": "x'), "is no JSON: a text does not end"),
    (_text("[" * 10**6), "it is nested too deeply"),
    (_text("[]"), "expected an object"),
    (_changed(lambda it: it.update(schema_version=3)), "schema version 3; expected 2"),
    (_changed(lambda it: it.pop("input")), "lacks input"),
    (_changed(lambda it: it["input"].update(height=2**26)), "at most 67108864 pixels"),
    (_changed(lambda it: it["input"].update(width="9")), "input.width: expected a number"),
    (_changed(lambda it: it["input"].update(mean=[0.5])), "mean: expected 3 values, got 1"),
    (
        _changed(lambda it: it["input"].update(filter="lanczos")),
        'input.filter is "lanczos"; this library knows bilinear, antialias, area, ',
    ),
    (
        _changed(lambda it: it["input"].update(width=8)),
        r"expected image float \(any, 3, 16, 8\), the graph has \(any, 3, 16, 16\)",
    ),
    (
        _changed(lambda it: it.update(logits_size=[4, 4])),
        r"expected logits float \(any, 3, 4, 4\), the graph has",
    ),
    (_changed(lambda it: it.update(files={})), "holds no graph int8.cpu or fp32"),
    (
        _changed(lambda it: it.update(gate=[0.5] * 3, files={"model.fp32.encoder.onnx": "0"})),
        "model.fp32.encoder.onnx is missing",
    ),
]


def test_damaged_model_is_refused_in_one_line(tmp_path: Path) -> None:
    sound = write_small(Small.of(InputSpec(16, 16)), tmp_path / "sound")
    zeros = np.zeros((1, 2, 2, 3), np.uint8)
    write_golden(tmp_path / "golden", zeros, zeros[..., 0])
    for index, (damage, message) in enumerate(DAMAGE):
        model = shutil.copytree(sound, tmp_path / str(index) / "model")
        damage(model)
        code, said = check(model, tmp_path / "golden")
        assert code == 2, (message, said)
        assert re.search(message, said), said
        assert said.count("\n") == 1, said


def test_what_golden_frames_do_not_reach(tmp_path: Path) -> None:
    """`cpp_api.cpp`: bad frames and options, batches, rows with gaps, threads, JSON, hashes."""
    code, said = check("api", write_small(Small.of(InputSpec(24, 32)), tmp_path / "model"))
    assert code == 0, said
    hashes = re.findall(r"sha256 (\d+) (\w+)", said)
    assert len(hashes) == 7
    for size, digest in hashes:
        assert hashlib.sha256(b"x" * int(size)).hexdigest() == digest


def _cmake(source: Path, build: Path, *definitions: str) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("no cmake to build with")
    root = f"-DONNXRUNTIME_ROOT={onnxruntime_root()}"
    # Without optimisation, which takes longest.
    kind = "-DCMAKE_BUILD_TYPE=Debug"
    _run("cmake", "-S", source, "-B", build, root, kind, *definitions)
    _run("cmake", "--build", build, "--parallel", "2")


def _run(*command: object, **options: Any) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, **options)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode()


def test_programs_of_the_folder_are_built_and_run(
    deployed: Path, int8_bundle: Path, tmp_path: Path
) -> None:
    _cmake(deployed, tmp_path / "build")
    _run("ctest", "--test-dir", tmp_path / "build", "--output-on-failure")
    frame = open_bundle(int8_bundle).golden().frames[0]
    height, width, _ = frame.shape
    head = f"P6\n# a comment\n{width} {height}\n255\n"
    (tmp_path / "frame.ppm").write_bytes(head.encode() + frame.tobytes())
    segment = tmp_path / "build" / "segment"
    said = run_quietly(tmp_path, segment, deployed / "model", tmp_path / "frame.ppm")
    assert re.fullmatch(r"\S+/frame\.mask\.pgm:( \S+ [\d.]+%)+\n", said)
    written = (tmp_path / "frame.mask.pgm").read_bytes()
    assert written.startswith(f"P5\n{width} {height}\n255\n".encode())
    mask = np.frombuffer(written[-height * width :], np.uint8).reshape(height, width)
    golden = np.fromfile(deployed / "golden" / "masks.raw", np.uint8)
    assert (golden[: mask.size].reshape(mask.shape) == mask).mean() >= 0.99
    (tmp_path / "frame.ppm").write_bytes(head.encode() + b"cut")
    done = subprocess.run(
        [segment, deployed / "model", tmp_path / "frame.ppm"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "was cut off" in done.stderr


def test_example_reads_a_film_from_a_pipe(deployed: Path, tmp_path: Path) -> None:
    example = ROOT / "examples" / "cpp"
    lines = [path.read_text().count("\n") for path in example.iterdir()]
    assert sum(lines) <= 60
    _cmake(example, tmp_path / "build", f"-DEDGEUNET_DIR={deployed}")
    film = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
    said = _run(tmp_path / "build" / "shares", deployed / "model", 40, 50, input=film.tobytes())
    assert len(said.splitlines()) == 3
    assert re.match(r"(\S+ \d+% )+\n", said)


def test_code_on_the_page_is_compiled(deployed: Path, tmp_path: Path) -> None:
    page = (deployed / "README.md").read_text()
    (code,) = re.findall("```cpp\n(.*?)```", page, re.DOTALL)
    include, _, body = code.partition("\n\n")
    program = f"{include}\n#include <vector>\nint main() {{\n{body}\nreturn top_left;\n}}\n"
    (tmp_path / "page.cpp").write_text(program)
    root = onnxruntime_root()
    includes = [f"-I{deployed / 'include'}", f"-isystem{root / 'include'}"]
    _run("g++", "-std=c++17", "-fsyntax-only", *includes, tmp_path / "page.cpp")
