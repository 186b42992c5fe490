"""Callbacks of a training: what they are told, when, and what follows from an error of theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeunet.models import Card
from edgeunet.training.callbacks import Callback, Run
from edgeunet.training.history import Epoch
from edgeunet.training.train import train
from support.training import SHORT

CONFIG = replace(SHORT, crop=(32, 32), epochs=3, batch_size=8)


class Noted(Callback):
    """Notes what it is told."""

    def __init__(self, stop: int | None = None) -> None:
        self.told: list[Run | Epoch | Card] = []
        self._stop = stop

    def on_start(self, run: Run) -> None:
        self.told.append(run)

    def on_epoch(self, epoch: Epoch) -> None:
        self.told.append(epoch)
        if epoch.epoch == self._stop:
            raise KeyboardInterrupt

    def on_end(self, card: Card) -> None:
        run = self.told[0]
        assert isinstance(run, Run)
        assert {"best.json", "best.safetensors", "log.jsonl", "train.html"} <= {
            path.name for path in run.folder.iterdir()
        }
        self.told.append(card)


def test_callbacks_follow_a_run_and_its_resumption(data: Path, tmp_path: Path) -> None:
    given = {"config": CONFIG, "size": (64, 64), "width": 8}
    stopped, noted = Noted(stop=2), Noted()
    with pytest.raises(KeyboardInterrupt):
        train("mobile_unet", data, tmp_path, **given, callbacks=[Callback(), stopped])
    assert [type(each) for each in stopped.told] == [Run, Epoch, Epoch]
    card = train("mobile_unet", data, tmp_path, **given, callbacks=[noted])
    start, last, end = noted.told
    assert isinstance(start, Run) and isinstance(last, Epoch)
    assert (start.epoch, start.folder, start.model) == (2, tmp_path, "mobile_unet")
    assert (start.config, start.classes) == (CONFIG, ("background", "cell", "dividing"))
    assert start.arguments["width"] == 8 and start.data == "cells"
    assert last.epoch == 3 and last.miou is not None and last.loss > 0
    assert end == card
    first = stopped.told[1]
    assert isinstance(first, Epoch) and first.epoch == 1 and first.miou is None


def test_with_folds_the_net_of_all_images_is_followed(data: Path, tmp_path: Path) -> None:
    noted = Noted()
    config = replace(CONFIG, epochs=1, with_val=True)
    given = {"config": config, "size": (64, 64), "width": 8, "folds": 2}
    card = train("mobile_unet", data, tmp_path, **given, callbacks=[noted])
    assert [type(each) for each in noted.told] == [Run, Epoch, Card]
    assert noted.told[2] == card and "cross_validation" in card.metrics


def test_a_server_that_is_away_at_the_start_ends_all(data: Path, tmp_path: Path) -> None:
    class Away(Callback):
        def on_start(self, run: Run) -> None:
            raise ConnectionError

    given = {"config": replace(CONFIG, gate_epochs=1), "size": (64, 64), "width": 8, "cgm": True}
    with pytest.raises(ConnectionError):
        train("mobile_unet", data, tmp_path, **given, folds=2, callbacks=[Away()])
    assert not list(tmp_path.rglob("*.safetensors")), "no fold and no stage was trained"
