"""Calibration of the gate: lost pixels, closed images, and the thresholds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import write_dataset
from edgeunet.data.datasets import Dataset, open_dataset, read_mask
from edgeunet.errors import CheckpointError, DatasetError, OutputExistsError, UsageError
from edgeunet.gate.calibrate import calibrate_checkpoint, calibrate_gate, collect_presence
from edgeunet.gate.confidence import images_needed, least_share
from edgeunet.gate.report import Presence, gate_report
from edgeunet.metrics import class_pixels
from edgeunet.models import create_model
from edgeunet.models.checkpoints import Checkpoint, read_card
from edgeunet.models.reference import to_input
from support.gates import Images, gated_checkpoint, images
from support.media import read_rgb


def one_class(presence: list[float], pixels: list[int], *, max_lost: float = 0.0) -> float:
    """Threshold of one class over images that all hold a background too."""
    both = np.stack([np.ones(len(presence)), presence], axis=1).astype(np.float32)
    counts = np.stack([np.full(len(pixels), 100), pixels], axis=1)
    background, threshold = calibrate_gate(both, counts, max_lost=max_lost)
    assert background == 0
    return threshold


def closed_by(threshold: float, presence: Presence) -> Any:
    """Images that the gate is closed on, compared as in the runtime."""
    return ~(presence >= np.float32(threshold))


def logit(presence: float) -> float:
    return float(np.log(presence / (1 - presence)))


shares = st.sampled_from([0.0, 0.005, 0.1, 0.5, 0.99])


# Thresholds


@given(case=images(), max_lost=shares)
def test_no_class_loses_more_than_allowed(case: Images, max_lost: float) -> None:
    presence, pixels = case
    for c, threshold in enumerate(calibrate_gate(presence, pixels, max_lost=max_lost)):
        lost = pixels[closed_by(threshold, presence[:, c]), c].sum()
        assert lost <= max_lost * pixels[:, c].sum() * (1 + 1e-12)


@given(case=images(), max_lost=shares)
def test_no_other_threshold_closes_more_images_without_the_class(
    case: Images, max_lost: float
) -> None:
    presence, pixels = case
    for c, threshold in enumerate(calibrate_gate(presence, pixels, max_lost=max_lost)):
        held, column = pixels[:, c] > 0, presence[:, c]
        if held.all() or not held.any():
            assert threshold == 0
            continue
        closed = closed_by(threshold, column)
        for other in np.append(np.unique(column), np.float32(2)):  # all possible cuts
            rival = column < other
            if pixels[rival, c].sum() / pixels[:, c].sum() <= max_lost:
                assert (rival & ~held).sum() <= (closed & ~held).sum()
                same = (rival & ~held).sum() == (closed & ~held).sum()
                assert not same or pixels[rival, c].sum() >= pixels[closed, c].sum()


@given(case=images(), max_lost=shares)
@example(case=(np.float32([[1 - 2**-24], [1.0]]), np.array([[0], [1]])), max_lost=0.0)
@example(case=(np.float32([[0.0], [1e-45]]), np.array([[0], [1]])), max_lost=0.0)
def test_threshold_is_fp32_and_lies_between_closed_and_open_presences(
    case: Images, max_lost: float
) -> None:
    presence, pixels = case
    for c, threshold in enumerate(calibrate_gate(presence, pixels, max_lost=max_lost)):
        assert 0 <= threshold <= 1
        assert float(np.float32(threshold)) == threshold
        if threshold > 0:
            column, held = presence[:, c], pixels[:, c] > 0
            highest = column[~held & (column < threshold)].max()
            lowest = column[held & (column >= threshold)].min()
            assert highest < threshold <= lowest
            assert not (held & (column > highest) & (column < lowest)).any()


def test_threshold_is_halfway_in_logits() -> None:
    threshold = one_class([0.01, 0.02, 0.9, 0.99], [0, 0, 5, 5])
    assert logit(threshold) == pytest.approx((logit(0.02) + logit(0.9)) / 2, abs=1e-6)


def test_margin_keeps_the_threshold_below_what_must_stay_open() -> None:
    presence, pixels = np.float32([[0.2], [0.55], [0.6], [0.9]]), np.array([[0], [0], [5], [5]])
    near, far = (
        calibrate_gate(presence, pixels, max_lost=0, margin=margin)[0] for margin in (0, 0.5)
    )
    assert 0.55 < near < 0.6
    assert 0.2 < far < 0.55
    assert logit(0.6) - logit(far) >= 0.5 - 1e-6


@given(case=images(), margin=st.floats(0, 3))
def test_presence_may_fall_by_the_margin(case: Images, margin: float) -> None:
    presence, pixels = case
    lowered = presence / (presence + (1 - presence) * np.exp(margin) + 1e-30)
    lowered = lowered.astype(np.float32)  # as the net returns it
    for c, threshold in enumerate(calibrate_gate(presence, pixels, max_lost=0, margin=margin)):
        held = pixels[:, c] > 0
        assert (lowered[held, c] >= threshold * (1 - 1e-5)).all()


# Promises


def defects(rng: np.random.Generator, held: int, others: int) -> Images:
    """Presence and pixels of one class, whose images overlap with the others'."""
    presence = np.concatenate([rng.beta(5, 2, held), rng.beta(2, 5, others)])
    pixels = np.concatenate([np.full(held, 50), np.zeros(others, int)])
    return presence[:, None].astype(np.float32), pixels[:, None]


