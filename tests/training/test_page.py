"""The page of a training: what val says of the best epoch, all epochs, and its worst frames."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeunet.data.cells import write_dataset
from edgeunet.data.datasets import open_dataset
from edgeunet.data.fit import Fit
from edgeunet.models import Card, Checkpoint
from edgeunet.models.reference import evaluate_on, reference_mask
from edgeunet.training.config import Progress
from edgeunet.training.page import PAGE
from edgeunet.training.train import train
from support.training import SHORT

CONFIG = replace(SHORT, crop=(32, 32), epochs=3, batch_size=8, validate_every=1)
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "data"
    write_dataset(path, train=16, val=7, height=64, width=64, seed=3)
    described = json.loads((path / "dataset.json").read_text())
    described["classes"][1] = HOSTILE
    (path / "dataset.json").write_text(json.dumps(described))
    return path


def run(data: Path, output: Path, **options: object) -> Card:
    given = {"config": CONFIG, "size": (64, 64), "width": 8, **options}
    return train("mobile_unet", data, output, **given)


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Card]:
    output = tmp_path_factory.mktemp("done")
    return output, run(data, output)


def page_of(output: Path) -> str:
    return (output / PAGE).read_text(encoding="utf-8")


def test_classes_come_first_as_the_card_has_them(done: tuple[Path, Card]) -> None:
    output, card = done
    page = page_of(output)
    assert re.findall(r"<h2>(.*?)</h2>", page)[0] == "Classes"
    found = re.findall(r'class="bar" style="--share:[\d.]+%">([\d.]+)<', page)
    assert [float(text) for text in found] == card.metrics["iou"]
    assert f"<b>{card.metrics['miou']:.2f}</b>" in page
    assert f"Epoch {card.training['best_epoch']} has the highest mIoU on val" in page
    assert HOSTILE not in page and html.escape(HOSTILE) in page
    assert "://" not in re.sub(r"data:[^\"]+", "", page), "nothing from elsewhere"
    assert "prefers-color-scheme: dark" in page


def test_matrix_and_worst_frames_are_those_of_the_net_that_is_kept(
    done: tuple[Path, Card], data: Path
) -> None:
    output, _ = done
    page = page_of(output)
    opened, dataset = Checkpoint.open(output / "best.safetensors"), open_dataset(data)
    spec = opened.card.input
    again = evaluate_on(
        lambda image: reference_mask(opened.net, image, spec), dataset, "val", fit=Fit(spec)
    )
    wanted = again.confusion / again.confusion.sum(1, keepdims=True)
    found = re.findall(r'title="[^"]*, taken for [^"]*: ([\d.]+)%"', page)
    # The file holds the weights in half the bits, so that a few pixels may differ.
    assert np.array(found, float).reshape(3, 3) == pytest.approx(100 * wanted, abs=1)
    frames = re.findall(r"<h3>(.*?): mIoU ([\d.]+) %</h3>", page)
    names = [str(each.image.relative_to(dataset.root)) for each in dataset.samples("val")]
    worst = sorted(zip(again.images, names, strict=True))[:6]
    assert [float(score) for _, score in frames] == pytest.approx(
        [score for score, _ in worst], abs=1
    )
    assert {name for name, _ in frames} == {name for _, name in worst}
    assert page.count('src="data:image/') == 18


def test_a_resumed_run_shows_all_epochs_and_the_same_frames(
    done: tuple[Path, Card], data: Path, tmp_path: Path
) -> None:
    def stop(news: Progress) -> None:
        if news.epoch == 2 and news.miou is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, report=stop)
    assert not (tmp_path / PAGE).exists()
    run(data, tmp_path)
    (tmp_path / PAGE).unlink()
    run(data, tmp_path)  # which has ended already
    found, wanted = (
        re.sub(r"in [\d.]+ minutes", "", page_of(path)) for path in (tmp_path, done[0])
    )
    assert found.count("<title>epoch ") == 6, "three of the loss and of the mIoU"
    assert found == wanted


def test_page_of_a_run_that_was_stopped_says_when(data: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=4, patience=1, learning_rate=1e-12)  # nothing is learnt
    assert run(data, tmp_path, config=config).training["best_epoch"] == 1
    page = page_of(tmp_path)
    assert "Stopped after epoch 2 of 4: it had not risen since, for --patience 1." in page
    assert "2 epochs in" in page and "<td>patience</td><td>1</td>" in page


def test_a_run_that_is_not_validated_shows_the_loss_alone(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path, config=replace(CONFIG, epochs=2, with_val=True))
    page = page_of(tmp_path)
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Epochs", "Options"]
    assert "trained on val too (--with-val). There is no more to show than the loss." in page
    assert page.count("<svg") == 1 and page.count("<title>epoch ") == 2
    assert "src=" not in page


def test_classes_of_a_run_with_val_are_those_of_its_folds(data: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1, with_val=True)
    judged = run(data, tmp_path, config=config, folds=2).metrics["cross_validation"]
    page = page_of(tmp_path)
    found = re.findall(r'class="bar" style="--share:[\d.]+%">([\d.]+)<', page)
    assert [float(text) for text in found] == judged["iou"]
    assert "IoU, cross-validated" in page and "IoU, on val" not in page
    for number, fold in enumerate(judged["folds"], start=1):
        assert re.search(rf"fold {number}</td>\s*<td>8</td><td>{fold['miou']:.2f}<", page)
    assert "predictions, cross-validated, in percent" in page
    assert "Worst frames" not in page and not list(tmp_path.glob("folds/*/train.html"))
