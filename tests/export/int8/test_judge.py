"""How much a graph loses, counted on masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import flavour_file
from edgeunet.export.int8.judge import Judge, Tally
from edgeunet.metrics import IGNORE
from edgeunet.parity import golden_samples

MASK = np.array([[0, 0, 1, 1]], np.uint8)
OTHER = np.array([[0, 1, 1, 1]], np.uint8)


def test_agreement_is_the_mean_of_the_frames() -> None:
    tally = Tally(2)
    tally.add(MASK, MASK, None)
    tally.add(MASK, OTHER, None)
    assert tally.agreement == pytest.approx((1 + 0.75) / 2)
    assert tally.miou is None, "nothing has a label"


def test_labels_count_where_they_are_not_ignored() -> None:
    tally = Tally(2)
    tally.add(MASK, OTHER, np.full_like(MASK, IGNORE))
    assert tally.miou is None
    tally.add(MASK, OTHER, MASK)
    assert tally.miou == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_graph_loses_nothing_against_itself_and_much_if_it_is_wrong(
    fp32_bundle: Path, wrong_bundle: Path
) -> None:
    bundle = open_bundle(fp32_bundle)
    graph = fp32_bundle / flavour_file("fp32")
    judge = Judge(graph, golden_samples(bundle), bundle.manifest.input, gate=None)
    assert judge.loss(graph) == 0
    assert judge.loss(wrong_bundle / flavour_file("fp32")) > 10
