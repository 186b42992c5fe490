"""A small bundle with random weights, made once; data sets where they stand."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import settings

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import CLASSES, PALETTE, CellFrame, Scene, snapshots, time_lapse
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.files import sha256
from edgeunet.gate.calibrate import calibrate_gate
from edgeunet.metrics import class_pixels
from edgeunet.models import create_model
from edgeunet.models.checkpoints import Checkpoint, save_checkpoint
from edgeunet.models.reference import to_input
from edgeunet.training.losses import Target, cross_entropy_dice, gate_loss
from support.engine_fixtures import (
    cache_folder,  # noqa: F401 - fixtures
    configured,  # noqa: F401 - fixtures
    dla,  # noqa: F401 - fixtures
    install,  # noqa: F401 - fixtures
    trt,  # noqa: F401 - fixtures
)
from support.exports import make_bundle, need_simulator
from support.hard import rescale
from support.made import Made
from support.media import write_png
from support.tensorrt_machine import stand_ins

settings.register_profile("edgeunet", deadline=None, max_examples=25)
settings.load_profile("edgeunet")

SHARED = Path(os.environ.get("EDGEUNET_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_collectstart() -> None:
    """Nothing that is made while tests are collected is garbage."""
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes minutes first: at the end, one worker would wait for another's."""
    items.sort(key=_seconds, reverse=True)


def pytest_collection_finish() -> None:
    """Leave out of each garbage collection what stays: a million objects of tests and libraries."""
    gc.freeze()
    gc.enable()


