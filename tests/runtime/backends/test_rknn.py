"""The backend for Rockchip's NPU, on what stands in for rknn-toolkit-lite2. No board has run it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeunet
from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.errors import (
    BackendError,
    BundleError,
    MissingDependencyError,
    ParityError,
    UsageError,
)
from edgeunet.runtime.backends import create_backend, rknn
from edgeunet.runtime.backends.base import NetBackend
from edgeunet.runtime.frames import Batch
from edgeunet.runtime.options import LoadOptions
from support.rockchip import board, compiled


@pytest.fixture(scope="module")
def bundle(int8_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return compiled(open_bundle(int8_bundle), tmp_path_factory.mktemp("rknn"), "int8")


def open_rknn(bundle: Bundle, **options: Any) -> NetBackend:
    backend = create_backend("rknn", bundle, LoadOptions(**options))
    assert isinstance(backend, NetBackend)
    return backend


def test_batch_is_spread_over_all_cores_in_order(bundle: Bundle) -> None:
    frames = list(bundle.golden().frames) * 3
    with board() as lite, open_rknn(bundle) as backend:
        contexts = list(lite.opened)
        assert [each.core_mask for each in contexts] == [1, 2, 4]
        assert backend.net.lanes == 3
        before = [each.frames for each in contexts]
        masks = backend.segment(Batch.of(frames)).masks
        assert all(now.frames > was for now, was in zip(contexts, before, strict=True))
        for frame, mask in zip(frames, masks, strict=True):
            np.testing.assert_array_equal(backend.segment(Batch.of([frame])).masks[0], mask)
        streamed = list(backend.stream(Batch.of([frame]) for frame in frames))
        np.testing.assert_array_equal(np.concatenate([each.masks for each in streamed]), masks)


def test_one_core_is_chosen_or_the_only_one(
    int8_bundle: Path, bundle: Bundle, tmp_path: Path
) -> None:
    with board() as lite, open_rknn(bundle, device=2) as backend:
        assert [each.core_mask for each in lite.opened] == [4] and backend.net.lanes == 1
    with board(), pytest.raises(UsageError, match=r"got core 3, .* rk3588 has 3: expected 0 to 2"):
        open_rknn(bundle, device=3)
    alone = compiled(open_bundle(int8_bundle), tmp_path, "int8", soc="rk3566")
    with board("rk3566") as lite, open_rknn(alone):
        assert [each.core_mask for each in lite.opened] == [lite.NPU_CORE_AUTO]


def test_versions_are_told_at_the_start(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), board(), edgeunet.load(bundle.root, "rknn") as segmenter:
        assert segmenter.self_check() > 0.98
    assert "% of the golden pixels agree on the NPU. Compiled by rknn-toolkit2 2.5.0; here are" in (
        caplog.text
    )
    assert "API: 2.3.2" in caplog.text and "driver 0.9.8" in caplog.text


def test_npu_that_computes_something_else_is_refused(bundle: Bundle) -> None:
    """The simulator was right, and the board is wrong."""
    with board() as lite:
        lite.faults["inference"] = "shift"
        with pytest.raises(ParityError) as error:
            open_rknn(bundle)
    message = str(error.value)
    assert "of the golden pixels agree with PyTorch; expected 98.0%" in message
    assert "Its logits are off by up to " in message and "API: 2.3.2" in message
    assert "driver 0.9.8" in message and "Update librknnrt.so" in message


@pytest.mark.parametrize(
    ("call", "fault", "message"),
    [
        ("load_rknn", -1, r"does not take the file\. Compiled by rknn-toolkit2 2\.5\.0; here are"),
        ("load_rknn", OSError("no such driver"), r"does not start on core 0: no such driver"),
        ("init_runtime", -1, r"does not start on core 0\. .*library unknown and driver 0\.9\.8"),
        ("inference", "none", r"failed on a frame\. .*API: 2\.3\.2"),
        ("inference", RuntimeError("late\nNPU"), r"failed on a frame: late\. Compiled"),
    ],
)
def test_failure_names_versions_and_frees_the_contexts(
    bundle: Bundle, call: str, fault: Any, message: str
) -> None:
    with board() as lite:
        lite.faults[call] = fault
        with pytest.raises(BackendError, match=message):
            open_rknn(bundle)


def test_net_for_another_soc_is_refused(bundle: Bundle) -> None:
    with board("rk3566") as lite, pytest.raises(BackendError) as error:
        open_rknn(bundle)
    assert "is for rk3588, and this is an rk3566. Deploy the bundle again with --target rk3566" in (
        str(error.value)
    )
    assert lite.paths == []
    with board(None), open_rknn(bundle):
        pass  # a machine that does not tell is not refused


def test_changed_file_is_never_loaded(int8_bundle: Path, tmp_path: Path) -> None:
    opened = compiled(open_bundle(int8_bundle), tmp_path, "int8")
    path = opened.root / "model.rknn"
    path.write_bytes(path.read_bytes() + b"\0")
    with board() as lite:
        for attempt in (lambda: open_rknn(opened), lambda: edgeunet.load(opened.root, "rknn")):
            with pytest.raises(BundleError, match=r"model\.rknn has SHA-256"):
                attempt()
        assert lite.paths == []


def test_what_is_loaded_is_no_file_of_the_bundle(bundle: Bundle) -> None:
    """Else another process could change it after it was checked."""
    with board() as lite, open_rknn(bundle):
        assert lite.paths
        assert not any(path.is_relative_to(bundle.root) or path.exists() for path in lite.paths)
        assert lite.opened[0].content == (bundle.root / "model.rknn").read_bytes()


def test_bundle_or_machine_that_lacks_something(int8_bundle: Path, bundle: Bundle) -> None:
    with board(), pytest.raises(UsageError, match=r"holds no model\.rknn\. Compile one"):
        open_rknn(open_bundle(int8_bundle))
    with pytest.raises(MissingDependencyError, match=r"rknnlite is not installed.*\[rknn\]"):
        open_rknn(bundle)
    with pytest.raises(UsageError, match=r"rknn does not compute in FP32"):
        open_rknn(bundle.at("fp32"))
    with board(), open_rknn(bundle) as backend:
        pass
    with pytest.raises(UsageError, match=r"it is closed"):
        backend.segment(Batch.of(list(bundle.golden().frames[:1])))


@pytest.mark.parametrize(
    ("compatible", "soc"),
    [
        ("radxa,rock-5b\0rockchip,rk3588\0", "rk3588"),
        ("xunlong,orangepi-5\0rockchip,rk3588s\0rockchip,rk3588\0", "rk3588"),
        ("rockchip,rk3566-quartz64-a\0rockchip,rk3566\0", "rk3566"),
        ("raspberrypi,5-model-b\0brcm,bcm2712\0", None),
        (None, None),
    ],
)
def test_npu_is_found_by_the_device_tree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compatible: str | None, soc: str | None
) -> None:
    tree, driver = tmp_path / "compatible", tmp_path / "version"
    if compatible is not None:
        tree.write_text(compatible)
        driver.write_text("0.9.8\n")
    monkeypatch.setattr(rknn, "_COMPATIBLE", tree)
    monkeypatch.setattr(rknn, "_DRIVER", driver)
    assert rknn.find_npu() == rknn.Npu(soc, None if compatible is None else "0.9.8")
