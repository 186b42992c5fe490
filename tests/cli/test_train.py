"""`edgeunet train`: its defaults, and the check of a data set."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeunet.data.cells import write_dataset
from edgeunet.errors import UsageError
from edgeunet.training.config import TrainConfig
from edgeunet.training.loop import Trainer
from support.commands import call, fails, succeeds
from support.media import read_rgb, write_video


@pytest.fixture
def came(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """How nets were to be trained; none is."""
    seen: list[TrainConfig] = []

    def train(*arguments: object, config: TrainConfig, **more: object) -> None:
        seen.append(config)
        raise UsageError("seen")

    monkeypatch.setattr("edgeunet.cli.train.train", train)
    return seen


def test_training_has_the_defaults_of_the_paper(came: list[TrainConfig], tmp_path: Path) -> None:
    common = ["--data", "cells", "-o", tmp_path, "--batch", "2", "--no-amp"]
    for model, *more in (["unet"], ["unet", "--loss", "hybrid", "--elastic", "0"], ["resunet"]):
        assert fails(2, "train", *more, *common, "--model", model) == "error: seen\n"
    changes: dict[str, Any] = {"batch_size": 2, "amp": False}
    assert came == [
        TrainConfig.for_model("unet", **changes),
        TrainConfig.for_model("unet", loss="hybrid", elastic=0.0, **changes),
        TrainConfig.for_model("resunet", **changes),
    ]
    assert (came[0].loss, came[0].elastic) == ("weighted_cross_entropy", 10.0)


def test_file_of_options_goes_before_the_papers_and_behind_the_command_line(
    came: list[TrainConfig], tmp_path: Path
) -> None:
    file = tmp_path / "run.toml"
    file.write_text('model = "unet"\ndata = "cells"\nlr = 1e-4\nelastic = 0.5\nbatch = 3\n')
    words = ("--config", file, "-o", tmp_path / "run", "--batch", "2")
    assert fails(2, "train", *words) == "error: seen\n"
    changes: dict[str, Any] = {"batch_size": 2, "learning_rate": 1e-4, "elastic": 0.5}
    assert came == [TrainConfig.for_model("unet", **changes)]
    assert came[0].loss == "weighted_cross_entropy", "the paper's"


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_training_starts_with_the_table_of_the_classes_and_keeps_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "data", train=2, val=1, height=32, width=32, seed=4)
    short = ("--epochs", "1", "--batch", "2", "--crop", "32x32", "--no-amp", "--width", "4")
    data = ("--model", "mobile_unet", "--data", tmp_path / "data")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", interrupted)
        call("train", *data, *short, "-o", tmp_path / "run")
    kept = (tmp_path / "run" / "config.toml").read_text().splitlines()
    result = succeeds("train", *data, *short, "-o", tmp_path / "run")
    table = succeeds("train", *data, "--check").stdout
    assert "dividing" in table
    assert table in result.stderr
    assert result.stderr.index("dividing") < result.stderr.index("epoch 1")
    assert kept == (tmp_path / "run" / "config.toml").read_text().splitlines()
    assert {'model = "mobile_unet"', "epochs = 1", "crop = [32, 32]", "amp = false"} <= set(kept)
    assert not any(line.startswith(("lr", "seed")) for line in kept), "which were not given"


def test_preview_shows_the_crops_and_trains_nothing(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=4, val=2, height=32, width=32, seed=4)
    short = ("--batch", "2", "--crop", "32x32", "--width", "4", "--folds", "2")
    train = ("train", "--model", "mobile_unet", "--data", tmp_path / "data", *short)
    sheet = tmp_path / "crops.png"
    done = succeeds(*train, "--preview", sheet)
    assert done.stdout == f"the first 4 crops, wrote {sheet}\n"
    assert read_rgb(sheet).shape == (2 * 44 + 12, 3 * 76 + 12, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crops.png", "data"]
    told = succeeds(*train, "--preview", sheet, "-o", tmp_path / "run", "--json")
    assert json.loads(told.stdout) == {"preview": str(sheet), "crops": 4}
    assert list((tmp_path / "run").iterdir()) == []
    assert "got --check and --preview" in fails(2, *train, "--preview", sheet, "--check")
    assert "no output. Pass -o DIR" in fails(2, *train)
    said = fails(2, *train, "--preview", sheet, "--unlabelled", tmp_path)
    assert "got --unlabelled without --teacher" in said


def test_class_without_a_pixel_is_refused_before_training(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=2, val=1, height=32, width=32, seed=3)
    arguments = ("--model", "mobile_unet", "--data", tmp_path / "data")
    for more in (("--check",), ("-o", tmp_path / "run", "--crop", "32x32")):
        said = fails(1, "train", *arguments, *more)
        assert "a class has no pixel.\n  'dividing' has no pixel in val" in said
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_check_refuses_images_whose_values_training_cannot_tell(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=2, val=1, height=32, width=32, seed=4)
    for path in list((tmp_path / "data").glob("*/images/*.png")):
        values = read_rgb(path)[..., 0].astype(np.float32) / 255
        path.unlink()
        cv2.imwrite(str(path.with_suffix(".tiff")), values)
    check = ("train", "--model", "mobile_unet", "--data", tmp_path / "data", "--check")
    assert "the images are float32" in fails(2, *check)
    assert "values are float32, 0" in succeeds(*check, "--levels", "0,1").stdout
    assert "without padding" in fails(2, *check, "--levels", "0,1", "--fill", "0")


def test_input_after_the_first_of_images_of_several_sizes_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_dataset(tmp_path / "data", train=12, val=6, height=32, width=64, seed=4)
    train = ("train", "--model", "mobile_unet", "--data", tmp_path / "data", "--crop", "32x32")
    looks = (("--check",), ("--preview", tmp_path / "crops.png", "--width", "4"))
    for look in looks:
        succeeds(*train, *look)
    assert "several sizes" not in caplog.text
    for kind in ("images", "masks", "instances"):
        path = sorted((tmp_path / "data" / "train" / kind).iterdir())[-1]
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:, :32])
    for look in looks:
        caplog.clear()
        succeeds(*train, *look, "--size", "32x32")
        assert "several sizes" not in caplog.text
        succeeds(*train, *look)
        said = "several sizes: 32x64 (17 images), 32x32 (1 image). The net's input is 32x64"
        assert said in caplog.text


@pytest.mark.parametrize("how", ["antialias", "pillow_bicubic"])
def test_filter_goes_from_training_into_the_bundle(tmp_path: Path, how: str) -> None:
    write_dataset(tmp_path / "data", train=2, val=1, height=96, width=128, seed=4)
    short = ("--epochs", "1", "--batch", "2", "--crop", "32x32", "--no-amp", "--width", "4")
    model = ("--model", "mobile_unet")
    data = ("--data", tmp_path / "data")
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    succeeds("train", *model, *data, *short, "--size", "32x64", "--filter", how, "-o", run)
    weights = ("--weights", run / "best.safetensors")
    succeeds("export", *model, *weights, *data, "-o", bundle)  # its parity is in tolerance
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["input"]["filter"] == how
    assert f"stretch, {how}; batch" in succeeds("inspect", bundle).stdout
    other = tmp_path / "other"
    succeeds("export", *model, *weights, *data, "--filter", "area", "-o", other)
    assert json.loads((other / "manifest.json").read_text())["input"]["filter"] == "area"


def test_check_opens_the_weights_too(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=2, val=2, height=64, width=96)
    (tmp_path / "start.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
    check = ("train", "--model", "mobile_unet", "--data", tmp_path / "data", "--check")
    assert "start.pth" in fails(1, *check, "--weights", tmp_path / "start.pth")
    assert "got --raw without --weights" in fails(2, *check, "--raw")


def test_check_refuses_what_training_would(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=16, val=2, height=96, width=96, seed=3)
    check = ("train", "--model", "mobile_unet", "--data", tmp_path / "data", "--check")
    small = ("--crop", "32x32", "--width", "4")
    assert "needs multiples of 32" in fails(2, *check, "--crop", "50x50")
    assert "size is 50x60" in fails(2, *check, *small, "--size", "50x60")
    assert "without a gate. Pass --cgm" in fails(2, *check, *small, "--gate-epochs", "3")
    promise = fails(2, *check, *small, "--cgm", "--folds", "2", "--gate-open", "95")
    assert "that takes 59 or more" in promise
    known = ("--folds", "2", "--weights", "cells", "--crop", "32x32")
    assert "knows the images that are held out" in fails(2, *check, *known)
    assert "has other classes" in fails(1, *check, *small, "--teacher", "mobile_unet:camvid")
    assert "cell" in succeeds(*check, *small, "--folds", "2").stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_training_on_val_too_gives_no_miou(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=2, val=1, height=32, width=32, seed=4)
    short = ("--epochs", "1", "--batch", "2", "--crop", "32x32", "--no-amp", "--width", "4")
    common = ("--data", tmp_path / "data", *short, "-o", tmp_path / "run", "--with-val")
    done = succeeds("train", "--model", "mobile_unet", *common)
    assert "trained on val too, wrote " in done.stdout
    card = json.loads((tmp_path / "run" / "best.json").read_text())
    assert card["metrics"] == {} and card["training"]["with_val"] is True


def test_a_recipe_is_judged_on_films_that_its_nets_have_not_seen(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=4, val=1, height=32, width=32, seed=4)
    for kind in ("images", "masks", "instances"):
        for index, path in enumerate(sorted((tmp_path / "data" / "train" / kind).iterdir())):
            path.rename(path.with_stem(f"{'dusk' if index < 2 else 'noon'}_{index}"))
    short = ("--epochs", "1", "--batch", "2", "--crop", "32x32", "--no-amp", "--width", "4")
    train = ("train", "--model", "mobile_unet", "--data", tmp_path / "data", *short)
    folds = ("--folds", "2", "--group-by", "([^/]+)_", "--with-val")
    done = succeeds(*train, *folds, "-o", tmp_path / "run")
    assert re.search(r"^cross-validated mIoU \d+\.\d\d % \(folds: [\d., ]+\)$", done.stdout, re.M)
    assert "trained on val too, wrote " in done.stdout
    for line in ("fold 1 of 2, epoch 1", "fold 2 of 2, epoch 1", "all images, epoch 1"):
        assert line in done.stderr
    card = json.loads((tmp_path / "run" / "best.json").read_text())
    told = card["metrics"]["cross_validation"]
    assert [fold["groups"] for fold in told["folds"]] == [["dusk"], ["noon"]]
    assert "too few for 3 folds" in fails(1, *train, "--check", "--folds", "3", *folds[2:4])
    assert "got --group-by without --folds" in fails(2, *train, "--check", *folds[2:4])
    assert "is no regular expression" in fails(2, *train, "--check", *folds[:3], "(")


def test_training_ends_with_what_the_gate_does(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=2, val=1, height=32, width=32, seed=4)
    short = ("--epochs", "1", "--batch", "2", "--crop", "32x32", "--no-amp", "--width", "4")
    train = ("train", "--model", "mobile_unet", "--data", tmp_path / "data", *short)
    done = succeeds(*train, "--cgm", "--gate-epochs", "1", "-o", tmp_path / "run")
    assert "open where held" in done.stdout
    assert re.search(r"^skips the decoder on \d+\.\d\d% of 1 images", done.stdout, re.M)
    assert "gate, epoch 1" in done.stderr and "net, epoch 1" in done.stderr
    without = fails(2, *train, "--gate-epochs", "1", "-o", tmp_path / "other")
    assert "got --gate-epochs for a net without a gate. Pass --cgm, too." in without


def test_encoder_is_chosen_and_stands_on_the_card(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=2, val=1, height=32, width=32, seed=4)
    short = ("--epochs", "1", "--batch", "2", "--crop", "32x32", "--no-amp", "--width", "4")
    common = ("--data", tmp_path / "data", *short, "-o", tmp_path / "run", "--encoder", "lite0")
    succeeds("train", "--model", "eff_unet", *common)
    card = json.loads((tmp_path / "run" / "best.json").read_text())
    assert card["arguments"]["encoder"] == "lite0"
    said = fails(2, "train", "--model", "unet", *common)
    assert "unet has no argument encoder. It takes:" in said


def test_teacher_and_unlabelled_frames_stand_on_the_card(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=2, val=1, height=32, width=32, seed=4)
    short = ("--epochs", "1", "--batch", "2", "--crop", "32x32", "--no-amp", "--width", "4")
    train = ("train", "--model", "mobile_unet", "--data", tmp_path / "data", *short)
    film = write_video(tmp_path / "film.mp4", 3)
    teacher = ("--teacher", "mobile_unet:cells", "--temperature", "2")
    succeeds(*train, *teacher, "--unlabelled", film, "-o", tmp_path / "run")
    card = json.loads((tmp_path / "run" / "best.json").read_text())
    assert card["training"]["teacher"]["name"] == "mobile_unet:cells"
    assert card["training"]["temperature"] == 2
    assert card["training"]["unlabelled"]["name"] == "film.mp4"
    assert card["training"]["unlabelled"]["frames"] == 3


def test_unfit_teacher_is_refused_before_training(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=2, val=1, height=32, width=32, seed=4)
    train = ("train", "--model", "mobile_unet", "--data", tmp_path / "data")
    for more in (("--check",), ("-o", tmp_path / "run")):
        said = fails(1, *train, *more, "--teacher", "mobile_unet:camvid")
        assert "the teacher mobile_unet:camvid has other classes: bicyclist, building" in said
        assert "expected background, cell, dividing" in said
        said = fails(2, *train, *more, "--unlabelled", tmp_path)
        assert "got --unlabelled without --teacher" in said
    assert not (tmp_path / "run" / "last.pt").exists()