def test_a_promise_holds_on_images_that_nobody_has_seen() -> None:
    rng = np.random.default_rng(0)
    future = rng.beta(5, 2, 100_000)
    kept = []
    for _ in range(400):
        presence, pixels = defects(rng, 120, 120)
        (threshold,) = calibrate_gate(presence, pixels, max_lost=0.99, open_on=0.95)
        assert threshold > 0
        kept.append((future >= threshold).mean() >= 0.95)
    assert 0.93 <= np.mean(kept) < 1  # 95 %, as nothing but the promise binds; 1 would waste images


@given(case=images(most=80), open_on=st.floats(0.3, 0.97), max_lost=shares)
def test_a_gate_is_closed_on_no_more_images_than_promised(
    case: Images, open_on: float, max_lost: float
) -> None:
    presence, pixels = case
    held = pixels > 0
    count = held.sum(0)
    short = [c for c, of in enumerate(count) if 0 < of < len(held) and of < images_needed(open_on)]
    if short:
        with pytest.raises(UsageError, match=f"'{short[0]}' is to be open on"):
            calibrate_gate(presence, pixels, max_lost=max_lost, open_on=open_on)
        return
    for c, threshold in enumerate(
        calibrate_gate(presence, pixels, max_lost=max_lost, open_on=open_on)
    ):
        closed = closed_by(threshold, presence[:, c])
        assert pixels[closed, c].sum() <= max_lost * pixels[:, c].sum() * (1 + 1e-12)
        if count[c] > 0:
            kept = int(count[c] - (closed & held[:, c]).sum())
            assert threshold == 0 or least_share(kept, int(count[c])) >= open_on - 1e-9


def test_refuses_a_promise_that_the_number_of_images_cannot_carry() -> None:
    presence, pixels = defects(np.random.default_rng(1), 58, 30)
    said = (
        r"'crack' is to be open on 95 % .* 58 images hold it; that takes 59 or more\..* 58 carry "
        r"95\.0% at most"
    )
    with pytest.raises(UsageError, match=said):
        calibrate_gate(presence, pixels, max_lost=0, open_on=0.95, classes=("crack",))
    presence, pixels = defects(np.random.default_rng(1), 59, 30)
    assert calibrate_gate(presence, pixels, max_lost=0, open_on=0.95)[0] > 0


@pytest.mark.parametrize("open_on", [0.0, 1.0, -1.0, 95.0, float("nan")])
def test_refuses_a_promise_out_of_range(open_on: float) -> None:
    presence, pixels = np.float32([[0.2], [0.9]]), np.array([[0], [5]])
    with pytest.raises(UsageError, match="expected more than 0 and less than 100"):
        calibrate_gate(presence, pixels, max_lost=0, open_on=open_on)


@pytest.mark.parametrize("margin", [-0.1, float("inf"), float("nan")])
def test_refuses_a_margin_out_of_range(margin: float) -> None:
    presence, pixels = np.float32([[0.2], [0.9]]), np.array([[0], [5]])
    with pytest.raises(UsageError, match=r"margin is .* expected 0 or a finite positive number"):
        calibrate_gate(presence, pixels, max_lost=0, margin=margin)


