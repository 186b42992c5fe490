"""Cross-validation: nets that have not seen what they are judged on, and what the card says."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from edgeunet.data.cells import write_dataset
from edgeunet.data.datasets import open_dataset
from edgeunet.data.fit import Fit
from edgeunet.data.folds import HELD_OUT, split_folds
from edgeunet.errors import CheckpointError, DatasetError, UsageError
from edgeunet.files import sha256
from edgeunet.gate.calibrate import MAX_LOST, calibrate_gate, collect_presence
from edgeunet.models import Checkpoint
from edgeunet.models.reference import evaluate_on, reference_mask
from edgeunet.training.config import Progress, TrainConfig
from edgeunet.training.cross_validation import of_fold, tell_of_kept_gate
from edgeunet.training.train import train
from support.training import SHORT

ONCE = replace(SHORT, epochs=1)
NET = {"size": (64, 64), "width": 8}


def run(data: Path, output: Path, config: TrainConfig = ONCE, **options: object) -> dict:
    card = train("mobile_unet", data, output, config=config, **{**NET, **options})
    return card.metrics


def weights(run: Path) -> dict[str, np.ndarray]:
    return load_file(run / "best.safetensors")


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all((one[name] == other[name]).all() for name in one)


@pytest.fixture(scope="module")
def judged(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("judged")
    run(data, output, folds=2)
    return output


def test_card_tells_what_the_folds_nets_do_on_images_they_have_not_seen(
    judged: Path, data: Path
) -> None:
    found = json.loads((judged / "best.json").read_text())["metrics"]["cross_validation"]
    folds = split_folds(open_dataset(data), 2)
    confusions, boundaries = [], []
    for fold, told in zip(folds, found["folds"], strict=True):
        opened = Checkpoint.open(judged / "folds" / fold.name / "best.safetensors")
        spec = opened.card.input
        again = evaluate_on(
            lambda image, opened=opened: reference_mask(opened.net, image, opened.card.input),
            fold.dataset,
            HELD_OUT,
            fit=Fit(spec),
        )
        assert told == {"groups": [], "images": 8, "miou": again.miou}
        confusions.append(again.confusion)
        boundaries.append(again.boundary)
    whole = np.sum(confusions, axis=0)
    union = whole.sum(0) + whole.sum(1) - np.diag(whole)
    assert found["miou"] == pytest.approx(100 * np.mean(np.diag(whole) / union), abs=1e-3)
    assert found["boundary_f1"] == pytest.approx(100 * np.mean(boundaries), abs=0.01)


def test_a_folds_net_is_that_of_its_images_alone(judged: Path, data: Path, tmp_path: Path) -> None:
    fold = split_folds(open_dataset(data), 2)[1]
    run(fold.dataset, tmp_path, replace(ONCE, validate_every=0))
    assert same(weights(tmp_path), weights(judged / "folds" / "2"))


def test_the_last_net_is_that_of_a_run_without_folds(
    judged: Path, data: Path, tmp_path: Path
) -> None:
    metrics = run(data, tmp_path)
    assert same(weights(tmp_path), weights(judged))
    card = json.loads((judged / "best.json").read_text())["metrics"]
    assert card["miou"] == metrics["miou"] and "cross_validation" not in metrics


def test_resumes_in_the_middle_of_a_fold(judged: Path, data: Path, tmp_path: Path) -> None:
    news: list[Progress] = []

    def stop(progress: Progress) -> None:
        news.append(progress)
        if progress.run == "fold 2 of 2":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, folds=2, report=stop)
    assert not (tmp_path / "best.safetensors").exists()
    run(data, tmp_path, folds=2, report=news.append)
    for part in ("", "folds/1", "folds/2"):
        assert same(weights(tmp_path / part), weights(judged / part))
    assert list(dict.fromkeys(each.run for each in news)) == [
        "fold 1 of 2",
        "fold 2 of 2",
        "all images",
    ]
    assert [each.done for each in news] == sorted(each.done for each in news)
    assert news[-1].done == 1 and news[-1].remaining == 0


def test_time_to_the_end_is_that_of_all_epochs_of_all_runs(data: Path, tmp_path: Path) -> None:
    def stop(news: Progress) -> None:
        images = 3 * (8 + 8 + 16)
        assert news.remaining * news.rate == pytest.approx((1 - news.done) * images)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, replace(ONCE, epochs=3), folds=2, report=stop)


def test_folds_train_all_epochs() -> None:
    config = of_fold(TrainConfig(patience=20))
    assert (config.patience, config.validates) == (None, False)


def test_trains_on_val_too_at_the_end_only(data: Path, tmp_path: Path) -> None:
    metrics = run(data, tmp_path, replace(ONCE, with_val=True), folds=2)
    assert list(metrics) == ["cross_validation"]
    cards = [
        json.loads((tmp_path / "folds" / name / "best.json").read_text()) for name in ("1", "2")
    ]
    assert [card["training"]["with_val"] for card in cards] == [False, False]


def test_a_run_with_folds_teaches_each_by_the_net_that_has_not_seen_it(
    judged: Path, data: Path, tmp_path: Path
) -> None:
    run(data, tmp_path, folds=2, teacher=judged)
    for part in ("", "folds/1", "folds/2"):
        card = json.loads((tmp_path / part / "best.json").read_text())
        teacher = card["training"]["teacher"]
        assert teacher["sha256"] == sha256(judged / part / "best.safetensors")


def test_refuses_what_knows_the_held_out_images(judged: Path, data: Path, tmp_path: Path) -> None:
    seen = judged / "best.safetensors"
    with pytest.raises(UsageError, match=r"with --teacher .* knows the images that are held out"):
        run(data, tmp_path / "a", folds=2, teacher=seen)
    with pytest.raises(UsageError, match=r"with --weights .* Start from other weights"):
        run(data, tmp_path / "b", folds=2, initial=seen)
    other = tmp_path / "other"
    shutil.copytree(data, other)
    (other / "dataset.json").write_text(
        (data / "dataset.json").read_text().replace('"cells"', '"others"')
    )
    run(other, tmp_path / "later", initial=seen)
    later = tmp_path / "later" / "best.safetensors"
    with pytest.raises(UsageError, match=r"with --weights .*later.* was trained on cells itself"):
        run(data, tmp_path / "b", folds=2, initial=later)
    with pytest.raises(UsageError, match=r"with --teacher .*later.* was trained on cells itself"):
        run(data, tmp_path / "b", folds=2, teacher=later)
    with pytest.raises(CheckpointError, match="has other folds: none of its nets"):
        run(data, tmp_path / "c", folds=4, teacher=judged)
    (judged / "folds" / "2").rename(judged / "folds" / "away")
    try:
        with pytest.raises(CheckpointError, match="the teacher's own folds are not trained"):
            run(data, tmp_path / "d", folds=2, teacher=judged)
    finally:
        (judged / "folds" / "away").rename(judged / "folds" / "2")


def test_refuses_other_folds_in_the_same_run(judged: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="another run: folds is 2 there, and 4 here"):
        run(data, judged, folds=4)
    shutil.copy(judged / "folds.json", tmp_path)  # of a run that was killed in its folds
    with pytest.raises(CheckpointError, match="divides the training images in another way"):
        run(data, tmp_path, folds=4)


def test_refuses_a_damaged_division(data: Path, tmp_path: Path) -> None:
    for content, said in (("{", "cannot be read as JSON"), ("[]", "holds no folds")):
        (tmp_path / "folds.json").write_text(content)
        with pytest.raises(CheckpointError, match=said):
            run(data, tmp_path, folds=2)


def test_frames_without_labels_are_none_that_a_fold_holds_out(
    judged: Path, data: Path, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    shutil.copytree(data / "train" / "images", frames)
    first = sorted(frames.iterdir())[0]
    with pytest.raises(UsageError, match=r"all 1 frames of --unlabelled .* held-out images"):
        run(data, tmp_path / "one", folds=2, teacher=judged, unlabelled=first)
    run(data, tmp_path / "run", folds=2, teacher=judged, unlabelled=frames)
    counts = [
        json.loads((tmp_path / "run" / part / "best.json").read_text())["training"]["unlabelled"]
        for part in ("", "folds/1", "folds/2")
    ]
    assert [each["frames"] for each in counts] == [16, 8, 8]


def test_another_start_or_other_folds_are_another_run(
    judged: Path, data: Path, tmp_path: Path
) -> None:
    run(data, tmp_path / "plain")
    with pytest.raises(CheckpointError, match="another run: folds is null there, and 2 here"):
        run(data, tmp_path / "plain", folds=2)
    with pytest.raises(CheckpointError, match="another run: weights is null there, and "):
        run(data, tmp_path / "plain", initial=judged / "best.safetensors")


def test_refuses_groups_without_folds(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got --group-by without --folds"):
        run(data, tmp_path, group_by="(.)")


def test_refuses_a_fold_without_which_a_class_has_no_pixel(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=4, val=1, height=96, width=96, seed=3)
    for path in sorted((tmp_path / "data" / "train" / "masks").iterdir())[2:]:
        mask = np.minimum(np.asarray(Image.open(path)), 1)  # no dividing cell
        Image.fromarray(mask).save(path)
    with pytest.raises(DatasetError, match="2 images of fold 1, 'dividing' has no pixel"):
        run(tmp_path / "data", tmp_path / "run", folds=2)


def test_refuses_a_fold_that_shows_one_class_only(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=4, val=1, height=96, width=96, seed=3)
    for path in sorted((tmp_path / "data" / "train" / "masks").iterdir())[:2]:
        Image.fromarray(np.zeros((96, 96), np.uint8)).save(path)
    with pytest.raises(DatasetError, match="2 images of fold 1 hold 'background' only"):
        run(tmp_path / "data", tmp_path / "run", folds=2)


# A gate


@pytest.fixture(scope="module")
def flawed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells, of which every other frame shows none."""
    root = tmp_path_factory.mktemp("flawed") / "data"
    write_dataset(root, train=16, val=4, height=96, width=96, seed=3)
    for split in ("train", "val"):
        for path in sorted((root / split / "masks").iterdir())[::2]:
            Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    return root


