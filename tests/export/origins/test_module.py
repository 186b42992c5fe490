"""Any module becomes a bundle, or is refused with what came, what was expected, what to do."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgeunet
from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import (
    EdgeUNetError,
    ExportError,
    OutputExistsError,
    ParityError,
    ShapeError,
    UsageError,
)
from edgeunet.exporting.origins.module import open_module
from edgeunet.runtime.segmenter import load

SIZE = (32, 48)
CLASSES = ("road", "car", "sky")


class Net(nn.Module):
    """Logits of three classes at half the size, and what a test makes of them."""

    def __init__(
        self, then: Callable[[Tensor], Any] = lambda logits: logits, *, channels: int = 3
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, channels, 3, 2, 1),
        )
        self.then = then
        self.eval()

    def forward(self, image: Tensor) -> Any:
        return self.then(self.layers(image))


def written(net: nn.Module, path: Path, **arguments: Any) -> edgeunet.Segmenter:
    arguments = {"size": SIZE, "classes": CLASSES, **arguments}
    report = edgeunet.export(net, path, **arguments)
    assert report.first_failure is None, report.table()
    assert report.reference == "PyTorch"
    return load(path, backend="onnxruntime")


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda logits: logits,
    "tuple": lambda logits: (logits, logits.mean()),
    "list of lists": lambda logits: [[logits, -logits], -logits],
    "dict with out": lambda logits: OrderedDict(aux=-logits, out=logits),
    "dict with one map": lambda logits: {"loss": logits.mean(), "mask": logits},
    "object with logits": lambda logits: SimpleNamespace(loss=None, logits=logits),
}


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_found_in_what_the_net_returns(form: str, tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    with (
        written(Net(), tmp_path / "plain") as plain,
        written(Net(FORMS[form]), tmp_path / "b") as net,
    ):
        assert np.array_equal(plain([frame]).masks[0], net([frame]).masks[0])
    manifest = open_bundle(tmp_path / "b").manifest
    assert (manifest.model, manifest.classes, manifest.logits_size) == ("Net", CLASSES, (16, 24))
    assert (manifest.reference, manifest.origin) == ("graph", "PyTorch")


def test_another_output_can_be_named(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    two = Net(lambda logits: {"out": -logits, "seg": logits})
    with (
        written(Net(), tmp_path / "plain") as plain,
        written(two, tmp_path / "b", output="seg") as net,
    ):
        assert np.array_equal(plain([frame]).masks[0], net([frame]).masks[0])


def test_classes_have_numbers_without_names(tmp_path: Path) -> None:
    edgeunet.export(Net(), tmp_path / "b", size=SIZE)
    assert open_bundle(tmp_path / "b").manifest.classes == ("class 0", "class 1", "class 2")


def test_input_says_how_frames_are_prepared(tmp_path: Path) -> None:
    spec = InputSpec(*SIZE, channels=("blue", "green", "red"), mean=(0.5,) * 3, std=(0.5,) * 3)
    edgeunet.export(Net(), tmp_path / "b", input=spec, classes=CLASSES)
    assert open_bundle(tmp_path / "b").manifest.input == spec
    with pytest.raises(UsageError, match="got size 64x64 and an input of 32x48"):
        edgeunet.export(Net(), tmp_path / "c", input=spec, size=(64, 64))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"arch": ("width=8",)}, "got arch, and a module at hand takes calib_method, calib_table"),
        ({"depth": 2}, "got depth, and a module"),
        ({"layout": "voc"}, "got --layout voc without a data set"),
        ({"calib_table": "table.json"}, "got --calib-table without --int8"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    arguments: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=told):
        edgeunet.export(Net(), tmp_path / "b", size=SIZE, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_net_in_half_precision_is_exported_in_full(tmp_path: Path) -> None:
    net = Net().half()
    with written(net, tmp_path / "b"):
        assert {each.dtype for each in net.parameters()} == {torch.float16}


def test_opening_runs_a_net_twice_copies_it_once_and_does_not_trace_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches: list[int] = []
    copies: list[object] = []
    deepcopy = copy.deepcopy

    def copied(each: Any, *memo: Any) -> Any:
        if isinstance(each, Net):
            copies.append(each)
        return deepcopy(each, *memo)

    def counted(logits: Tensor) -> Tensor:
        batches.append(len(logits))
        return logits

    monkeypatch.setattr("edgeunet.exporting.origins.module.copy.deepcopy", copied)
    monkeypatch.setattr("edgeunet.exporting.origins.module.trace", None)
    net = Net(counted).half()
    origin = open_module(net, size=SIZE, classes=CLASSES, spec=None, output=None)
    assert origin.card.classes == CLASSES
    assert (batches, copies) == ([1, 2], [net])


def test_a_net_that_cannot_be_traced_is_refused_before_frames_are_read(tmp_path: Path) -> None:
    message = refused(Branching().eval(), ExportError, tmp_path, calib=tmp_path / "none")
    assert "cannot trace the net" in message


class Multiple(nn.Module):
    """Takes multiples of 16 alone, as a U-Net with four levels does."""

    def forward(self, image: Tensor) -> Tensor:
        small = nn.functional.avg_pool2d(image, 16)
        return image + nn.functional.interpolate(small, scale_factor=16)


class Forgotten(nn.Module):
    """One layer was left in training mode."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.net, self.layer = Net(), layer
        self.eval()
        self.layer.train()

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(self.net(image))  # type: ignore[no-any-return]


