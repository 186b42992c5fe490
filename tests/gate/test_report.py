"""The report on a gate: rates, areas and curves."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.schema import SchemaError, encode
from edgeunet.gate.report import GateReport, gate_report, roc_curve
from support.gates import Images, images


def test_report_by_hand() -> None:
    presence = np.float32([[1, 0.1, 0.2], [1, 0.6, 0.1], [1, 0.7, 0.3], [1, 0.4, 0.9]])
    pixels = np.array([[9, 0, 0], [9, 0, 0], [5, 4, 0], [7, 1, 1]])
    report = gate_report(presence, pixels, thresholds=(0, 0.5, 0.5), classes=("bg", "a", "b"))
    background, a, b = report.classes
    assert (report.images, report.empty) == (4, 2)
    assert (report.skipped, report.skipped_empty, report.open_filled) == (0.25, 0.5, 1)
    assert encode(background) == {
        "name": "bg", "threshold": 0, "auc": None, "lost": 0, "held": 4, "open_where_held": 1,
        "open_at_least": 1, "closed_where_not": None,
    }  # fmt: skip
    assert b.open_at_least == pytest.approx(0.05), "one image, and the gate might have been shut"
    # 1 of 2: at least that with 95 % if each image is open with 2.5 %, as 1 - 0.975^2 = 0.05.
    assert (a.held, a.open_at_least) == (2, pytest.approx(1 - 0.95**0.5))
    assert (a.auc, a.lost, a.open_where_held, a.closed_where_not) == (0.75, 0.2, 0.5, 0.5)
    assert (b.auc, b.lost, b.open_where_held, b.closed_where_not) == (1, 0, 1, 1)
    assert report.thresholds == (0, 0.5, 0.5)
    record = json.loads(json.dumps({"max_lost": 0.1, **encode(report)}))
    assert record["classes"][1]["lost"] == 0.2 and GateReport.of_record(record) == report
    with pytest.raises(SchemaError, match="images"):
        GateReport.of_record({"classes": []})
    for words in ("25.00% of 4 images", "50.00% of the 2 empty", "100.00% of the others"):
        assert words in report.table()


def test_rates_that_no_image_shows_are_none() -> None:
    full = gate_report(
        np.ones((2, 2), np.float32), np.ones((2, 2), np.int64), thresholds=(0, 0), classes="ab"
    )
    assert (full.empty, full.skipped_empty, full.open_filled) == (0, None, 1)
    bare = gate_report(
        np.zeros((2, 2), np.float32), np.array([[4, 0], [4, 0]]), thresholds=(0, 1), classes="ab"
    )
    assert (bare.empty, bare.skipped_empty, bare.open_filled) == (2, 1, None)
    assert bare.classes[1].lost is None and bare.classes[1].open_at_least is None
    assert "–" in bare.table()


@given(case=images())
def test_auc_is_the_probability_that_an_image_with_the_class_ranks_higher(
    case: Images,
) -> None:
    presence, pixels = case
    thresholds = (0.5,) * presence.shape[1]
    report = gate_report(presence, pixels, thresholds=thresholds, classes=["c"] * len(thresholds))
    for c, entry in enumerate(report.classes):
        held = pixels[:, c] > 0
        with_, without = presence[held, c][:, None], presence[~held, c][None]
        if with_.size == 0 or without.size == 0:
            assert entry.auc is None
            continue
        wins = (with_ > without).mean() + (with_ == without).mean() / 2
        assert entry.auc == pytest.approx(wins, abs=1e-12)


@given(case=images(), threshold=st.floats(0, 1, width=32))
def test_every_threshold_lies_on_the_curve(case: Images, threshold: float) -> None:
    presence, held = case[0][:, 0], case[1][:, 0] > 0
    curve = roc_curve(presence, held)
    if not curve:
        assert held.all() or not held.any()
        return
    assert curve[0] == (0, 0)
    assert curve[-1] == (1, 1)
    opened = presence >= np.float32(threshold)
    x, y = opened[~held].mean(), opened[held].mean()
    points = np.array(curve)
    assert (np.diff(points, axis=0) >= 0).all()
    distances = [
        abs((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]))
        for a, b in pairwise(points)
        if a[0] - 1e-9 <= x <= b[0] + 1e-9 and a[1] - 1e-9 <= y <= b[1] + 1e-9
    ]
    assert min(distances) == pytest.approx(0, abs=1e-9)


def test_table_names_classes_that_no_image_holds() -> None:
    presence = np.array([[1, 0.5, 0.2], [1, 0.1, 0.2]], np.float32)
    pixels = np.array([[9, 4, 0], [9, 0, 0]])
    found = gate_report(presence, pixels, thresholds=(0, 0.3, 0), classes=("sky", "road", "sea"))
    assert "no image holds sea: nothing is known of that gate" in found.table()
    held = gate_report(presence, pixels + 1, thresholds=(0, 0.3, 0), classes=("a", "b", "c"))
    assert "no image holds" not in held.table()
