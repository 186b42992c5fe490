"""A closed gate spares the decoder, and no pixel changes by that."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import Flavour, Precision
from edgeunet.data.cells import CellFrame
from edgeunet.runtime.backends import create_backend
from edgeunet.runtime.backends.base import NetBackend
from edgeunet.runtime.backends.openvino import OpenVinoNet
from edgeunet.runtime.backends.ort import OrtNet, open_flavour
from edgeunet.runtime.backends.parts import Arrays, PartedNet
from edgeunet.runtime.backends.smoothing import Smoother
from edgeunet.runtime.frames import Batch, Frame
from edgeunet.runtime.gpu.engine.execution import Execution
from support.gpu_machine import gpu_machine


@dataclass(frozen=True)
class Case:
    """Where a gated bundle runs: a graph of ONNX Runtime, a kind and version of TensorRT, or else
    OpenVINO."""

    flavour: Flavour | None = None
    tensorrt: str | None = None
    precision: Precision = "int8"

    def __str__(self) -> str:
        return self.flavour or f"{self.backend}-{self.tensorrt}-{self.precision}"

    @property
    def backend(self) -> str:
        if self.tensorrt is None:
            return "openvino"
        return "rtx" if str(self.tensorrt).startswith("rtx-") else "tensorrt"

    @contextmanager
    def open(self, bundle: Bundle) -> Iterator[NetBackend]:
        """The backend, on a machine that has what it needs."""
        with ExitStack() as stack:
            if self.flavour is not None:
                created = open_flavour(bundle, self.flavour)
            else:
                if self.tensorrt is not None:
                    stack.enter_context(gpu_machine(self.tensorrt))
                created = create_backend(self.backend, bundle.at(self.precision))
            yield stack.enter_context(created)


CASES = [
    Case("fp32"),
    Case("fp16"),
    Case("int8"),
    Case("int8.fp16"),
    Case("int8.cpu"),
    Case(precision="fp32"),
    Case(precision="int8"),
    Case(tensorrt="8.6.0", precision="fp32"),
    Case(tensorrt="8.6.0", precision="fp16"),
    Case(tensorrt="11.4.0", precision="fp16"),
    Case(tensorrt="11.4.0", precision="int8"),
    Case(tensorrt="rtx-1.7.1", precision="fp16"),
    Case(tensorrt="rtx-1.7.1", precision="int8"),
]


@pytest.fixture(scope="module")
def bundle(gated_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The last class is shut, so that frames with cells have two open classes, the fewest that a
    decoder is for."""
    copy = tmp_path_factory.mktemp("early") / "bundle"  # engines are written into it
    opened = open_bundle(shutil.copytree(gated_bundle, copy))
    assert opened.manifest.gate is not None
    gate = (*opened.manifest.gate[:-1], 1.0)
    return replace(opened, manifest=replace(opened.manifest, gate=gate))


@pytest.fixture(scope="module")
def images(gated_frames: list[CellFrame]) -> list[Frame]:
    """Frames with (o) and without cells (c): batches of 3 and 4 are open, closed or both."""
    kinds = {
        "o": (frame.image for frame in gated_frames if frame.mask.any()),
        "c": (frame.image for frame in gated_frames if not frame.mask.any()),
    }
    return [next(kinds[kind]) for kind in "ooooccccocooccoco"]


