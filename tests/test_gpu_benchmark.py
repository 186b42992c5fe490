"""`benchmarks/gpu.py` from bundles to tables, on a simulated GPU: its times mean nothing there."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from support.gpu_machine import gpu_machine
from support.small_bundle import write_bundle

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
Line = dict[str, Any]


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `gpu_bundles.py` writes it, of two tiny nets."""
    folder = tmp_path_factory.mktemp("gpu") / "bundles"
    folder.mkdir()
    write_bundle(folder / "gated", precision="int8", gated=True)
    write_bundle(folder / "plain", precision="int8")
    levels = np.linspace(0, 255, 12).astype(np.uint8)
    np.savez(folder / "gated.npz", frames=np.tile(levels[:, None, None, None], (1, 16, 16, 3)))
    return folder


def prepared(patch: pytest.MonkeyPatch) -> ModuleType:
    """gpu.py, whose steps run in this process, on little."""
    patch.syspath_prepend(str(BENCHMARKS))
    import gpu
    import gpu_engine
    import gpu_job
    import gpu_kernels

    def run_step(step: Any, seconds: float, torch_python: str | None) -> Line:
        found = gpu_job.job(step.arguments) if not step.is_torch else torch_times()
        found = json.loads(json.dumps(found))  # what another process would have got
        return found if "problem" in found else {"seconds": 1.0, "result": found}

    patch.setattr(gpu, "run_step", run_step)
    patch.setattr(gpu_engine, "WARM_UP", 2)
    patch.setattr(gpu_engine, "CALLS", 3)
    patch.setattr(gpu_job, "KERNEL_CASES", (("fp16", 2, (8, 12)), ("fp32", 11, (8, 12))))
    patch.setattr(
        gpu_kernels, "load_kernels", lambda device, folder: device.load_module(b"\x7fELF")
    )
    patch.setattr(gpu_kernels, "_COPIED", 1 << 13)
    return gpu


def torch_times() -> Line:
    """As gpu_torch.py prints them."""
    times = {"1": 2.0, "8": 9.0}
    return {"torch": "2.13", "net_ms": {"eager fp32": times}, "frames_per_second": {}}


def run(gpu: ModuleType, *arguments: object) -> Result:
    return CliRunner().invoke(gpu.main, list(map(str, arguments)), catch_exceptions=False)


def lines_of(folder: Path) -> list[Line]:
    """The lines in the only file of a folder."""
    (path,) = folder.iterdir()
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def report(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Line], str]:
    """What a run writes, and the tables of it."""
    results = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch, gpu_machine("8.6.0"):
        gpu = prepared(patch)
        import gpu_report

        arguments = (bundles, "--results", results, "--torch", "python", "--minutes", 60)
        done = run(gpu, *arguments)
        assert done.exit_code == 0, done.output
        lines = lines_of(results)
        return lines, gpu_report.markdown(lines)


def of_step(lines: Sequence[Line], step: str) -> Iterator[Line]:
    return (line for line in lines if line["step"] == step)


def test_every_engine_is_checked_and_timed(report: tuple[list[Line], str]) -> None:
    lines = list(of_step(report[0], "engine"))
    assert {(line["bundle"], line["precision"]) for line in lines} == {
        (bundle, precision)
        for bundle in ("gated", "plain")
        for precision in ("fp32", "fp16", "int8")
    }
    for line in lines:
        assert "problem" not in line, line
        assert line["result"]["agreement"] > 0.98
        assert set(line["result"]["net_ms"]) == {"1", "4"}, "the bundles take batches up to 4"
        assert line["result"]["frames_per_second"] > 0


def test_early_exit_is_timed_on_the_frames_beside_the_bundle(
    report: tuple[list[Line], str],
) -> None:
    (line,) = of_step(report[0], "early-exit")
    assert line["result"]["frames"] == 12
    assert 0 < line["result"]["skipped"] < 12
    assert line["result"]["differ"] == 0


def test_kernels_come_first_and_what_is_compiled_last(report: tuple[list[Line], str]) -> None:
    steps = [line["step"] for line in report[0]]
    assert steps[:3] == ["machine", "kernels", "engine"]
    assert steps[-1] == "torch-compile"
    assert steps.count("torch") == 2, "one line a net"


def test_tables_hold_what_was_measured(report: tuple[list[Line], str]) -> None:
    text = report[1]
    assert "Orin (sm87), CUDA 12.6, TensorRT 8.6.0" in text
    assert "- plain: FP32 1.0 ms, FP16 1.0 ms, INT8 1.0 ms: use FP32" in text
    assert "Early exit of gated" in text
    assert "| plain | 2.13 eager fp32 | 2.000 | 9.000 |  |" in text
    assert text.count("| plain | ") == 3 + 1, "engines and PyTorch"
    assert text.count("| gated | ") == 3 + 2, "that too, and compiled"
    assert "No time was left" not in text


