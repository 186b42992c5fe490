"""Training with a teacher: what it teaches, on which crops, and to the same bits when resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import write_dataset
from edgeunet.data.datasets import open_dataset
from edgeunet.errors import CheckpointError, SourceError, UsageError
from edgeunet.models import Card, Checkpoint, list_models, save_checkpoint
from edgeunet.models.reference import to_input
from edgeunet.models.structure import structure_of
from edgeunet.pruning.channels import prune_channels
from edgeunet.training.config import Progress, TrainConfig
from edgeunet.training.loop import Trainer
from edgeunet.training.losses import distillation, presence_distillation
from edgeunet.training.teacher import open_teacher
from edgeunet.training.train import train
from support.media import read_rgb, write_png
from support.training import SHORT

TINY = {"eff_unet": {"width": 8}, "mobile_unet": {"width": 8}}
Answers = list[tuple[torch.Size, torch.Size]]


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Negatives of frames of cells: nothing that the labels tell of."""
    folder = tmp_path_factory.mktemp("more")
    write_dataset(folder / "data", train=6, val=1, height=96, width=96, seed=8)
    for sample in open_dataset(folder / "data").samples("train"):
        (folder / "frames").mkdir(exist_ok=True)
        write_png(folder / "frames" / sample.image.name, 255 - read_rgb(sample.image))
    return folder / "frames"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Answers]:
    """Shapes that the losses of a teacher were called with."""
    calls: dict[str, Answers] = {}

    def noting(name: str, loss: Callable[..., Tensor]) -> None:
        def note(student: Tensor, taught: Tensor, **more: Any) -> Tensor:
            calls.setdefault(name, []).append((student.shape, taught.shape))
            assert student.requires_grad
            assert not taught.requires_grad
            return loss(student, taught, **more)

        monkeypatch.setattr(f"edgeunet.training.teacher.{name}", note)

    noting("distillation", distillation)
    noting("presence_distillation", presence_distillation)
    return calls


def taught(data: Path, output: Path, teacher: Path, **changes: Any) -> Card:
    """Train a tiny net with a teacher."""
    return train(
        "mobile_unet", data, output, teacher=teacher,
        **{"config": SHORT, "size": (64, 64), "width": 8, **changes},
    )  # fmt: skip


def same_weights(one: Path, two: Path) -> bool:
    first, second = (load_file(run / "best.safetensors") for run in (one, two))
    return all(torch.equal(first[name], second[name]) for name in first)


def test_interrupted_run_resumes_with_bit_identical_weights(
    data: Path, calibrated: Path, unlabelled: Path, tmp_path: Path
) -> None:
    config = replace(SHORT, crop=(32, 32), epochs=2, unlabelled_share=0.25)
    more = {"config": config, "unlabelled": unlabelled, "cgm": True}

    def go(name: str, **changes: Any) -> Path:
        taught(data, tmp_path / name, calibrated, **more, **changes)
        return tmp_path / name

    class Stopped(Exception):
        pass

    def stop(news: Progress) -> None:
        if news.epoch == 1:
            raise Stopped

    whole = go("whole")
    with pytest.raises(Stopped):
        go("parts", report=stop)
    assert same_weights(whole, go("parts"))
    assert same_weights(whole, go("workers", workers=2))


def test_run_of_another_teacher_or_other_frames_is_not_resumed(
    data: Path, checkpoint: Path, calibrated: Path, unlabelled: Path, tmp_path: Path
) -> None:
    config = replace(SHORT, crop=(32, 32), epochs=1, batch_size=16)
    taught(data, tmp_path, checkpoint, unlabelled=unlabelled, config=config)
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for path in sorted(unlabelled.iterdir())[1:]:
        (fewer / path.name).write_bytes(path.read_bytes())
    for teacher, frames, changes in (
        (calibrated, unlabelled, {}),
        (checkpoint, fewer, {}),
        (checkpoint, None, {}),
        (checkpoint, unlabelled, {"temperature": 2.0}),
    ):
        with pytest.raises(CheckpointError, match="belongs to another run"):
            taught(data, tmp_path, teacher, unlabelled=frames, config=replace(config, **changes))