def _seconds(item: pytest.Item) -> float:
    mark = item.get_closest_marker("slow")
    return 0.0 if mark is None else float(mark.kwargs.get("seconds", 0))


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session", autouse=True)
def _one_thread_beside_other_workers() -> Iterator[None]:
    """Workers share the cores: threads of ONNX Runtime spin while they wait for each other."""
    created = onnxruntime.InferenceSession.__init__

    def create(
        session: onnxruntime.InferenceSession,
        graph: str | bytes | os.PathLike[str],
        sess_options: onnxruntime.SessionOptions | None = None,
        *more: Any,
        **named: Any,
    ) -> None:
        options = sess_options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.intra_op_num_threads or 1
        created(session, graph, options, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        if "PYTEST_XDIST_WORKER" in os.environ:
            patch.setattr(onnxruntime.InferenceSession, "__init__", create)
        yield


@pytest.fixture(scope="session", autouse=True)
def _verified_on_few_frames() -> Iterator[None]:
    """Exports of procedural weights are verified on the first 8 of their 24 labelled frames.

    They hold all classes. Tests export some hundred bundles.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeunet.exporting.proof.FRAMES", 8)
        yield


@pytest.fixture(scope="session", autouse=True)
def _signals_as_from_a_terminal() -> None:
    """In the background of a script SIGINT is ignored, and under `nohup` SIGHUP, here and below."""
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(scope="session", autouse=True)
def _own_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Engines are signed with a key of the tests, not with the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What `auto` runs depends on no clock, and nothing is kept in the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEUNET_MEASURE", "0")
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_gpu_to_tell_of() -> Iterator[None]:
    """A machine that has one would log so, where tests want nothing logged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeunet.runtime.backends.fallback.has_gpu", lambda: False)
        yield


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    """A net that a test makes has the same weights in each run, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="module", autouse=True)
def _no_stand_in_stays() -> Iterator[None]:
    yield
    assert stand_ins() == [], "later tests would run on it"


@cache
def drawn_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Net inputs (64, 3, 64, 96) and class ids (64, 64, 96) of procedural frames."""
    frames = list(snapshots(64, height=64, width=96, seed=0))
    images = torch.cat([to_input(frame.image, InputSpec(64, 96)) for frame in frames])
    return images, torch.stack([torch.from_numpy(frame.mask).long() for frame in frames])


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, so that a net has the same bits however many threads tests may use."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def train_tiny(path: Path, model: str, *, steps: int, **arguments: Any) -> Path:
    """Checkpoint of a small net, three classes, input 64x96, trained for seconds.

    Random weights decide nothing: whatever rounds flips their masks.
    """
    torch.manual_seed(0)
    arguments = {"num_classes": 3, "in_channels": 3, **arguments}
    net = create_model(model, **arguments).train()
    images, masks = drawn_batch()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for step in range(steps):
        batch = torch.arange(step * 8, step * 8 + 8) % len(images)
        optimizer.zero_grad()
        cross_entropy_dice(net.run(images[batch]).heads[0], Target(masks[batch])).backward()
        optimizer.step()
        schedule.step()
    card = Card(
        model=model,
        arguments=arguments,
        classes=CLASSES,
        palette=PALETTE,
        input=InputSpec(64, 96),
        data="cells",
    )
    save_checkpoint(path, net, card)
    return path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Makes what several workers use."""
    return Made(tmp_path_factory)


@pytest.fixture(scope="session")
def checkpoint(made: Made) -> Path:
    """A tiny Mobile U-Net, see `train_tiny`."""

    def make(folder: Path) -> None:
        train_tiny(folder / "tiny.safetensors", "mobile_unet", steps=150, width=8)

    return made("checkpoint", make) / "tiny.safetensors"


@pytest.fixture(scope="session")
def shallow(made: Made) -> Path:
    """A U-Net++ of depth 1: few layers, for what is done with each of them, or often."""

    def make(folder: Path) -> None:
        train_tiny(folder / "shallow.safetensors", "unetpp", steps=40, width=8, depth=1)

    return made("shallow", make) / "shallow.safetensors"


@pytest.fixture(scope="session")
def hard(shallow: Path, made: Made) -> Path:
    """The same net with channels that differ in size: what `equalise` undoes."""

    def make(folder: Path) -> None:
        opened = Checkpoint.open(shallow)
        rescale(opened.net, spread=5.0)
        save_checkpoint(folder / "hard.safetensors", opened.net, opened.card)

    return made("hard", make) / "hard.safetensors"


@pytest.fixture(scope="session")
def fp32_bundle(checkpoint: Path, made: Made) -> Path:
    """The tiny net as an FP32 bundle. Do not change it: copy it."""
    return made("fp32", partial(make_bundle, checkpoint, precision="fp32")) / "tiny-fp32"


@pytest.fixture(scope="session")
def int8_bundle(checkpoint: Path, made: Made) -> Path:
    """The tiny net as an INT8 bundle, which holds all graphs. Do not change it: copy it."""
    return made("int8", partial(make_bundle, checkpoint, precision="int8")) / "tiny-int8"


@pytest.fixture(scope="session")
def depths_checkpoint(made: Made) -> Path:
    """A U-Net++ of depth 3 with a head at each depth, of which the deepest was trained."""

    def make(folder: Path) -> None:
        train_tiny(folder / "nested.safetensors", "unetpp", steps=40, width=4, depth=3)

    return made("nested", make) / "nested.safetensors"


@pytest.fixture(scope="session")
def depths_bundle(depths_checkpoint: Path, made: Made) -> Path:
    """The nested net at depths 1, 2 and 3, in FP32. Do not change it: copy it."""
    options = ExportOptions("unetpp", str(depths_checkpoint), depths=(1, 2, 3))

    def make(folder: Path) -> None:
        export_bundle(folder / "bundle", options)

    return made("depths", make) / "bundle"


@pytest.fixture(scope="session")
def cells_bundle(made: Made) -> Path:
    """What `edgeunet export --model mobile_unet --int8` writes. Do not change it: copy it."""
    need_simulator()

    def make(folder: Path) -> None:
        export_bundle(folder / "mobile_unet-int8", ExportOptions("mobile_unet", precision="int8"))

    return made("cells", make) / "mobile_unet-int8"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of the real data sets; skips where it does not stand."""
    if not SHARED.is_dir():
        pytest.skip(f"no data sets in {SHARED}; set EDGEUNET_DATA to the folder that holds them")
    return SHARED


@pytest.fixture(scope="session")
def camvid(data_folder: Path) -> Path:
    """CamVid."""
    return data_folder / "camvid"


def film(*, seed: int, frames: int) -> list[CellFrame]:
    """Time-lapse that spends a good part of every 40 frames on medium without any cell."""
    scene = Scene(64, 96, cells=6, radius=10.0, empty=0.5, period=40, seed=seed)
    return list(time_lapse(scene, frames))


@pytest.fixture(scope="session")
def gated_frames() -> list[CellFrame]:
    """Some of those that the gate was trained on: what is tested is not how well it learns."""
    return film(seed=1, frames=120)[80:]


@pytest.fixture(scope="session")
def uncalibrated(checkpoint: Path, made: Made) -> Path:
    """The tiny net with a gate, trained on until it knows these frames, and then made to see cells.

    So much does it see that its masks are wrong where there is none, unless the gate mends them.
    """
    return made("gated", partial(train_gated, checkpoint)) / "gated.safetensors"


@one_thread()
def train_gated(checkpoint: Path, folder: Path) -> None:
    """Write what `uncalibrated` is."""
    steps = 100
    torch.manual_seed(0)
    opened = Checkpoint.open(checkpoint)
    plain, card = opened.net, opened.card
    arguments = {**card.arguments, "cgm": True}
    net = create_model("mobile_unet", **arguments)
    net.load_state_dict(plain.state_dict(), strict=False)
    shown = film(seed=1, frames=120)
    images = torch.cat([to_input(frame.image, card.input) for frame in shown])
    masks = torch.stack([torch.from_numpy(frame.mask).long() for frame in shown])
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        batch = torch.randperm(len(images))[:16]
        heads, scores = net.train().run(images[batch])
        assert scores is not None
        truth = Target(masks[batch])
        optimizer.zero_grad()
        (cross_entropy_dice(heads[0], truth) + gate_loss(scores, truth)).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        net.get_submodule("head").bias[1] += 6.0
    save_checkpoint(folder / "gated.safetensors", net, replace(card, arguments=arguments))


@pytest.fixture(scope="session")
def calibrated(uncalibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    opened = Checkpoint.open(uncalibrated)
    net, card = opened.net, opened.card
    shown = film(seed=1, frames=120)
    with torch.inference_mode():
        images = torch.cat([to_input(frame.image, card.input) for frame in shown])
        presence = net.predict(images)[1]
    assert presence is not None
    pixels = np.stack([class_pixels(frame.mask, num_classes=3) for frame in shown])
    gate = calibrate_gate(presence.numpy(), pixels, max_lost=0.005)
    assert gate[0] == 0 < min(gate[1:]), "nothing to test"
    path = tmp_path_factory.mktemp("calibrated") / "gated.safetensors"
    save_checkpoint(path, net, replace(card, gate=gate))
    return path


@pytest.fixture(scope="session")
def gated_bundle(calibrated: Path, made: Made) -> Path:
    """INT8 bundle of the calibrated net; it holds the FP32 graph too."""
    return made("gated-int8", partial(make_bundle, calibrated, precision="int8")) / "tiny-int8"


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images with cells in them. Do not change them."""
    folder = tmp_path_factory.mktemp("images")
    drawn = snapshots(40, height=50, width=70, seed=1)
    crowded = (frame for frame in drawn if 0.2 < np.mean(frame.mask > 0) < 0.8)
    for index, frame in enumerate(islice(crowded, 5)):
        write_png(folder / f"{index}.png", frame.image)
    return folder


@pytest.fixture(scope="session")
def wrong_bundle(fp32_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, whole by its hashes, whose graph gives the logits the wrong sign."""
    copy = shutil.copytree(fp32_bundle, tmp_path_factory.mktemp("wrong") / "wrong")
    path = copy / "model.fp32.onnx"
    model = onnx.load(path)
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = [f"{name}_before" if name == output.name else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Neg", [f"{output.name}_before"], [output.name]))
    onnx.save(model, path)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["model.fp32.onnx"] = sha256(path)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy
