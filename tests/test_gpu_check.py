"""`benchmarks/gpu_check.py` on a simulated GPU, with PyTorch as the engine as on a real one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgeunet.errors import BackendError
from support.fake_tensorrt.context import Bound
from support.fake_tensorrt.plan import Plan
from support.gpu_machine import gpu_machine
from support.media import write_png
from support.small_bundle import write_bundle
from support.torch_engine import TorchEngine

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
Line = dict[str, Any]
Compute = Callable[[Plan, Sequence[Bound]], None]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gated net, one without a gate, and a folder of frames with masks."""
    folder = tmp_path_factory.mktemp("check")
    write_bundle(folder / "gated", precision="int8", gated=True)
    write_bundle(folder / "plain", precision="fp16")
    rng = np.random.default_rng(0)
    for kind, shape in (("images", (20, 30, 3)), ("masks", (20, 30))):
        (folder / "frames" / kind).mkdir(parents=True)
        for index in range(3):
            values = rng.integers(0, 256 if kind == "images" else 2, shape, np.uint8)
            write_png(folder / "frames" / kind / f"{index}.png", values)
    return folder


@contextmanager
def checker() -> Iterator[ModuleType]:
    """gpu_check.py on a simulated GPU."""
    with pytest.MonkeyPatch.context() as patch, gpu_machine("8.6.0") as machine:
        patch.syspath_prepend(str(BENCHMARKS))
        import gpu_check
        import gpu_kernels_check

        patch.setattr(
            gpu_check, "find_machine", lambda: gpu_check.Machine("cpu", machine.trt.enqueue)
        )
        patch.setattr(
            gpu_kernels_check, "load_kernels", lambda device, folder: device.load_module(b"\x7fELF")
        )
        cases = ((3, (16, 20), (33, 41)), (256, (8, 8), (8, 8)))
        patch.setattr(gpu_kernels_check, "CASES", cases)
        yield gpu_check


def run(check: ModuleType, *arguments: object) -> Result:
    return CliRunner().invoke(check.main, list(map(str, arguments)), catch_exceptions=False)


def lines_of(folder: Path) -> list[Line]:
    (path,) = folder.iterdir()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_right_machine_is_right_in_every_check(bundles: Path, tmp_path: Path) -> None:
    with checker() as check:
        roots = [bundles / "gated", bundles / "plain"]
        done = run(check, *roots, "--frames", bundles / "frames", "--results", tmp_path)
        import gpu_report

        lines = lines_of(tmp_path)
        text = gpu_report.markdown(lines)
    assert done.exit_code == 0, done.output
    assert all(line["wrong"] == [] for line in lines)
    names = [(line["step"], line.get("bundle"), line.get("tensorrt")) for line in lines]
    assert names[0] == ("check-kernels", None, None)
    for version in ("8.6.0", "10.16.1"):
        assert names.count(("check-engine", "gated", version)) == 3
        assert names.count(("check-gate", "gated", version)) == 3
        assert names.count(("check-engine", "plain", version)) == 2
    assert names.count(("check-miou", "plain", "10.16.1")) == 2
    assert len(names) == 1 + 2 * (3 + 3 + 2) + 3 + 2, "and no gate of a net that has none"
    assert text.count("| right |") == len(lines)
    assert not (bundles / "gated" / "engines").exists(), "TensorRT must not find the stand-in's"


def shifted(compute: Compute, *, on: Callable[[Sequence[Bound]], bool]) -> Compute:
    """An engine whose second class wins everywhere, in some runs."""

    def broken(plan: Plan, bound: Sequence[Bound]) -> None:
        compute(plan, bound)
        for each in bound:
            if each.tensor.name == "logits" and on(bound):
                place = TorchEngine("cpu")._at(each)
                place[:, 1] = place[:, 0] + 9

    return broken


def test_engine_that_is_wrong_now_and_then_is_found(bundles: Path, tmp_path: Path) -> None:
    runs = iter(range(1_000_000))

    def every_third(bound: Sequence[Bound]) -> bool:
        return next(runs) % 3 == 2

    with checker() as check, pytest.MonkeyPatch.context() as patch:
        compute = TorchEngine("cpu").compute
        broken = type("Broken", (), {"compute": staticmethod(shifted(compute, on=every_third))})
        patch.setattr(check, "TorchEngine", lambda device: broken())
        arguments = ("--only", "engine", "--tensorrt", "10.16.1", "--results", tmp_path)
        done = run(check, bundles / "plain", *arguments)
    assert done.exit_code == 1
    assert "Wrong: check-engine plain fp32 10.16.1" in done.output
    (first, _) = lines_of(tmp_path)
    assert "stream: " in str(first["wrong"]) or "golden" in first["problem"]


def test_engine_that_is_always_wrong_fails_on_the_golden_frames(
    bundles: Path, tmp_path: Path
) -> None:
    with checker() as check, pytest.MonkeyPatch.context() as patch:
        compute = shifted(TorchEngine("cpu").compute, on=lambda bound: True)
        broken = type("Broken", (), {"compute": staticmethod(compute)})
        patch.setattr(check, "TorchEngine", lambda device: broken())
        arguments = ("--only", "engine", "--tensorrt", "8.6.0", "--results", tmp_path)
        done = run(check, bundles / "plain", *arguments)
    assert done.exit_code == 1
    assert all("golden pixels" in line["problem"] for line in lines_of(tmp_path))


def test_machine_that_captures_nothing_is_wrong(bundles: Path, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise BackendError("not here")

    with checker() as check, pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeunet.runtime.gpu.cuda.CudaDevice.capture", refuse)
        arguments = ("--only", "engine", "--only", "gate", "--tensorrt", "8.6.0")
        done = run(check, bundles / "gated", *arguments, "--results", tmp_path)
    assert done.exit_code == 1
    assert all("no CUDA graph: " in line["wrong"][0] for line in lines_of(tmp_path))


def test_gate_that_skips_nothing_shows_nothing(bundles: Path, tmp_path: Path) -> None:
    dark = np.zeros((4, 16, 16, 3), np.uint8)
    with checker() as check, pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "_gate_frames", lambda root, bundle: list(dark))
        arguments = ("--only", "gate", "--tensorrt", "8.6.0", "--results", tmp_path)
        done = run(check, bundles / "gated", *arguments)
    assert done.exit_code == 1
    assert "4 of 4 frames skip the decoder" in lines_of(tmp_path)[0]["wrong"][0]


def test_kernels_that_differ_are_wrong(tmp_path: Path) -> None:
    with checker() as check, pytest.MonkeyPatch.context() as patch:
        import gpu_kernels_check

        patch.setitem(gpu_kernels_check.MOST, "confidence, of 255", -1)
        done = run(check, "--only", "kernels", "--results", tmp_path)
    assert done.exit_code == 1
    assert lines_of(tmp_path)[0]["wrong"][0].startswith("confidence, of 255: ")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "name a bundle"),
        (("--only", "kernels"), "finds no GPU"),
        (("BUNDLE", "--only", "miou"), "--frames DIR"),
    ],
)
def test_what_cannot_run_is_said(arguments: tuple[str, ...], named: str, bundles: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import gpu_check

        patch.setattr("torch.cuda.is_available", lambda: False)
        given = [str(bundles / "plain") if each == "BUNDLE" else each for each in arguments]
        done = run(gpu_check, *given)
    assert done.exit_code == 2
    assert named in done.output