def test_pixels_are_lost_only_to_close_another_image_without_the_class() -> None:
    presence = [0.1, 0.2, 0.5, 0.9]
    # One pixel of 201 lies at 0.2: losing it closes the image at 0.5.
    assert 0.5 < one_class(presence, [0, 1, 0, 200], max_lost=0.005) < 0.9
    assert 0.1 < one_class(presence, [0, 1, 0, 200]) < 0.2
    # Losing the two small ones gains nothing.
    assert 0.1 < one_class(presence, [0, 1, 1, 1000], max_lost=0.005) < 0.2


@pytest.mark.parametrize(
    ("presence", "pixels"),
    [
        ([0.5, 0.5, 0.5], [0, 3, 0]),  # all equal: they cannot be separated
        ([0.3, 0.3, 0.9], [0, 3, 3]),  # a tie at the bottom
        ([0.1, 0.8, 0.9], [3, 0, 0]),  # reversed
        ([0.1, 0.9], [3, 4]),  # every image holds it
        ([0.1, 0.9], [0, 0]),  # none does
        ([0.4], [2]),
    ],
)
def test_class_that_cannot_be_closed_correctly_stays_open(
    presence: list[float], pixels: list[int]
) -> None:
    assert one_class(presence, pixels) == 0


def test_images_of_equal_presence_close_together() -> None:
    # Closing the image without the class at 0.3 would close the one with it.
    assert 0.1 < one_class([0.1, 0.3, 0.3, 0.9], [0, 0, 5, 5]) <= np.float32(0.3)
    assert 0.3 < one_class([0.1, 0.3, 0.3, 0.9], [0, 0, 5, 995], max_lost=0.005) < 0.9


@pytest.mark.parametrize(
    ("presence", "words"),
    [
        (np.zeros((0, 2), np.float32), "of one image or more"),
        (np.zeros((3, 3), np.float32), r"\(3, 3\), pixels are \(3, 2\)"),
        (np.float32([[1, 0], [1, np.nan], [1, 0]]), "holds nan; expected probabilities"),
        (np.float32([[1, 0], [1, 1.5], [1, 0]]), r"holds 1\.5; expected probabilities"),
    ],
)
def test_refuses_an_invalid_presence(presence: Presence, words: str) -> None:
    pixels = np.ones((len(presence) if presence.shape[1] == 2 else 3, 2), np.int64)
    with pytest.raises(UsageError, match=words):
        calibrate_gate(presence, pixels, max_lost=0.1)
    with pytest.raises(UsageError, match=words):
        gate_report(presence, pixels, thresholds=(0.0, 0.5), classes=("a", "b"))


@pytest.mark.parametrize("max_lost", [-0.1, 1.0, float("nan")])
def test_refuses_a_share_out_of_range(max_lost: float) -> None:
    with pytest.raises(UsageError, match="a share from 0 to less than 1"):
        one_class([0.1, 0.9], [0, 1], max_lost=max_lost)


# Report


def test_ignored_pixels_belong_to_no_class() -> None:
    mask = np.array([[0, 2, 2], [255, 255, 2]], np.uint8)
    assert class_pixels(mask, num_classes=4).tolist() == [1, 0, 3, 0]


# Nets and checkpoints


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("gate") / "data"
    write_dataset(path, train=1, val=12, height=48, width=64, seed=3)
    return open_dataset(path)


@pytest.fixture
def gated(tmp_path: Path) -> Path:
    return gated_checkpoint(tmp_path)


def test_presence_comes_from_whole_images_at_the_nets_size(gated: Path, data: Dataset) -> None:
    opened = Checkpoint.open(gated)
    net, card = opened.net, opened.card
    counts: list[int] = []
    presence, pixels = collect_presence(net, data, card.input, report=counts.append)
    assert counts == list(range(1, 13))
    for row, held, sample in zip(presence, pixels, data.samples("val"), strict=True):
        with torch.inference_mode():
            _, wanted = net.predict(to_input(read_rgb(sample.image), card.input))
        assert wanted is not None
        np.testing.assert_allclose(row, wanted[0], rtol=1e-5)
        mask = read_mask(sample.labels.path, num_classes=3)
        assert held.tolist() == [np.count_nonzero(mask == c) for c in range(3)]


