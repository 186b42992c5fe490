"""A user's own function makes the net; what goes wrong in it is told with its line."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeunet.errors import ExportError, UsageError
from support.library_nets import opened, saved

SCRIPT = """
import torch
from torch import nn
from layers import head  # beside this file

def make_net(width=4, classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Dropout(), head(width, classes))

def broken():
    return nn.Conv2d(3, "two", 1)

def text():
    return "net"

def volumes():
    return nn.Conv3d(3, 2, 1)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "layers.py").write_text(
        "from torch import nn\ndef head(width, classes):\n    return nn.Conv2d(width, classes, 1)\n"
    )
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(autouse=True)
def _forget_layers() -> None:
    sys.modules.pop("layers", None)


def test_function_makes_the_net(script: Path) -> None:
    before = list(sys.path)
    origin = opened(f"{script}:make_net", None, "classes=2", classes=("road", "car"))
    assert origin.card.model == "mine.py:make_net"
    assert origin.card.classes == ("road", "car")
    assert f"ran the code of {script}" in origin.notes
    assert sys.path == before
    assert "mine" not in sys.modules


def test_weights_go_into_the_net_of_the_function(script: Path, tmp_path: Path) -> None:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Dropout(), torch.nn.Conv2d(4, 3, 1)
    ).eval()
    origin = opened(f"{script}:make_net", saved(net, tmp_path / "w.pth", "module."))
    image = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    with torch.inference_mode():
        assert np.array_equal(origin.infer(image).logits, net(torch.from_numpy(image)).numpy())
    assert origin.weights == "w"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("make_nett", "has no function 'make_nett'. Did you mean 'make_net'"),
        ("broken", "mine.py:broken fails in line 11: "),
        ("text", "mine.py:text returns str; expected a torch.nn.Module"),
    ],
)
def test_what_makes_no_net_is_refused(script: Path, function: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        opened(f"{script}:{function}", None)
    assert message in str(caught.value)


def test_net_that_fails_on_images_is_refused(script: Path) -> None:
    with pytest.raises(ExportError, match="volumes fails on an image of 64x96 with 3 channels"):
        opened(f"{script}:volumes", None)


def test_error_in_the_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("a = 1\nb = a / 0\n")
    with pytest.raises(UsageError, match=r"mine.py fails in line 2: ZeroDivisionError"):
        opened(f"{path}:make_net", None)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mine.py does not exist"):
        opened(f"{tmp_path / 'mine.py'}:make_net", None)