def test_step_counts_with_its_last_line(report: tuple[list[Line], str]) -> None:
    import gpu_report

    name = {"step": "engine", "bundle": "plain", "precision": "int8"}
    text = gpu_report.markdown([*report[0], {**name, "problem": "no implementation | node"}])
    assert "| plain | int8 | no implementation / node |" in text
    text = gpu_report.markdown([{**name, "problem": "no implementation"}, *report[0]])
    assert "no implementation" not in text


def test_step_that_is_not_expected_to_fit_is_named(bundles: Path, tmp_path: Path) -> None:
    """55 seconds are enough for the kernels, by what is expected, and for nothing after them."""
    with pytest.MonkeyPatch.context() as patch, gpu_machine("8.6.0"):
        gpu = prepared(patch)
        import gpu_report

        arguments = ("--minutes", 55 / 60, "--torch", "python", "--only", "fp16", "--only", "ker")
        done = run(gpu, bundles, "--results", tmp_path, *arguments)
        assert done.exit_code == 0
        lines = lines_of(tmp_path)
        text = gpu_report.markdown(lines)
    assert ["left_out" in line for line in lines] == [False, False, True, True]
    assert "takes about 80 s, 5" in lines[-1]["left_out"]
    assert "Left out: engine gated fp16, engine plain fp16." in done.output
    assert "No time was left for: engine gated fp16, engine plain fp16." in text


def test_run_that_is_killed_keeps_what_it_has(bundles: Path, tmp_path: Path) -> None:
    class Killed(BaseException): ...

    with pytest.MonkeyPatch.context() as patch, gpu_machine("8.6.0"):
        gpu = prepared(patch)
        whole = gpu.run_step

        def run_step(step: Any, *arguments: Any) -> Line:
            if step.name["step"] == "engine":
                raise Killed
            return whole(step, *arguments)

        patch.setattr(gpu, "run_step", run_step)
        with pytest.raises(Killed):
            run(gpu, bundles, "--results", tmp_path)
    assert [line["step"] for line in lines_of(tmp_path)] == ["machine", "kernels"]


def test_without_pytorch_its_steps_are_named(bundles: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, gpu_machine("8.6.0"):
        done = run(prepared(patch), bundles, "--results", tmp_path, "--only", "torch plain")
    assert done.exit_code == 0
    assert lines_of(tmp_path)[-1]["left_out"] == "needs --torch PYTHON"


def test_plan_is_printed_without_a_gpu_or_bundles() -> None:
    import gpu

    done = run(gpu, "--dry", "--torch", "python")
    assert done.exit_code == 0
    first, *rest = done.output.splitlines()
    assert "estimates" in first
    rows = [line.split(maxsplit=2) for line in rest if "  " in line.strip()][1:]
    wanted = ["machine", "kernels", "engine mobile_unet fp16", "engine mobile_unet int8"]
    assert [row[2] for row in rows[:4]] == wanted
    assert rows[1][0] == rows[0][1], "a step starts when the one before has ended"
    assert rows[-1][2].startswith("torch-compile")
    assert "no time" in run(gpu, "--dry", "--minutes", 3).output


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "--dry"),
        (("--dry", "--only", "fp8"), "no step holds fp8"),
        ((str(BENCHMARKS),), "holds no bundle"),
    ],
)
def test_what_cannot_run_is_said(arguments: tuple[str, ...], named: str) -> None:
    import gpu

    done = run(gpu, *arguments)
    assert done.exit_code == 2
    assert named in done.output


def test_without_a_gpu_the_run_ends_and_says_why(bundles: Path, tmp_path: Path) -> None:
    """In a process of its own, as every step."""
    import gpu

    done = run(gpu, bundles, "--results", tmp_path)
    assert done.exit_code == 1
    line = json.loads(done.output.splitlines()[0])
    assert line["step"] == "machine"
    assert "Install" in line["problem"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("import sys; sys.exit('broken')", "exit code 1: broken"),
        ("import time; time.sleep(60)", "not done within 0 s"),
        ('print(\'{"problem": "no GPU"}\')', "no GPU"),
    ],
)
def test_step_that_fails_has_a_problem(script: str, problem: str, tmp_path: Path) -> None:
    import gpu

    (tmp_path / "step.py").write_text(script)
    seconds = 0.2 if "sleep" in script else 60
    step = gpu.Step({"step": "kernels"}, 1, str(tmp_path / "step.py"), ())
    line = gpu.run_step(step, seconds, None)
    assert problem in line["problem"]
    assert "result" not in line


def test_torch_step_runs_in_its_own_interpreter(tmp_path: Path) -> None:
    import gpu

    step = gpu.Step({"step": "torch"}, 1, "gpu_torch.py", (str(tmp_path),))
    missing = str(tmp_path / "python")
    assert missing in gpu.run_step(step, 60, missing)["problem"]
    assert "exit code" in gpu.run_step(step, 60, sys.executable)["problem"], "no GPU for it"
