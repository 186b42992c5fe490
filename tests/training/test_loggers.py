"""Loggers: TensorBoard as it reads its files, MLflow on a stand-in and in a folder of its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import MissingDependencyError, OutputError
from edgeunet.extras import is_installed
from edgeunet.models import Card
from edgeunet.training import loggers
from edgeunet.training.callbacks import Callback, Run
from edgeunet.training.history import Epoch
from edgeunet.training.loggers import LOGGERS, MLflow, TensorBoard
from support.commands import fails
from support.training import SHORT

CLASSES = ("sea", "ship <1>", "fog")
CARD = Card("unet", {}, CLASSES, ((0, 0, 0), (9, 9, 9), (8, 8, 8)), InputSpec(32, 32), data="port")
FILES = ("best.safetensors", "best.json", "train.html", "log.jsonl")


def run_in(folder: Path, epoch: int = 0) -> Run:
    for name in FILES:
        (folder / name).write_text(name)
    return Run(folder, "unet", {"width": 8}, "port", CLASSES, SHORT, epoch)


def follow(logger: Callback, run: Run, *losses: float) -> None:
    logger.on_start(run)
    for number, loss in enumerate(losses, start=run.epoch + 1):
        logger.on_epoch(Epoch(number, loss, 40.0 if number % 2 == 0 else None, 0.1))


@pytest.mark.parametrize("name", LOGGERS)
def test_package_that_is_missing_is_named_before_training(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loggers, "is_installed", lambda module: False)
    with pytest.raises(MissingDependencyError, match=rf"\[{name}\]"):
        LOGGERS[name]()
    train = ("train", "--model", "unet", "--data", "cells", "-o", tmp_path / "run")
    assert f"[{name}]" in fails(1, *train, "--log", name)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not is_installed("tensorboard"), reason="TensorBoard is not installed")
def test_tensorboard_has_each_epoch_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    follow(TensorBoard(), run_in(tmp_path), 0.75, 0.5, 0.25)  # interrupted after its second epoch
    resumed = TensorBoard()
    follow(resumed, run_in(tmp_path, epoch=2), 0.125, 0.0625)
    resumed.on_end(CARD)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = {
        name: [(each.step, each.value) for each in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }
    assert found == {
        "loss": [(1, 0.75), (2, 0.5), (3, 0.125), (4, 0.0625)],
        "miou": [(2, 40.0), (4, 40.0)],
    }
    assert events.Tags()["tensors"] == ["options/text_summary"]


# MLflow


class FakeServer:
    """Runs by their ids, as the methods of `MlflowClient` that are used would keep them."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, str] = {}
        self.fails = False

    def client(self) -> Any:
        return SimpleNamespace(
            get_experiment_by_name=self._experiment,
            create_experiment=lambda name: self.experiments.setdefault(name, f"e-{name}"),
            create_run=self._create,
            update_run=lambda id_, status: self._of(id_).update(status=status),
            log_batch=self._log_batch,
            log_artifact=lambda id_, path: self._of(id_)["files"].append(Path(path).read_text()),
            set_terminated=lambda id_: self._of(id_).update(status="FINISHED"),
        )

    def _of(self, id_: str) -> dict[str, Any]:
        if self.fails or id_ not in self.runs:
            raise FakeError("no answer\nof the server")
        return self.runs[id_]

    def _log_batch(self, id_: str, metrics: Any = (), params: Any = ()) -> None:
        self._of(id_)["metrics"] += metrics
        self._of(id_)["params"].update(params)

    def _experiment(self, name: str) -> Any:
        found = self.experiments.get(name)
        return None if found is None else SimpleNamespace(experiment_id=found)

    def _create(self, experiment: str, run_name: str) -> Any:
        id_ = f"{run_name}-{len(self.runs)}"
        self.runs[id_] = {"experiment": experiment, "metrics": [], "params": {}, "files": []}
        return SimpleNamespace(info=SimpleNamespace(run_id=id_))


