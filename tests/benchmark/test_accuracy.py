"""How close masks are, and which frames they are compared on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeunet.benchmark import accuracy
from edgeunet.benchmark.accuracy import (
    golden_agreement,
    masks_of,
    mean_agreement,
    miou,
    read_data,
)
from edgeunet.bundle.bundle import open_bundle
from edgeunet.data.cells import write_dataset
from edgeunet.data.fit import Fit, Reading
from edgeunet.errors import DatasetError
from edgeunet.runtime import load
from edgeunet.runtime.sources.labelled import LabelledFrame


def test_labelled_frames_give_an_miou(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "MOST", 3)
    bundle = open_bundle(fp32_bundle)
    write_dataset(tmp_path / "cells", train=1, val=5, height=64, width=96)
    data = read_data(tmp_path / "cells", bundle, Fit(bundle.manifest.input), None)
    assert (data.name, data.labelled, len(data.samples)) == ("cells", True, 3)
    truth = [sample.labels for sample in data.samples]
    assert miou(truth, data, bundle) == 100  # type: ignore[arg-type]
    with load(fp32_bundle, "onnxruntime") as segmenter:
        masks = masks_of(segmenter, data)
        assert golden_agreement(segmenter, bundle) > 0.999
    assert 40 < miou(masks, data, bundle) < 100
    assert mean_agreement(masks, masks) == 1
    swapped = Fit(bundle.manifest.input, Reading(channels=("bgr",)))
    read = read_data(tmp_path / "cells", bundle, swapped, None)
    with load(fp32_bundle, "onnxruntime", channels=("bgr",)) as segmenter:
        again = masks_of(segmenter, read)
        assert golden_agreement(segmenter, bundle) > 0.999
    assert mean_agreement(again, masks) < 1, "frames are fitted once"
    assert 0 < mean_agreement(masks, truth) < 1  # type: ignore[arg-type]


def test_images_have_no_labels(fp32_bundle: Path, images: Path, tmp_path: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    data = read_data(images, bundle, Fit(bundle.manifest.input), None)
    assert (data.labelled, len(data.samples)) == (False, 5)
    assert {sample.image.dtype for sample in data.samples} == {np.dtype(np.uint8)}


def test_labels_of_one_class_are_refused(fp32_bundle: Path, images: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    frames = read_data(images, bundle, Fit(bundle.manifest.input), None)
    blank = np.zeros(frames.samples[0].image.shape[:2], np.uint8)
    sample = LabelledFrame("blank", frames.samples[0].image, blank)
    with pytest.raises(DatasetError, match="alone; expected two classes"):
        miou([blank], accuracy.Data("blank", (sample,)), bundle)


def test_a_net_of_other_classes_is_refused(fp32_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    root = tmp_path / "other"
    write_dataset(root, train=1, val=1, height=64, width=96)
    about = json.loads((root / "dataset.json").read_text())
    about["classes"].append("more")
    about["palette"].append([1, 2, 3])
    (root / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(DatasetError, match="4 classes"):
        read_data(root, bundle, Fit(bundle.manifest.input), None)