@pytest.fixture(params=CASES, ids=str)
def backend(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[NetBackend]:
    with request.param.open(bundle) as opened:
        yield opened


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batches that the decoder was run on."""
    counts: list[int] = []
    enqueue = Execution.enqueue

    def count(kind: type[PartedNet]) -> None:
        decode = kind.decode

        def counted(net: PartedNet, features: Arrays) -> npt.NDArray[np.float32]:
            counts.append(len(features[0]))
            return decode(net, features)

        monkeypatch.setattr(kind, "decode", counted)

    def counting(execution: Execution, batch: int) -> None:
        if "logits" in execution.engine.tensors:
            counts.append(batch)
        enqueue(execution, batch)

    count(OrtNet)
    count(OpenVinoNet)
    monkeypatch.setattr(Execution, "enqueue", counting)
    return counts


def test_masks_are_those_of_the_whole_net_gated_afterwards(
    backend: NetBackend, images: list[Frame]
) -> None:
    for batch in (1, 3, 4):
        for start in range(0, len(images) - batch, batch):
            group = images[start : start + batch]
            everything = backend.net.infer(backend.preprocess(group))
            wanted = backend.postprocess(*everything, group[0].shape[:2])
            found = backend.segment(Batch.of(group))
            np.testing.assert_array_equal(found.masks, wanted)
            np.testing.assert_array_equal(found.presence, everything.presence)


def test_stream_gives_the_same(backend: NetBackend, images: list[Frame]) -> None:
    groups = [images[start : start + 3] for start in range(0, len(images), 3)]
    for group, result in zip(groups, backend.stream(map(Batch.of, groups)), strict=True):
        np.testing.assert_array_equal(result.masks, backend.segment(Batch.of(group)).masks)


def test_frames_of_several_sizes_keep_their_own_gates(
    backend: NetBackend, images: list[Frame]
) -> None:
    mixed = [image if index % 2 else image[:50] for index, image in enumerate(images[:4])]
    for each in backend.segment(Batch.of(mixed)):
        alone = backend.segment(Batch([each.frame]))
        assert np.mean(each.mask != alone.masks[0]) <= 1e-3
        np.testing.assert_allclose(each.presence, alone.presence[0], atol=1e-4)


def test_integrated_gpu_gives_the_same_bits(bundle: Bundle, images: list[Frame]) -> None:
    """It shares the memory of presence and decisions with the host, and nothing else."""
    groups = [images[start : start + 4] for start in range(0, len(images), 4)]
    found: list[list[Batch]] = []
    for integrated in (False, True):
        with (
            gpu_machine(integrated=integrated) as machine,
            create_backend("tensorrt", bundle.at("fp16")) as backend,
        ):
            batches = [Batch.of(group, confidence=True) for group in groups]
            found.append([backend.segment(batch) for batch in batches])
            found.append(list(backend.stream(map(Batch.of, groups))))
            shared = machine.driver.count("mapped")
            assert (0 < shared < 1000) if integrated else shared == 0
    segmented, streamed, segmented_shared, streamed_shared = found
    for one, other in ((segmented, segmented_shared), (streamed, streamed_shared)):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left.masks, right.masks)
            np.testing.assert_array_equal(left.presence, right.presence)
            np.testing.assert_array_equal(left.confidence, right.confidence)
    assert any(batch.masks.any() for batch in streamed)


def test_smoothing_begins_anew_behind_a_frame_without_logits(
    backend: NetBackend, gated_frames: list[CellFrame]
) -> None:
    filled = [frame.image for frame in gated_frames if frame.mask.any()][:2]
    empty = next(frame.image for frame in gated_frames if not frame.mask.any())
    batches = [[filled[0]], [empty], [filled[1]]]
    smoother = Smoother(backend.bundle.manifest.input, 0.9)
    for batch, result in zip(
        batches, backend.stream(map(Batch.of, batches), smoother=smoother), strict=True
    ):
        np.testing.assert_array_equal(result.masks, backend.segment(Batch.of(batch)).masks)


def test_decoder_runs_for_open_frames_only(
    backend: NetBackend, gated_frames: list[CellFrame], decoded: list[int]
) -> None:
    filled = [frame.image for frame in gated_frames if frame.mask.any()]
    empty = [frame.image for frame in gated_frames if not frame.mask.any()]
    assert not backend.segment(Batch.of(empty[:3])).masks.any()
    assert decoded == []
    masks = backend.segment(Batch.of([empty[0], filled[0], empty[1], filled[1]])).masks
    assert decoded == [2]
    assert [bool(mask.any()) for mask in masks] == [False, True, False, True]
    backend.segment(Batch.of(filled[:2]))
    assert decoded == [2, 2]