class FakeError(Exception):
    """Stands for `MlflowException`."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer()
    modules = {
        "mlflow": {"MlflowClient": fake.client},
        "mlflow.entities": {
            "Param": lambda key, value: (key, value),
            "Metric": lambda key, value, when, step: (key, value, step),
        },
        "mlflow.exceptions": {"MlflowException": FakeError},
    }
    for name, held in modules.items():
        module = ModuleType(name)
        vars(module).update(held)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(loggers, "is_installed", lambda module: True)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return fake


def test_mlflow_does_not_report_what_it_logs(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    MLflow()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    MLflow()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false", "who wants that may have it"


def test_mlflow_has_options_curves_and_files_in_one_run(server: FakeServer, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    follow(MLflow(), run_in(folder), 0.75, 0.5)
    assert server.runs["mine-0"]["status"] == "RUNNING"
    resumed = MLflow()
    follow(resumed, run_in(folder, epoch=2), 0.25)
    card = Card(**{**vars(CARD), "metrics": {"miou": 45.0, "iou": [60.0, 30.0, None]}})
    resumed.on_end(card)
    (run,) = server.runs.values()
    assert run["experiment"] == "e-edgeunet" and run["status"] == "FINISHED"
    assert run["metrics"] == [
        ("loss", 0.75, 1),
        ("loss", 0.5, 2),
        ("miou", 40.0, 2),
        ("loss", 0.25, 3),
        ("iou/sea", 60.0, 0),
        ("iou/ship _1_", 30.0, 0),
    ]
    assert run["files"] == list(FILES)
    assert run["params"]["width"] == "8" and run["params"]["epochs"] == str(SHORT.epochs)


def test_experiment_of_the_environment_is_used(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "harbour")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        follow(MLflow(), run_in(tmp_path / name))
    assert [run["experiment"] for run in server.runs.values()] == ["e-harbour"] * 2


def test_server_that_fails_stops_no_training_that_has_begun(
    server: FakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = MLflow()
    follow(logger, run_in(tmp_path))
    server.fails = True
    logger.on_epoch(Epoch(1, 0.5, None, 0.1))
    logger.on_end(CARD)
    assert caplog.messages[0].startswith("MLflow failed: no answer. Expected a server at")
    assert caplog.messages[0].endswith("The training goes on.")
    with pytest.raises(OutputError, match=r"MLflow failed: no answer\. .*MLFLOW_TRACKING_URI"):
        follow(MLflow(), run_in(tmp_path, epoch=1))


def test_run_that_cannot_be_found_again_is_refused(server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "mlflow.json").write_text("{")
    with pytest.raises(OutputError, match=r"mlflow\.json cannot be read as JSON.*Remove it"):
        MLflow().on_start(run_in(tmp_path))
    (tmp_path / "mlflow.json").write_text(json.dumps({"run": "gone"}))
    with pytest.raises(OutputError, match="MLflow failed: no answer"):
        MLflow().on_start(run_in(tmp_path))


@pytest.mark.skipif(not is_installed("mlflow"), reason="MLflow is not installed")
def test_mlflow_itself_takes_what_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "false")
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(OutputError, match="Expected a server at MLFLOW_TRACKING_URI"):
        MLflow().on_start(run_in(folder))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    follow(MLflow(), run_in(folder), 0.75)
    logger = MLflow()
    follow(logger, run_in(folder, epoch=1), 0.5)
    logger.on_end(Card(**{**vars(CARD), "metrics": {"miou": 45.0, "iou": [60.0, None, None]}}))
    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("edgeunet").experiment_id])
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert run.data.metrics == {"loss": 0.5, "miou": 40.0, "iou/sea": 60.0}
    assert run.data.params["photometry"] == "mild"
    assert {each.path for each in client.list_artifacts(run.info.run_id)} == set(FILES)