def test_calibrated_checkpoint_holds_thresholds_and_report(
    gated: Path, data: Dataset, tmp_path: Path
) -> None:
    output = tmp_path / "calibrated.safetensors"
    report = calibrate_checkpoint(Checkpoint.open(gated), data, output, max_lost=0.25)
    opened = Checkpoint.open(gated)
    net, card = opened.net, opened.card
    presence, pixels = collect_presence(net, data, card.input)
    thresholds = calibrate_gate(presence, pixels, max_lost=0.25)
    assert report == gate_report(presence, pixels, thresholds=thresholds, classes=data.classes)
    written = read_card(output)
    assert written.gate == report.thresholds
    assert written.metrics["miou"] == 50.0
    assert written.metrics["gate"]["max_lost"] == 0.25
    assert written.metrics["gate"]["skipped"] == report.skipped
    assert replace(written, gate=None, metrics={}) == replace(card, metrics={})
    before, after = load_file(gated), load_file(output)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {name: t.dtype for name, t in before.items()} == {n: t.dtype for n, t in after.items()}


def test_existing_checkpoint_is_replaced_only_with_force(gated: Path, data: Dataset) -> None:
    with pytest.raises(OutputExistsError, match=r"gated\.safetensors exists"):
        calibrate_checkpoint(Checkpoint.open(gated), data, gated)
    assert read_card(gated).gate is None
    report = calibrate_checkpoint(Checkpoint.open(gated), data, gated, force=True)
    assert read_card(gated).gate == report.thresholds


def test_images_that_the_net_knows_are_told_of(
    gated: Path, data: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    opened = Checkpoint.open(gated)
    card = replace(opened.card, data=data.name, training={"with_val": True})
    calibrate_checkpoint(replace(opened, card=card), data, gated.with_name("other.safetensors"))
    assert "Its gate is surer there than on other images." in caplog.text


def test_data_whose_classes_are_in_another_order_set_no_thresholds(
    gated: Path, data: Dataset
) -> None:
    turned = replace(data, classes=(*data.classes[1:], data.classes[0]))
    with pytest.raises(DatasetError, match="classes in another order"):
        calibrate_checkpoint(Checkpoint.open(gated), turned, gated.with_name("no.safetensors"))
    assert not gated.with_name("no.safetensors").exists()


def _other_suffix(path: Path, data: Dataset) -> None:
    calibrate_checkpoint(Checkpoint.open(path), data, path.with_suffix(".pt"))


def _other_classes(path: Path, data: Dataset) -> None:
    opened = Checkpoint.open(path)
    net, card = opened.net, opened.card
    collect_presence(net, replace(data, classes=("a", "b")), card.input)


def _no_gate(path: Path, data: Dataset) -> None:
    collect_presence(create_model("unet", num_classes=3, width=4), data, InputSpec(32, 32))


def _not_finite(path: Path, data: Dataset) -> None:
    opened = Checkpoint.open(path)
    net, card = opened.net, opened.card
    assert net.cgm is not None
    torch.nn.init.constant_(net.cgm.classify.bias, float("nan"))
    calibrate_gate(*collect_presence(net, data, card.input), max_lost=0)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (_other_suffix, UsageError, r"gated\.pt; .* NAME\.safetensors"),
        (_other_classes, DatasetError, "has 2 classes, the net has 3"),
        (_no_gate, CheckpointError, r"UNet has no gate: .* --cgm"),
        (_not_finite, UsageError, "holds nan; .* finite"),
    ],
)
def test_refuses_inputs_that_cannot_be_calibrated(
    call: Callable[[Path, Dataset], None],
    error: type[Exception],
    words: str,
    gated: Path,
    data: Dataset,
) -> None:
    with pytest.raises(error, match=words):
        call(gated, data)


def test_refuses_a_val_split_without_images(gated: Path, data: Dataset, tmp_path: Path) -> None:
    copy = shutil.copytree(data.root, tmp_path / "copy")
    for path in (copy / "val" / "images").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="holds no image"):
        calibrate_checkpoint(
            Checkpoint.open(gated), open_dataset(copy), tmp_path / "out.safetensors"
        )
    assert not (tmp_path / "out.safetensors").exists()
