"""What a bundle may lose, and the error if it loses more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.data.fit import Reading
from edgeunet.errors import ParityError
from edgeunet.export.proof import FRAMES, Proof
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.parity import ParityReport


@pytest.fixture(scope="module")
def proof(checkpoint: Path) -> Proof:
    return Proof(Checkpoint.open(checkpoint).card, None, Reading(), max_iou_drop=0.5)


@pytest.fixture(scope="module")
def parity(proof: Proof, fp32_bundle: Path) -> ParityReport:
    return proof.measure(open_bundle(fp32_bundle))[0]


def losing(parity: ParityReport, **changes: float | None) -> ParityReport:
    *before, last = parity.stages
    return replace(parity, stages=(*before, replace(last, **changes)))  # type: ignore[arg-type]


def test_procedural_weights_are_measured_on_procedural_frames(parity: ParityReport) -> None:
    assert (parity.data, parity.frames, parity.labelled) == ("procedural cells", FRAMES, True)


def test_a_bundle_within_its_budget_passes(proof: Proof, parity: ParityReport) -> None:
    assert proof.excess(parity) <= 0
    proof.check(parity)
    proof.check(losing(parity, drop=0.5))


def test_points_over_the_budget_are_an_error(proof: Proof, parity: ParityReport) -> None:
    bad = losing(parity, drop=0.75)
    assert proof.excess(bad) == pytest.approx(0.25)
    with pytest.raises(ParityError, match=r"loses 0\.75 IoU points.*0\.5 are allowed"):
        proof.check(bad)


def test_without_labels_the_agreement_counts(proof: Proof, parity: ParityReport) -> None:
    bad = replace(losing(parity, drop=None, agreement=0.9, wanted=0.99), labelled=False)
    assert proof.excess(bad) == pytest.approx(9)
    with pytest.raises(ParityError, match=r"on 90\.00% of the pixels.*Pass --data with labels"):
        proof.check(bad)
