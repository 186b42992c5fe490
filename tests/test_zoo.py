"""`benchmarks/zoo.py` on a tiny net: its jobs, a training that resumes, limits, and the tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAME = "smp:Unet mobilenet_v2"
"""Of a net that trains; the tests put a tiny one in its place."""


class Tiny(nn.Module):
    """Returns its logits as torchvision's nets do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": nn.functional.interpolate(self.head(self.stem(image)), scale_factor=2)}


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tiny net, in the zoo."""
    import zoo_nets

    net = zoo_nets.Architecture(NAME, "smp", Tiny, trains=True, size=(32, 48))
    monkeypatch.setitem(zoo_nets.ZOO, NAME, net)
    return net


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """zoo_job.py, which builds for no GPU."""
    import zoo_job

    monkeypatch.setattr(zoo_job, "_build_for_rtx", lambda bundle: {})
    return zoo_job


def line(job: str, **values: Any) -> dict[str, Any]:
    return {"job": job, "name": NAME, "machine": {}, **values}


def test_zoo_has_40_nets_of_which_12_train() -> None:
    from zoo_nets import ZOO

    assert len(ZOO) == 40
    assert sum(net.trains for net in ZOO.values()) == 12
    assert {net.library for net in ZOO.values()} == {
        *("smp", "timm", "monai", "torchvision", "nnunet", "hf")
    }


def test_net_of_a_library_is_built_without_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("monai", reason="monai is not installed")
    import socket

    from zoo_nets import ZOO, Logits

    monkeypatch.setattr(socket, "socket", None)
    net = ZOO["monai:UNet"].make()
    with torch.inference_mode():
        assert Logits(net)(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)


def test_net_is_swept_and_its_graphs_are_timed(tiny: Any, job: ModuleType, tmp_path: Path) -> None:
    swept = job.run_job("sweep", NAME, tmp_path)
    assert swept["parameters"] == sum(p.numel() for p in Tiny().parameters())
    assert swept["agreement"]["FP32"] > 0.9999
    assert swept["snr"]["FP32"] > swept["snr"]["FP16"] > swept["snr"]["INT8 CPU"] > 10
    timed = job.time_graphs(tiny, tmp_path, rounds=1)
    assert set(timed["ms"]) == {"fp32", "int8.cpu"} and not timed["trained"]


def test_refused_net_says_in_which_step_and_why(
    tiny: Any, job: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(Tiny):
        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            # ONNX has no such operator.
            return {"out": torch.special.bessel_j0(super().forward(image)["out"])}

    monkeypatch.setitem(job.ZOO, NAME, replace(tiny, build=Odd))
    refused = job.run_job("sweep", NAME, tmp_path)["refused"]
    assert refused["step"] == "trace" and "bessel_j0" in refused["reason"]


def test_error_that_nobody_raised_on_purpose_is_a_fault(
    tiny: Any, job: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(job.ZOO, NAME, replace(tiny, build=lambda: 1 / 0))
    assert "ZeroDivisionError" in job.run_job("sweep", NAME, tmp_path)["fault"]


def test_training_that_was_stopped_resumes_to_the_same_weights(tiny: Any, tmp_path: Path) -> None:
    import zoo_train

    recipe = zoo_train.Recipe(steps=4, batch=2, crop=(32, 32), save_every=2)
    zoo_train.open_cells(tmp_path / "cells", train=8, val=2)

    def train(folder: str, *, stop: bool = False) -> dict[str, torch.Tensor]:
        def report(text: str) -> None:
            if stop:
                raise KeyboardInterrupt

        zoo_train.train(tiny, tmp_path / "cells", tmp_path / folder, recipe, report=report)
        return load_file(zoo_train.weights_file(tmp_path / folder, tiny))

    with pytest.raises(KeyboardInterrupt):
        train("stopped", stop=True)
    (state,) = (tmp_path / "stopped").iterdir()
    whole, resumed = train("whole"), train("stopped")
    assert not state.exists()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    train("stopped", stop=True)  # does nothing: the weights are there
    net, miou = zoo_train.load_trained(tiny, tmp_path / "stopped")
    assert not net.training and 0 < miou < 100


def test_step_trains_on_the_cells_of_its_folder(
    tiny: Any, job: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import zoo_train

    zoo_train.open_cells(tmp_path / "cells", train=8, val=2)
    recipe = zoo_train.Recipe(steps=1, batch=2, crop=(32, 32))
    monkeypatch.setattr(job, "recipe_of", lambda net: recipe)
    assert 0 <= job.run_job("train", NAME, tmp_path)["miou"] < 100


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"minutes": 1e-4}, "took longer than 0.0001 minutes"), ({"gigabytes": 0.25}, "ended with")],
)
def test_step_beyond_a_limit_is_a_fault_and_no_more(
    limits: dict[str, float], said: str, tmp_path: Path
) -> None:
    import zoo

    assert said in zoo.run_step("time", NAME, tmp_path, threads=1, **limits)["fault"]


def test_results_are_kept_and_faults_run_again(tmp_path: Path) -> None:
    import zoo

    path = tmp_path / "new" / "results.jsonl"
    results = zoo.Results(path)
    results.add(line("sweep", fault="killed"))
    assert results.find("sweep", NAME) is None
    results.add(line("sweep", parameters=3))
    assert zoo.Results(path).find("sweep", NAME) == line("sweep", parameters=3)
    assert len(path.read_text().splitlines()) == 2


def test_nets_are_proved_only_with_an_miou_that_means_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zoo
    from click.testing import CliRunner

    ran = []

    def run_step(job: str, name: str, output: Path, *, threads: int) -> dict[str, Any]:
        ran.append((job, name))
        return {**line(job, miou=74.0 if name == NAME else 80.0), "name": name}

    monkeypatch.setattr(zoo, "run_step", run_step)
    arguments = ["--trained", "--only", NAME, "--only", "monai:UNet", "-o", str(tmp_path)]
    for _ in range(2):
        assert CliRunner().invoke(zoo.main, [*arguments, "--json"]).exit_code == 0
    assert ran == [("train", NAME), ("train", "monai:UNet"), ("prove", "monai:UNet")]
    lines = json.loads(CliRunner().invoke(zoo.main, [*arguments, "--json"]).stdout)
    assert [(at["job"], at["name"]) for at in lines] == ran


def test_net_that_was_not_exported_is_not_timed(tmp_path: Path) -> None:
    import zoo
    from click.testing import CliRunner

    done = CliRunner().invoke(zoo.main, ["--time", "--only", NAME, "-o", str(tmp_path), "--json"])
    assert "nothing to time" in done.stderr and json.loads(done.stdout) == []


def test_tables_tell_what_passed_what_was_refused_and_what_broke_a_promise() -> None:
    import zoo_table

    graphs = zoo_table.PROMISED
    good = {"agreement": dict.fromkeys(graphs, 0.9999), "drop": dict.fromkeys(graphs, 0.1)}
    proved = line("prove", miou=80.0, floats=["conv"], **good)
    proved["agreement"] = {**good["agreement"], "INT8 CPU": 0.98}
    swept = line(
        "sweep", parameters=1_500_000, refused={"step": "trace", "reason": "a\nlong | one"}
    )
    timed = line("time", ms={"fp32": 2.0, "int8.cpu": 4.0}, trained=True, threads=2)
    timed["machine"] = {"processor": "P", "vnni": "no", "amx": "no", "onnxruntime": "1"}
    text = zoo_table.tables([swept, proved, timed])
    assert f"| {NAME} | 1.50 M | refused in trace: a long \\| one |" in text
    assert "**98.000%, +0.10**" in text and "99.990%, +0.10" in text
    assert "| 1 | 2.0 | 4.0 | **0.50x** |" in text
    assert "0 of 40 nets are through all stages, 1 are refused" in text
    assert "0 of 12 trained nets keep the promises of accuracy, and 1 are measured" in text
    assert "INT8 is faster in 0 of the 1 that were timed" in text
    assert "VNNI no" in text
