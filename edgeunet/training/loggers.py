"""Followers that write a training into TensorBoard and MLflow, which are optional packages."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..bundle.schema import SchemaError, load_json
from ..catalogue import RUN_WEIGHTS
from ..errors import MissingDependencyError, OutputError, first_line, printable
from ..extras import is_installed
from ..files import write_json
from ..models import Card
from .callbacks import Callback, Run
from .history import LOG, Epoch

_log = logging.getLogger(__name__)

_ARTIFACTS = (RUN_WEIGHTS, "best.json", "train.html", LOG)


class TensorBoard(Callback):
    """Writes loss and mIoU into the folder `tensorboard` of the run.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """

    def __init__(self) -> None:
        _require("tensorboard")
        self._writer: Any = None

    def on_start(self, run: Run) -> None:
        """Open the folder, and write the options."""
        from torch.utils.tensorboard import SummaryWriter  # needs TensorBoard

        # Hides what an interrupted run wrote of the epochs that are trained again.
        folder, first = str(run.folder / "tensorboard"), run.epoch + 1
        self._writer = SummaryWriter(folder, purge_step=first)
        rows = "".join(f"{name} | {value}\n" for name, value in _options(run).items())
        self._writer.add_text("options", f"option | value\n-- | --\n{rows}", run.epoch)

    def on_epoch(self, epoch: Epoch) -> None:
        """Write loss and mIoU."""
        for name, value in _metrics(epoch).items():
            self._writer.add_scalar(name, value, epoch.epoch)
        self._writer.flush()

    def on_end(self, card: Card) -> None:
        """Close the file."""
        self._writer.close()


class MLflow(Callback):
    """Logs options, loss, mIoU and the files of a run to an MLflow server.

    The environment says where: `MLFLOW_TRACKING_URI`, and `MLFLOW_EXPERIMENT_NAME`, by default
    "edgeunet". A resumed run is the same one there: `mlflow.json` in its folder has its id. A
    server that fails later is told of, and does not end the training.

    Raises:
        MissingDependencyError: MLflow is not installed.
    """

    def __init__(self) -> None:
        _require("mlflow")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it reports what is logged
        self._client: Any = None
        self._id = ""
        self._folder = Path()

    def on_start(self, run: Run) -> None:
        """Open or resume the run on the server.

        Raises:
            OutputError: no server, or it does not know the run that is resumed.
        """
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._folder = run.folder
        with _told():
            self._client = MlflowClient()
            self._id = self._known() or self._new(run.folder.absolute().name)
            self._client.update_run(self._id, status="RUNNING")
            params = [Param(name, str(value)) for name, value in _options(run).items()]
            self._client.log_batch(self._id, params=params)

    def on_epoch(self, epoch: Epoch) -> None:
        """Log loss and mIoU."""
        self._log_metrics(_metrics(epoch), epoch.epoch)

    def on_end(self, card: Card) -> None:
        """Log the IoU of each class and the files, and end the run."""
        found = zip(card.classes, card.metrics.get("iou", ()), strict=False)
        # Other characters are refused in a name.
        ious = {re.sub(r"[^\w. /-]", "_", f"iou/{name}"): iou for name, iou in found}
        self._log_metrics({name: iou for name, iou in ious.items() if iou is not None}, 0)
        for name in _ARTIFACTS:
            self._try(self._client.log_artifact, self._id, str(self._folder / name))
        self._try(self._client.set_terminated, self._id)

    def _log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """In one call, since MLflow tries one for minutes if its server is gone."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        found = [Metric(name, value, now, step) for name, value in metrics.items()]
        self._try(self._client.log_batch, self._id, metrics=found)

    def _known(self) -> str | None:
        path = self._folder / "mlflow.json"
        if not path.exists():
            return None
        try:
            found = load_json(path)
        except SchemaError as error:
            raise OutputError(f"{printable(path)} {error}. Remove it for a new run.") from None
        return str(found["run"]) if isinstance(found, dict) and "run" in found else None

    def _new(self, name: str) -> str:
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", "edgeunet")
        experiment = self._client.get_experiment_by_name(title)
        number = (
            self._client.create_experiment(title)
            if experiment is None
            else experiment.experiment_id
        )
        found: str = self._client.create_run(number, run_name=name).info.run_id
        write_json(self._folder / "mlflow.json", {"run": found})
        return found

    def _try(self, call: Callable[..., object], *arguments: object, **more: object) -> None:
        try:
            with _told():
                call(*arguments, **more)
        except OutputError as error:
            _log.warning("%s The training goes on.", error)


LOGGERS: dict[str, Callable[[], Callback]] = {"tensorboard": TensorBoard, "mlflow": MLflow}
"""By the names of `--log`."""


def _require(module: str) -> None:
    if not is_installed(module):
        raise MissingDependencyError(module)


def _metrics(epoch: Epoch) -> dict[str, float]:
    found = {"loss": epoch.loss, "miou": epoch.miou}
    return {name: value for name, value in found.items() if value is not None}


def _options(run: Run) -> dict[str, Any]:
    return {"model": run.model, "data": run.data, **run.arguments, **asdict(run.config)}


@contextmanager
def _told() -> Iterator[None]:
    """What MLflow raises, as OutputError."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        said = first_line(error).rstrip(".")
        raise OutputError(
            f"MLflow failed: {said}. Expected a server at MLFLOW_TRACKING_URI, or the whole "
            "package mlflow, which keeps runs in a file."
        ) from None
