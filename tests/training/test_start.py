"""Training that starts from the weights of another net."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec
from edgeunet.catalogue import find_weights
from edgeunet.data.datasets import open_dataset
from edgeunet.data.palettes import default_palette
from edgeunet.errors import CheckpointError
from edgeunet.models import create_model
from edgeunet.models.checkpoints import Checkpoint, save_checkpoint
from edgeunet.models.depth import prune_depth
from edgeunet.models.structure import structure_of
from edgeunet.pruning.channels import prune_channels
from edgeunet.training.train import train
from support.originals import mobilenet_v2
from support.training import SHORT


def test_training_keeps_the_channels_of_a_pruned_net(data: Path, tmp_path: Path) -> None:
    once = replace(SHORT, epochs=1)
    card = train("unet", data, tmp_path / "whole", config=once, size=(64, 64), width=4)
    net = Checkpoint.open(tmp_path / "whole" / "best.safetensors").net
    pruned = prune_channels(net, open_dataset(data), ratio=0.5, spec=card.input)
    structure = structure_of(pruned)
    initial = tmp_path / "pruned.safetensors"
    save_checkpoint(initial, pruned, replace(card, structure=structure))
    run = tmp_path / "run"
    for _ in range(2):  # the second resumes the first
        tuned = train("unet", data, run, config=once, size=(64, 64), initial=initial, width=4)
        assert tuned.structure == structure
        assert structure_of(Checkpoint.open(run / "best.safetensors").net) == structure
    with pytest.raises(CheckpointError, match="belongs to another run"):
        train("unet", data, run, config=once, size=(64, 64), width=4)


def test_training_starts_from_a_depth_pruned_net(data: Path, tmp_path: Path) -> None:
    once = replace(SHORT, epochs=1, learning_rate=1e-9)
    whole = train("unetpp", data, tmp_path / "whole", config=once, size=(64, 64), width=4)
    net = Checkpoint.open(tmp_path / "whole" / "best.safetensors").net
    pruned, card = prune_depth(net, whole, depth=2)
    initial = tmp_path / "pruned.safetensors"
    save_checkpoint(initial, pruned, card)
    tuned = train("unetpp", data, tmp_path / "run", config=once, size=(64, 64), initial=initial)
    assert tuned.arguments == card.arguments
    assert tuned.training["initial"]["pruned"] == [{"depth": 2, "of": 4}]


def test_heads_of_as_many_other_classes_are_fresh(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    once = replace(SHORT, epochs=1, learning_rate=1e-9)
    opened = Checkpoint.open("cells", "unet")
    turned = (*opened.card.classes[1:], opened.card.classes[0])
    initial = tmp_path / "turned.safetensors"
    save_checkpoint(initial, opened.net, replace(opened.card, classes=turned))
    for start, kept in (("cells", True), (initial, False)):
        run = tmp_path / str(kept)
        train("unet", data, run, config=once, size=(64, 64), initial=start)
        head = Checkpoint.open(run / "best.safetensors").net.state_dict()["head.weight"]
        before = opened.net.state_dict()["head.weight"]
        assert torch.allclose(head, before, rtol=1e-3, atol=1e-4) is kept
    told = "turned.safetensors has the classes cell, dividing, background, and the data set has"
    assert caplog.text.count(told) == 1 and caplog.text.count("heads start anew") == 1


def test_training_starts_from_a_net_with_other_classes(data: Path, tmp_path: Path) -> None:
    """Body and input come from the checkpoint; layers that output classes are fresh."""
    once = replace(SHORT, epochs=1, learning_rate=1e-9)
    spec = InputSpec(32, 32, channels=("gray",), resize="pad", mean=(0.5,), std=(0.25,))
    arguments = {"num_classes": 5, "in_channels": 1, "width": 4}
    net = create_model("unet", **arguments)
    card = Card("unet", arguments, tuple("abcde"), default_palette(5), spec, "letters")
    initial = tmp_path / "initial.safetensors"
    save_checkpoint(initial, net, card)
    run = tmp_path / "run"
    tuned = train("unet", data, run, config=once, size=(64, 64), initial=initial, cgm=True)
    assert tuned.arguments == {"num_classes": 3, "in_channels": 1, "width": 4, "cgm": True}
    assert tuned.input == replace(spec, height=64, width=64)
    found = Checkpoint.open(run / "best.safetensors").net
    body = [name for name in net.state_dict() if name.endswith("0.weight") and "head" not in name]
    assert len(body) == 18
    for name in body:
        kept = net.state_dict()[name]
        torch.testing.assert_close(found.state_dict()[name], kept, rtol=1e-3, atol=1e-4)


def test_pruned_net_trains_on_other_classes(data: Path, tmp_path: Path) -> None:
    once = replace(SHORT, epochs=1, learning_rate=1e-9)
    net = prune_channels(
        create_model("unet", num_classes=3, width=4),
        open_dataset(data),
        ratio=0.5,
        spec=InputSpec(64, 64),
    )
    net.head = torch.nn.Conv2d(net.head.in_channels, 5, 1)
    card = Card(
        "unet",
        {"num_classes": 5, "width": 4},
        tuple("abcde"),
        default_palette(5),
        InputSpec(64, 64),
        "letters",
        structure=structure_of(net),
    )
    initial = tmp_path / "initial.safetensors"
    save_checkpoint(initial, net, card)
    tuned = train("unet", data, tmp_path / "run", config=once, size=(64, 64), initial=initial)
    kept = structure_of(net)
    assert tuned.structure == {**kept, "head": (kept["head"][0], 3)}


def test_refuses_weights_of_another_variant(data: Path, tmp_path: Path) -> None:
    initial = find_weights("unet", "cells")
    with pytest.raises(CheckpointError, match=r"is a checkpoint of unet; unetpp was asked for"):
        train("unetpp", data, tmp_path, config=SHORT, initial=initial)


def test_training_starts_from_a_classifiers_encoder(data: Path, tmp_path: Path) -> None:
    classifier = mobilenet_v2()
    torch.save(classifier.state_dict(), tmp_path / "mobilenet_v2.pth")
    config = replace(SHORT, epochs=1, learning_rate=1e-9)
    card = train(
        "mobile_unet",
        data,
        tmp_path / "run",
        config=config,
        size=(64, 64),
        encoder_weights=tmp_path / "mobilenet_v2.pth",
    )
    assert card.training["initial"] == {
        "encoder": "mobilenet_v2.pth",
        "source": "torchvision's mobilenet_v2",
        "licence": "BSD-3-Clause",
    }
    net = Checkpoint.open(tmp_path / "run" / "best.safetensors").net
    found = net.get_submodule("encoder.stem.0").weight
    torch.testing.assert_close(found, classifier.features[0][0].weight, rtol=1e-3, atol=1e-4)


def test_other_decoder_starts_anew_on_the_same_encoder(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    once = replace(SHORT, epochs=1, learning_rate=1e-9)
    full, light = tmp_path / "full", tmp_path / "light"
    train("mobile_unet", data, full, config=once, size=(64, 64), width=8)
    trained = full / "best.safetensors"
    card = train(
        "mobile_unet", data, light, config=once, size=(64, 64), initial=trained, decoder="light"
    )
    assert card.arguments == {"num_classes": 3, "in_channels": 3, "width": 8, "decoder": "light"}
    before = Checkpoint.open(trained).net.get_submodule("encoder").state_dict()
    after = Checkpoint.open(light / "best.safetensors").net.get_submodule("encoder").state_dict()
    assert len(before) > len(after) > 200, "light lacks the last stage"
    for name, tensor in after.items():
        if name.endswith("weight"):
            torch.testing.assert_close(tensor, before[name], rtol=1e-3, atol=1e-4)
    assert caplog.text.count("all but the encoder starts anew: ") == 1
    assert "heads start anew" not in caplog.text
    back = tmp_path / "back"
    train(
        "mobile_unet",
        data,
        back,
        config=once,
        size=(64, 64),
        initial=light,
        decoder="full",
        cgm=True,
    )
    found = Checkpoint.open(back).net.get_submodule("encoder").state_dict()
    assert found.keys() == before.keys(), "with a fresh last stage"
    torch.testing.assert_close(
        found["stem.0.weight"], before["stem.0.weight"], rtol=2e-3, atol=2e-4
    )


def test_other_decoder_does_not_excuse_another_encoder(data: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    once = replace(SHORT, epochs=1)
    train("mobile_unet", data, full, config=once, size=(64, 64), width=8)
    with pytest.raises(CheckpointError, match=r"does not fit MobileUNet .* encoder\.stem\.0"):
        train(
            "mobile_unet",
            data,
            tmp_path / "light",
            config=once,
            size=(64, 64),
            initial=full / "best.safetensors",
            width=16,
            decoder="light",
        )