def test_card_tells_the_teacher_and_the_frames(
    data: Path, checkpoint: Path, unlabelled: Path, tmp_path: Path
) -> None:
    changes = {"temperature": 2.0, "teacher_weight": 0.5}
    config = replace(SHORT, crop=(32, 32), epochs=1, batch_size=16, **changes)
    training = taught(data, tmp_path, checkpoint, unlabelled=unlabelled, config=config).training
    assert training["teacher"]["name"] == "tiny.safetensors"
    assert len(training["teacher"]["sha256"]) == 64
    assert training["unlabelled"]["frames"] == 6
    assert (training["temperature"], training["teacher_weight"]) == (2.0, 0.5)
    alone = replace(config, temperature=1.0, teacher_weight=1.0)
    plain = train("mobile_unet", data, tmp_path / "plain", config=alone, size=(64, 64), width=8)
    assert not {"teacher", "unlabelled"} & set(plain.training)


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"temperature": 2.0}, "--temperature without --teacher"),
        ({"teacher_weight": 0.5}, "--teacher-weight without --teacher"),
        ({"unlabelled_share": 0.25}, "--unlabelled-share without --unlabelled"),
    ],
)
def test_options_of_a_teacher_need_one(
    changes: dict[str, float], option: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=option):
        train("mobile_unet", data, tmp_path / "run", config=replace(SHORT, **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("model", list_models())
def test_teacher_answers_for_every_head_of_every_variant(
    model: str,
    data: Path,
    checkpoint: Path,
    unlabelled: Path,
    tmp_path: Path,
    asked: dict[str, Answers],
) -> None:
    config = TrainConfig.for_model(model, crop=(64, 64), epochs=1, batch_size=16, amp=True)
    arguments = {"teacher": checkpoint, "unlabelled": unlabelled, "size": (96, 96)}
    width = TINY.get(model, {"width": 4})
    train(model, data, tmp_path, config=config, **arguments, **width)
    heads = len(
        Checkpoint.open(tmp_path / "best.safetensors").net.run(torch.zeros(1, 3, 64, 64))[0]
    )
    assert heads == {"unetpp": 4, "unet3p": 5}.get(model, 1)
    assert len(asked["distillation"]) == 2 * heads  # 16 images, 8 of them in a step
    assert {answer for _, answer in asked["distillation"]} == {torch.Size([16, 3, 64, 64])}
    assert "presence_distillation" not in asked


def test_gate_learns_from_a_gate(
    data: Path, calibrated: Path, tmp_path: Path, asked: dict[str, Answers]
) -> None:
    config = replace(SHORT, epochs=1, batch_size=16)
    taught(data, tmp_path / "gated", calibrated, cgm=True, config=config)
    assert asked["presence_distillation"] == [(torch.Size([16, 3, 2, 2]), torch.Size([16, 3]))]
    taught(data, tmp_path / "plain", calibrated, config=config)
    assert len(asked["presence_distillation"]) == 1


def test_net_without_padding_is_taught_where_it_has_logits(
    data: Path, checkpoint: Path, tmp_path: Path, asked: dict[str, Answers]
) -> None:
    config = TrainConfig.for_model("unet", crop=(36, 52), epochs=1, batch_size=16, amp=False)
    train(
        "unet", data, tmp_path, config=config, size=(112, 112), width=4, padding="valid",
        teacher=checkpoint,
    )  # fmt: skip
    assert asked["distillation"] == [(torch.Size([16, 3, 36, 52]), torch.Size([16, 3, 36, 52]))]


def test_pruned_net_learns_from_the_whole_one(
    data: Path, checkpoint: Path, unlabelled: Path, tmp_path: Path
) -> None:
    whole, small = Checkpoint.open(checkpoint), tmp_path / "small.safetensors"
    net = prune_channels(whole.net, open_dataset(data), ratio=0.5, spec=whole.card.input)
    save_checkpoint(small, net, replace(whole.card, structure=structure_of(net)))
    card = taught(
        data, tmp_path / "run", checkpoint,
        initial=small, unlabelled=unlabelled, width=8,
        config=replace(SHORT, epochs=1, batch_size=16),
    )  # fmt: skip
    assert card.structure == structure_of(net) != structure_of(whole.net)


def test_student_comes_to_agree_where_there_are_no_labels(
    data: Path, checkpoint: Path, unlabelled: Path, tmp_path: Path
) -> None:
    """The labels never show a negative; only the teacher tells what to answer there."""
    changes = {"epochs": 4, "validate_every": 4, "learning_rate": 1e-2, "teacher_weight": 5.0}
    config = replace(SHORT, crop=(32, 32), **changes)
    spec = InputSpec(64, 64)
    images = torch.cat([to_input(read_rgb(path), spec) for path in sorted(unlabelled.iterdir())])
    teacher = open_teacher(checkpoint, open_dataset(data), spec)
    wanted = teacher.answer(images).logits.argmax(1)
    agreement = []
    for name, frames in (("without", None), ("with", unlabelled)):
        taught(data, tmp_path / name, checkpoint, unlabelled=frames, config=config)
        student = open_teacher(tmp_path / name / "best.safetensors", open_dataset(data), spec)
        agreement.append((student.answer(images).logits.argmax(1) == wanted).float().mean().item())
    assert agreement[1] > agreement[0] + 0.1, agreement


def test_teacher_does_not_change(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    dataset, spec = open_dataset(data), InputSpec(64, 64)
    teacher = open_teacher(checkpoint, dataset, spec)
    images = torch.rand(2, 3, 64, 64)
    before = teacher.answer(images).logits
    trainer = Trainer(
        "mobile_unet", dataset, tmp_path, spec=spec, width=8, teacher=teacher,
        config=replace(SHORT, epochs=1, batch_size=16),
    )  # fmt: skip
    trainer.run()
    assert torch.equal(teacher.answer(images).logits, before)


def test_frames_need_a_teacher_and_room(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--unlabelled without --teacher.*Pass it, too"):
        taught(data, tmp_path, None, unlabelled=data)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--batch 1; expected room"):
        taught(data, tmp_path, checkpoint, unlabelled=data, config=replace(SHORT, batch_size=1))
    with pytest.raises(SourceError, match="none does not exist"):
        taught(data, tmp_path, checkpoint, unlabelled=tmp_path / "none")
    for changes in ({"temperature": 0}, {"teacher_weight": 0}, {"unlabelled_share": 1}):
        with pytest.raises(UsageError, match=f"{next(iter(changes))} is "):
            replace(SHORT, **changes)


@pytest.mark.parametrize(
    ("batch", "share", "wanted"), [(12, 0.5, 6), (4, 0.1, 1), (4, 0.99, 3), (2, 0.5, 1)]
)
def test_share_leaves_room_for_both(batch: int, share: float, wanted: int) -> None:
    config = replace(SHORT, batch_size=batch, unlabelled_share=share)
    assert config.unlabelled_crops == wanted