class Changing(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.dropout(image, training=True)


class Detached(nn.Module):
    """The graph loses sight of the image."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.from_numpy(image.numpy() * 1)


class Undecided(nn.Module):
    """The trace keeps one of two branches."""

    def forward(self, image: Tensor) -> Tensor:
        return image if image.amax() > 1 else image.flip(1)


class OverBatch(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image - image.mean()


class Branching(nn.Module):
    """What the exporter cannot trace."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.fft.fft2(image).real


def refused(net: Any, error: type[EdgeUNetError], path: Path, **arguments: Any) -> str:
    with pytest.raises(error) as caught:
        edgeunet.export(net, path / "b", **{"size": SIZE, **arguments})
    assert list(path.iterdir()) == []
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.mark.parametrize(
    ("net", "error", "message"),
    [
        (Net().train(), UsageError, "Net is in training mode"),
        (Forgotten(nn.Dropout()), UsageError, "Forgotten.layer is in training mode"),
        (Forgotten(nn.BatchNorm2d(3)), UsageError, "Forgotten.layer is in training mode"),
        (Changing().eval(), UsageError, "differently each time: is dropout left on?"),
        (OverBatch().eval(), UsageError, "differently in a batch of two"),
        (Branching().eval(), ExportError, "torch.onnx.export cannot trace the net: "),
        (Detached().eval(), ExportError, "does not depend on the image. Keep NumPy"),
        (Undecided().eval(), ParityError, "does its code branch on the values of an image"),
        (Net(lambda logits: None), UsageError, "the net returns NoneType; expected logits"),
        (Net(lambda logits: logits / 0), UsageError, "logits that are not finite"),
        ("unet.pth", UsageError, "got str; expected a torch.nn.Module"),
        (
            torch.jit.trace(nn.Conv2d(3, 2, 1).eval(), torch.zeros(1, 3, *SIZE)),
            UsageError,
            "which is TorchScript; expected the torch.nn.Module that it was made of",
        ),
    ],
)
def test_what_is_no_net_is_refused(
    net: Any, error: type[EdgeUNetError], message: str, tmp_path: Path
) -> None:
    assert message in refused(net, error, tmp_path)


def test_a_size_that_fits_is_named(tmp_path: Path) -> None:
    message = refused(Multiple().eval(), ShapeError, tmp_path, size=(40, 50))
    assert "Multiple does not take 40x50: " in message
    assert "It takes 48x64." in message


def test_a_net_that_takes_no_size_is_refused(tmp_path: Path) -> None:
    net = nn.Conv2d(4, 2, 1).eval()
    message = refused(net, ExportError, tmp_path)
    assert "Conv2d fails on an image of 32x48 with 3 channels" in message
    assert message.endswith("It takes 4: pass input=InputSpec(…).")
    assert ".." not in message


def test_names_that_do_not_fit_the_channels_are_refused(tmp_path: Path) -> None:
    message = refused(Net(), UsageError, tmp_path, classes=["road", "car"])
    assert "Net has 3 classes, got 2 names: road, car" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": "abc"}, "got classes='abc'; expected a list"),
        ({"classes": ["car", "car", "sky"]}, "classes has 'car' twice"),
        *(
            ({"size": size}, f"got size={size!r}; expected two positive numbers")
            for size in (48, "48x64", (3, 32, 48), (0, 32), (32.5, 48))
        ),
        ({"precision": "INT8"}, "unknown precision 'INT8'. Known: fp16, fp32, int8."),
        ({"max_batch": 0}, "max_batch is 0; expected at least 1"),
    ],
)
def test_arguments_that_say_nothing_are_refused(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert message in refused(Net(), UsageError, tmp_path, **arguments)


def test_what_compiles_or_spreads_a_net_is_taken_off(tmp_path: Path) -> None:
    net = nn.DataParallel(torch.compile(Net()))  # type: ignore[arg-type]
    edgeunet.export(net, tmp_path / "b", size=SIZE)
    assert open_bundle(tmp_path / "b").manifest.model == "Net"


def test_an_existing_bundle_is_kept_unless_forced(tmp_path: Path) -> None:
    edgeunet.export(Net(), tmp_path / "b", size=SIZE)
    with pytest.raises(OutputExistsError):
        edgeunet.export(Net(), tmp_path / "b", size=SIZE)
    edgeunet.export(Net(), tmp_path / "b", size=SIZE, force=True)


def test_size_is_needed(tmp_path: Path) -> None:
    assert "Pass size=(height, width)" in refused(Net(), UsageError, tmp_path, size=None)


PROBABILITIES: dict[str, Callable[[Tensor], Any]] = {
    "softmax": lambda logits: logits.softmax(1),
    "log_softmax": lambda logits: logits.log_softmax(1),
    "sigmoid": lambda logits: logits.sigmoid(),
    "softmax in a dict": lambda logits: {"out": logits.softmax(1)},
}


@pytest.mark.parametrize("form", PROBABILITIES)
def test_probabilities_are_cut_off(form: str, tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    told: list[str] = []
    with (
        written(Net(), tmp_path / "plain") as plain,
        written(Net(PROBABILITIES[form]), tmp_path / "b", report=told.append) as net,
    ):
        assert np.array_equal(plain([frame]).masks[0], net([frame]).masks[0])
    assert any(line.startswith("cut off behind the logits: ") for line in told)


@pytest.mark.parametrize("then", [lambda logit: logit, torch.sigmoid], ids=["logit", "sigmoid"])
def test_one_channel_becomes_two_classes(then: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    net = Net(then, channels=1)
    spec = InputSpec(*SIZE, mean=(0.0,) * 3, std=(1.0,) * 3)
    frame = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    image = torch.from_numpy(frame).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        logit = net.layers(image)
        wanted = nn.functional.interpolate(logit, size=SIZE, mode="bilinear")[0, 0].numpy() > 0
    with written(net, tmp_path / "b", size=None, input=spec, classes=["road"]) as segmenter:
        assert segmenter.manifest.classes == ("background", "road")
        assert np.mean((segmenter([frame]).masks[0] == 1) == wanted) > 0.999
    assert 0.05 < wanted.mean() < 0.95


class Static(nn.Module):
    """Its view holds for one image only."""

    def forward(self, image: Tensor) -> Tensor:
        return image.reshape(image.shape[0], 3, -1).reshape(1, 3, *SIZE) * image.mean()


def test_a_graph_that_mixes_images_is_refused(tmp_path: Path) -> None:
    refused(Static().eval(), EdgeUNetError, tmp_path)
