"""What a bundle may lose, and the error if it loses more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.data.fit import Reading
from edgeunet.errors import ExportError, ParityError
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.exporting.proof import Proof, check_simulator
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.parity import ParityReport
from edgeunet.parity.torch_reference import TorchReference


@pytest.fixture(scope="module")
def proof(checkpoint: Path) -> Proof:
    opened = Checkpoint.open(checkpoint)
    reference = TorchReference(opened.net, opened.card)
    return Proof(reference, None, Reading(), max_iou_drop=0.5)


@pytest.fixture(scope="module")
def parity(proof: Proof, fp32_bundle: Path) -> ParityReport:
    return proof.measure(open_bundle(fp32_bundle))[0]


def losing(parity: ParityReport, **changes: float | None) -> ParityReport:
    *before, last = parity.stages
    return replace(parity, stages=(*before, replace(last, **changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize("found", ["1.23.2", "1.29.0"])
def test_int8_is_not_proved_on_wrong_convolutions(
    found: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("edgeunet.exporting.proof.version", lambda name: found)
    with pytest.raises(ExportError, match=f"1.30 or newer, .* Python 3.11; found {found}"):
        export_bundle(tmp_path / "bundle", ExportOptions("mobile_unet", precision="int8"))
    monkeypatch.setattr("edgeunet.exporting.proof.version", lambda name: "1.30.0.dev1")
    check_simulator()


def test_procedural_weights_are_measured_on_procedural_frames(parity: ParityReport) -> None:
    assert (parity.data, parity.frames, parity.labelled) == ("procedural cells", 8, True)


def test_a_bundle_within_its_budget_passes(proof: Proof, parity: ParityReport) -> None:
    assert proof.excess(parity) <= 0
    proof.check(parity)
    proof.check(losing(parity, drop=0.5))


def test_points_over_the_budget_are_an_error(proof: Proof, parity: ParityReport) -> None:
    bad = losing(parity, drop=0.75)
    assert proof.excess(bad) == pytest.approx(0.25)
    with pytest.raises(ParityError, match=r"loses 0\.75 IoU points.*0\.5 are allowed"):
        proof.check(bad)


@pytest.mark.parametrize(
    ("drop", "agreement", "allowed", "repaired"),
    [
        (0.4, 0.992, 0.5, False),
        (0.4, 0.988, 0.5, True),
        (0.6, 0.992, 0.5, True),
        (0.6, 0.988, 1.0, False),
        (0.1, 0.988, 0.2, True),
    ],
)
def test_int8_is_repaired_if_points_or_pixels_are_short(
    proof: Proof,
    parity: ParityReport,
    drop: float,
    agreement: float,
    allowed: float,
    repaired: bool,
) -> None:
    """Pixels alone are no error: a bundle that no choice of layers repairs is written, and says so.

    Twice the points allow twice the pixels.
    """
    proof = replace(proof, max_iou_drop=allowed)
    int8 = losing(parity, name="int8", drop=drop, agreement=agreement)  # type: ignore[arg-type]
    found = replace(int8, precision="int8")
    assert proof.repairs(found) is repaired
    assert (proof.excess(found) > 0) is (drop > allowed)


def test_without_labels_more_points_allow_no_more_pixels(
    proof: Proof, parity: ParityReport
) -> None:
    """Or INT8 that layers in float could save would end the export without a try."""
    proof = replace(proof, max_iou_drop=2.0)
    int8 = losing(parity, name="int8", drop=None, agreement=0.985, wanted=0.99)  # type: ignore[arg-type]
    found = replace(int8, precision="int8", labelled=False)
    assert proof.excess(found) > 0
    assert proof.repairs(found)


def test_without_labels_the_agreement_counts(proof: Proof, parity: ParityReport) -> None:
    few = {"drop": None, "agreement": 0.9, "wanted": 0.99}
    bad = replace(losing(parity, **few), labelled=False)
    assert proof.excess(bad) == pytest.approx(9)
    with pytest.raises(ParityError, match=r"^fp32 .* on 90\.00% of .*The graph is not the net"):
        proof.check(bad)
    int8 = losing(parity, name="int8", **few)  # type: ignore[arg-type]
    with pytest.raises(ParityError, match=r"^int8 .*; expected 99\.00%\. Pass --data with labels"):
        proof.check(replace(int8, precision="int8", labelled=False))
