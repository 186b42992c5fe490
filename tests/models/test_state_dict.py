"""State dicts: what is taken off around them, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import CheckpointError
from edgeunet.models.state_dict import load_weights, read_tensors, unwrap
from support.checkpoints import make_net, refusal, weights_of
from support.foreign import state

pytestmark = pytest.mark.usefixtures("no_gradients")


# Wrappings


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model", "net"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_training_code_saves_beside_the_weights_is_taken_off(name: str, prefix: str) -> None:
    tensors = state("tutorial")
    momentum = {"state": {0: {"step": torch.zeros(())}}, "param_groups": [{"lr": 0.1}]}
    content = {
        "epoch": 3,
        "optim": momentum,
        name: {prefix + key: tensor for key, tensor in tensors.items()},
    }
    found = unwrap(content)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())


def test_a_plain_state_dict_stays_as_it_is() -> None:
    tensors = state("milesial")
    assert unwrap(tensors) == tensors
    # One key under `module.` is a layer of that name, not DataParallel's prefix on all.
    named = {**tensors, "module.weight": torch.zeros(1)}
    assert unwrap(named) == named


# Weights that do not fit


def test_refused_weights_leave_the_net_as_it_was(saved: Path) -> None:
    net, before = make_net(seed=1), weights_of(make_net(seed=1))
    tensors = read_tensors(saved)
    tensors.popitem()
    with pytest.raises(CheckpointError, match="it lacks"):
        load_weights(net, tensors, source=str(saved))
    for name, tensor in weights_of(net).items():
        assert torch.equal(tensor, before[name]), name


# Files that are no weights


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.9999])
def test_truncated_weights_are_refused(saved: Path, suffix: str, share: float) -> None:
    path = saved.with_suffix(suffix)
    if suffix == ".pt":
        torch.save(make_net().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    message = refusal(path)
    assert f"{path} cannot be read as weights: " in message
    assert "Expected .safetensors, or a PyTorch state dict without any code in it" in message


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@given(content=st.binary(max_size=40))
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_noise_is_refused(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("noise") / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_tensors(path)


@pytest.mark.parametrize("content", [[torch.zeros(1)], torch.zeros(1), 3])
def test_file_of_pytorch_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "net.pt"
    torch.save(content, path)
    with pytest.raises(
        CheckpointError, match=rf"holds a {type(content).__name__}; expected a state"
    ):
        read_tensors(path)


# Code


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["torch", "old torch", "pickle"])
def test_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path, form: str) -> None:
    path, ran = tmp_path / "net.pt", tmp_path / "ran"
    content = {"weight": torch.zeros(1), "evil": Evil(ran)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(CheckpointError) as error:
        read_tensors(path)
    assert f"{path} cannot be read as weights" in str(error.value)
    assert "without any code in it" in str(error.value)
    assert not ran.exists()
    # The file is loaded: the trap was set.
    pickle.loads(pickle.dumps(content))
    assert ran.exists()


def test_whole_pickled_net_is_refused(tmp_path: Path) -> None:
    torch.save(make_net(), tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="without any code in it"):
        read_tensors(tmp_path / "net.pt")
