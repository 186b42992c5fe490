"""Real nets, small ones: counted, trained on from their own weights, exported and timed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgeunet.catalogue import VARIANTS
from edgeunet.data.cells import write_dataset
from edgeunet.data.datasets import open_dataset
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.tuning import sketch
from edgeunet.tuning.lab import NetLab
from edgeunet.tuning.race import Lesson
from edgeunet.tuning.space import Configuration
from support.training import SHORT

SMALL = Configuration((64, 64), 8, (("decoder", "light"),))


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NetLab:
    monkeypatch.setattr(sketch, "SECONDS", 0.02)
    write_dataset(tmp_path / "data", train=8, val=3, height=96, width=96, seed=3)
    config = replace(SHORT, crop=(96, 64))
    output = tmp_path / "search"
    return NetLab("mobile_unet", open_dataset(tmp_path / "data"), output, config)


def test_work_is_what_the_catalogue_says(lab: NetLab) -> None:
    work = lab.work(Configuration((96, 96), 32, (("decoder", "full"),)))
    assert work.gflops == pytest.approx(VARIANTS["mobile_unet"].flops(96, 96) / 1e9, rel=0.01)
    assert work.melements > 4 * lab.work(SMALL).melements
    assert (lab.spec.height, lab.spec.width) == (96, 96)


def test_lessons_go_on_from_their_own_weights(lab: NetLab) -> None:
    first = lab.train(Lesson(SMALL, (1,)))
    assert first.checkpoint == f"runs/{SMALL.key}/1/best.safetensors"
    second = lab.train(Lesson(SMALL, (1, 2), first.checkpoint))
    card = Checkpoint.open(lab.output / second.checkpoint).card
    assert card.metrics["miou"] == second.miou
    assert (card.input.height, card.input.width) == SMALL.size
    assert card.training["epochs"] == 2 and card.training["seed"] == 1
    assert card.training["crop"] == [64, 64], "what fits into the input"
    assert card.training["initial"]["epochs"] == 1
    assert card.arguments["decoder"] == "light" and card.arguments["width"] == 8
    assert second.pace is not None and second.pace.epoch > 0 and second.pace.once >= 0
    assert not list((lab.output / "runs").rglob("last.pt"))
    log = (lab.output / second.checkpoint).with_name("log.jsonl").read_text().splitlines()
    assert [json.loads(line)["miou"] is None for line in log] == [True, False]


def test_training_that_was_killed_resumes_and_tells_no_pace(lab: NetLab) -> None:
    whole = lab.train(Lesson(SMALL, (2,)))
    weights = (lab.output / whole.checkpoint).read_bytes()
    shutil.rmtree(lab.output)
    for epoch in (1, 2):  # killed before the last epoch, and behind it

        def count(done: int, total: int | None, epoch: int = epoch) -> None:
            if done >= 50 * epoch and (lab.output / f"runs/{SMALL.key}/2/last.pt").exists():
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            replace(lab, count=count).train(Lesson(SMALL, (2,)))
        again = lab.train(Lesson(SMALL, (2,)))
        assert (again.miou, again.pace) == (whole.miou, None)
        assert (lab.output / again.checkpoint).read_bytes() == weights
        shutil.rmtree(lab.output)
    assert whole.pace is not None


def test_pace_takes_a_few_steps_and_leaves_nothing(lab: NetLab) -> None:
    counted: list[int] = []
    pace = replace(lab, count=lambda done, total: counted.append(done)).pace(SMALL)
    assert 0 < pace.epoch < 60 and 0 < pace.once < 60
    assert not lab.output.exists() and not counted


def test_export_and_its_times_or_its_problem(lab: NetLab) -> None:
    trained = lab.train(Lesson(SMALL, (1,)))
    written = lab.export(SMALL, trained.checkpoint, "fp32")
    assert written.problem == "" and written.bundle == f"tried/{SMALL.key}-1-fp32"
    assert written.miou == pytest.approx(trained.miou, abs=1.0)
    times = lab.times_of(written.bundle)
    assert "onnxruntime FP32" in times and "onnxruntime INT8" not in times
    (lab.output / trained.checkpoint).write_bytes(b"")
    broken = lab.export(SMALL, trained.checkpoint, "fp32")
    assert broken.problem and "\n" not in broken.problem and not broken.bundle