def test_thresholds_come_from_nets_that_have_not_seen_the_images(
    flawed: Path, tmp_path: Path
) -> None:
    config = replace(ONCE, with_val=True)
    run(flawed, tmp_path, config, folds=2, cgm=True, gate_open=50)
    card = json.loads((tmp_path / "best.json").read_text())
    parts = []
    for fold in split_folds(open_dataset(flawed), 2):
        opened = Checkpoint.open(tmp_path / "folds" / fold.name / "best.safetensors")
        assert opened.card.gate is None
        spec = opened.card.input
        parts.append(collect_presence(opened.net, fold.dataset, spec, split=HELD_OUT))
    presence, pixels = (np.concatenate(each) for each in zip(*parts, strict=True))
    assert len(presence) == 16
    thresholds = calibrate_gate(presence, pixels, max_lost=MAX_LOST, open_on=0.5)
    assert card["gate"] == list(thresholds)
    told = card["metrics"]["gate"]
    assert told["cross_fitted"] is True and told["open_on"] == 0.5 and told["images"] == 16
    assert [each["held"] for each in told["classes"]] == (pixels > 0).sum(0).tolist()


def test_a_kept_gate_that_is_shut_more_often_than_promised_is_told_of(
    flawed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(flawed, tmp_path / "run", folds=2, cgm=True)
    caplog.clear()
    opened = Checkpoint.open(tmp_path / "run" / "best.safetensors")
    presence, pixels = collect_presence(opened.net, open_dataset(flawed), opened.card.input)
    held = presence[pixels[:, 1] > 0, 1]
    between = float(np.sort(held)[-1])  # open on one of the two images of val that hold a cell
    card = replace(opened.card, gate=(0.0, between, 0.0))
    gate = deepcopy(card.metrics["gate"])
    gate["classes"][1]["open_at_least"] = 0.75
    metrics = {**card.metrics, "gate": gate}
    tell_of_kept_gate(replace(opened, card=replace(card, metrics=metrics)), open_dataset(flawed))
    told = "'cell' is open on 50.0 % of the 2 images of val that hold it, but the folds' nets are"
    assert told in caplog.text and "on at least 75.0 %" in caplog.text


def test_refuses_vain_promises_of_a_gate_before_it_trains(flawed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is to be open on 95 % .* that takes 59 or more"):
        run(flawed, tmp_path / "a", folds=2, cgm=True, gate_open=95)
    assert not (tmp_path / "a" / "folds").exists()
    with pytest.raises(UsageError, match="got --gate-open without --folds"):
        run(flawed, tmp_path / "b", cgm=True, gate_open=50)
    with pytest.raises(UsageError, match="got --gate-open without --cgm"):
        run(flawed, tmp_path / "c", folds=2, gate_open=50)


def test_image_that_is_held_out_under_another_name_is_refused(data: Path, tmp_path: Path) -> None:
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    first, *_, last = sorted((copied / "train" / "images").iterdir())
    shutil.copy(first, last)
    with pytest.raises(DatasetError, match=r"is in fold 2, and in fold 1 as .*learnt by heart"):
        run(copied, tmp_path / "run", folds=2)
    assert not (tmp_path / "run" / "folds").exists()
