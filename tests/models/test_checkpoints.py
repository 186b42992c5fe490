"""Checkpoints and cards: round trips, what does not fit, and what would run code."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeunet.catalogue import WEIGHTS_DIR
from edgeunet.errors import CheckpointError
from edgeunet.models.checkpoints import (
    Checkpoint,
    has_card,
    read_card,
    save_checkpoint,
)
from edgeunet.models.state_dict import load_weights
from edgeunet.models.structure import structure_of
from support.checkpoints import make_card, make_net, read, refusal, weights_of


def edit_card(path: Path, **changes: Any) -> None:
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


# Round trips


@pytest.mark.parametrize(
    ("model", "arguments"), [("mobile_unet", {"cgm": True}), ("unetpp", {"width": 4, "depth": 2})]
)
def test_fp32_round_trip_is_exact(tmp_path: Path, model: str, arguments: Any) -> None:
    net, card = make_net(model, **arguments), make_card(model, **arguments)
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, net, card)
    opened = Checkpoint.open(path)
    loaded, loaded_card = opened.net, opened.card
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["net.json", "net.safetensors"]
    assert loaded_card == card == read_card(path)
    assert type(loaded) is type(net)
    assert not loaded.training
    assert weights_of(loaded).keys() == weights_of(net).keys()
    for name, tensor in weights_of(loaded).items():
        assert torch.equal(tensor, weights_of(net)[name]), name


@pytest.mark.parametrize("model", [None, "mobile_unet"])
def test_directory_of_a_training_run_is_its_net(tmp_path: Path, model: str | None) -> None:
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, make_net(), make_card())
    for weights in (tmp_path, str(tmp_path)):
        assert has_card(weights, model)
        assert Checkpoint.open(weights, model).path == path


def test_half_round_trip_is_the_rounding_to_fp16(tmp_path: Path) -> None:
    net, path = make_net(), tmp_path / "net.safetensors"
    save_checkpoint(path, net, make_card(), half=True)
    assert {tensor.dtype for tensor in read(path).values()} == {torch.float16}
    loaded = Checkpoint.open(path).net
    changed = False
    for name, tensor in weights_of(loaded).items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, weights_of(net)[name].half().float()), name
        changed |= not torch.equal(tensor, weights_of(net)[name])
    assert changed
    assert next(net.parameters()).dtype == torch.float32  # saving leaves the net as it is


def test_plain_state_dict_of_pytorch_loads(tmp_path: Path) -> None:
    net, other = make_net(seed=0), make_net(seed=1)
    path = tmp_path / "net.pt"
    torch.save(net.state_dict(), path)  # with the counters
    load_weights(other, read(path), source=str(path))
    for name, tensor in weights_of(other).items():
        assert torch.equal(tensor, weights_of(net)[name]), name


def test_state_dict_of_pytorch_loads_with_a_card(saved: Path) -> None:
    torch.save(read(saved), saved.with_suffix(".pt"))
    opened = Checkpoint.open(saved.with_suffix(".pt"))
    loaded, card = opened.net, opened.card
    wanted = weights_of(make_net())
    assert card == make_card()
    for name, tensor in weights_of(loaded).items():
        assert torch.equal(tensor, wanted[name]), name


# Cards


def test_missing_card_is_named(saved: Path) -> None:
    saved.with_suffix(".json").unlink()
    message = refusal(saved)
    assert f"{saved} has no card net.json beside it" in message
    assert "`edgeunet train` writes one" in message


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"{}"])
def test_card_that_is_no_card_is_refused(saved: Path, content: bytes) -> None:
    saved.with_suffix(".json").write_bytes(content)
    assert f"{saved.with_suffix('.json')} is not a card: " in refusal(saved)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"card_version": 1}, "card_version is 1; expected 2"),
        ({"card_version": 0}, "card_version is 0; expected 2"),
        ({"card_version": "1"}, "$.card_version: expected int, got '1'"),
        ({"classes": ["a", "b"]}, "2 classes, but 3 colours"),
        ({"palette": [[0, 0, 0], [1, 1], [2, 2, 2]]}, "$.palette[1]: expected 3 entries, got 2"),
        ({"input": {"height": 64}}, "$.input lacks 'width'"),
        ({"input": {"height": 64, "width": True}}, "$.input.width: expected int, got True"),
        ({"arguments": []}, "$.arguments: expected an object, got list"),
        ({"model": 3}, "$.model: expected str, got 3"),
        ({"author": "me"}, "$ has unknown key 'author'"),
    ],
)
def test_damaged_card_is_refused_by_path(saved: Path, changes: Any, words: str) -> None:
    edit_card(saved, **changes)
    message = refusal(saved)
    assert f"{saved.with_suffix('.json')} is not a card: $" in message
    assert words in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"width": 8}, "num_classes"),  # missing
        ({"num_classes": "3", "width": 8}, "num_classes"),
        ({"num_classes": 3, "width": 8, "name": "unet"}, "name"),
    ],
)
def test_card_with_arguments_that_no_net_takes_is_refused(
    saved: Path, arguments: Any, words: str
) -> None:
    edit_card(saved, arguments=arguments)
    message = refusal(saved)
    assert str(saved.with_suffix(".json")) in message
    assert words in message


def test_card_with_other_classes_than_the_net_is_refused(saved: Path) -> None:
    edit_card(saved, classes=["a", "b"], palette=[[0, 0, 0], [1, 1, 1]])
    message = refusal(saved)
    assert "2 classes" in message
    assert "3" in message


# Cards that ask for too much


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Fails if the process grows by a gigabyte."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": {"num_classes": 10**9, "width": 8}},
        {"arguments": {"num_classes": 3, "width": 10**5}},
        {"arguments": {"num_classes": 3, "width": 10**18}},
        {"arguments": {"num_classes": 3, "width": 8, "in_channels": 10**9}},
        {"arguments": {"num_classes": 3, "width": 8, "in_channels": 10**40}},
        {"arguments": {"num_classes": 3, "width": [[8]]}},
        {"classes": ["x"] * 10**5, "palette": [[0, 0, 0]] * 10**5},
        {"input": {"height": 32768, "width": 32768}},
        {"structure": {"head": [10**9, 3]}},
    ],
)
def test_card_that_asks_for_too_much_is_refused(saved: Path, changes: Any) -> None:
    edit_card(saved, **changes)
    started = time.perf_counter()
    assert "net." in refusal(saved)
    assert time.perf_counter() - started < 20


@pytest.mark.usefixtures("little_memory")
def test_structure_that_asks_for_too_much_is_refused(saved: Path) -> None:
    structure = {name: list(pair) for name, pair in structure_of(make_net()).items()}
    (last,) = list(structure)[-1:]
    edit_card(saved, structure={**structure, last: [10**9, 10**3]})
    assert "net.safetensors does not fit MobileUNet" in refusal(saved)


def test_card_that_is_no_regular_file_is_refused(saved: Path) -> None:
    card = saved.with_suffix(".json")
    card.unlink()
    card.symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="is not a card: cannot be read as JSON: it is a dev"):
        read_card(saved)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("with_card", [True, False])
def test_tensor_that_repeats_one_number_is_refused(saved: Path, with_card: bool) -> None:
    """It has any size, and the file hardly any."""
    path = saved.with_suffix(".pt")
    tensors = read(saved)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 4)
    torch.save({**tensors, name: torch.zeros(1).expand(10**6, 10**4, 1, 1)}, path)
    assert path.stat().st_size < 10**6
    if not with_card:
        saved.with_suffix(".json").unlink()
    with pytest.raises(CheckpointError, match=f"damaged: {name} claims"):
        Checkpoint.open(path, "mobile_unet", size=(64, 96))


# Weights that do not fit


def test_checkpoint_of_another_class_count_names_keys_and_shapes(saved: Path) -> None:
    net = make_net(num_classes=5)
    tensors = read(saved)
    differing = {
        name: (tuple(tensors[name].shape), tuple(tensor.shape))
        for name, tensor in weights_of(net).items()
        if tensors[name].shape != tensor.shape
    }
    assert differing
    with pytest.raises(CheckpointError) as error:
        load_weights(net, tensors, source="net.safetensors")
    message = str(error.value)
    assert "net.safetensors does not fit MobileUNet with 5 classes: it differs in" in message
    for name, (given_shape, wanted) in differing.items():
        assert f"{name} {given_shape} instead of {wanted}" in message


def test_checkpoint_of_another_net_names_missing_and_unknown_keys(saved: Path) -> None:
    net = make_net("unet", width=4)
    tensors = read(saved)
    lacking = sorted(set(weights_of(net)) - set(tensors))
    unknown = sorted(set(tensors) - set(weights_of(net)))
    with pytest.raises(CheckpointError) as error:
        load_weights(net, tensors, source=str(saved))
    message = str(error.value)
    assert f"{saved} does not fit UNet with 3 classes" in message
    assert f"it lacks {', '.join(lacking[:4])} and {len(lacking) - 4} more;" in message
    assert f"it has unknown {', '.join(unknown[:4])} and {len(unknown) - 4} more" in message


# Files that are no weights


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_missing_weights_are_named(saved: Path, suffix: str) -> None:
    saved.unlink()
    assert refusal(saved.with_suffix(suffix)) == f"{saved.with_suffix(suffix)} does not exist."


# Those of the package


def test_weights_of_the_package_load() -> None:
    paths = sorted(WEIGHTS_DIR.glob("*.safetensors"))
    if not paths:
        pytest.skip("no weights in this checkout")
    for path in paths:
        opened = Checkpoint.open(path)
        net, card = opened.net, opened.card
        assert path.name.startswith(f"{card.model}.")
        assert net.num_classes == len(card.classes)
