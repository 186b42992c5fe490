"""What images say about the input of a net to train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from edgeunet.bundle.manifest import RGB, InputSpec, imagenet
from edgeunet.data.check import check_dataset
from edgeunet.data.datasets import Dataset, open_dataset
from edgeunet.data.fit import Fit, Reading
from edgeunet.data.images import read_picture
from edgeunet.errors import DatasetError, EdgeUNetError, UsageError
from edgeunet.training.inputs import input_for, measure


def written(root: Path, images: list[npt.NDArray[Any]]) -> Dataset:
    """A data set of these training images; (H, W) gray, else the bands of a TIFF."""
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index, image in enumerate(images):
            flat = image.ndim == 2
            kind: dict[str, Any] = {} if flat else {"planarconfig": "contig"}
            path = root / split / "images" / f"{index}.tif"
            own = image if split == "train" else image[::-1]  # equal images in both are refused
            tifffile.imwrite(path, own, photometric="minisblack", **kind)
            mask = np.zeros(image.shape[:2], np.uint8)
            mask[:2] = 1
            assert cv2.imwrite(str(root / split / "masks" / f"{index}.png"), mask)
    (root / "dataset.json").write_text(json.dumps({"name": "bands", "classes": ["a", "b"]}))
    return open_dataset(root)


def noise(*shape: int, top: int = 256, dtype: Any = np.uint8) -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def spec_of(
    data: Dataset, *, start: InputSpec | None = None, told: list[str] | None = None, **reading: Any
) -> InputSpec:
    first = read_picture(data.samples("train")[0].image)
    tell = (told if told is not None else []).append
    return input_for(data, first, (16, 24), reading=Reading(**reading), start=start, tell=tell)


def test_8_bit_gray_makes_a_net_of_rgb_with_imagenets_statistics(tmp_path: Path) -> None:
    data = written(tmp_path, [noise(16, 24)])
    assert spec_of(data) == InputSpec(16, 24)
    bgr = spec_of(data, channels=("bgr",))
    assert (bgr.mean, bgr.std) == imagenet(("blue", "green", "red"))


def test_16_bit_is_kept_and_its_statistics_are_measured(tmp_path: Path) -> None:
    images = [noise(16, 24, top=4096, dtype=np.uint16), noise(16, 24, top=900, dtype=np.uint16)]
    data, told = written(tmp_path, images), []
    spec = spec_of(data, told=told, channels=("gray",))
    assert (spec.depth, spec.levels) == ("uint16", (0, 65535))
    assert spec.mean[0] == pytest.approx(np.mean(images) / 65535, rel=1e-5)
    assert spec.std[0] == pytest.approx(np.std(images) / 65535, rel=1e-5)
    assert len(told) == 1 and "bands is 16 bit, but its largest value is 4" in told[0]
    assert "--levels 0,4095" in told[0]
    told.clear()
    spec = spec_of(data, told=told, levels=(0, 4095))
    assert (spec.channels, spec.levels, told) == (RGB, (0, 4095), [])
    assert spec.mean[0] == pytest.approx(np.mean(images) / 4095, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_other_depths_need_levels(tmp_path: Path, dtype: Any) -> None:
    data = written(tmp_path, [noise(16, 24, dtype=dtype)])
    name = np.dtype(dtype).name
    with pytest.raises(UsageError, match=rf"images are {name}, the first from .*--levels LO,HI"):
        spec_of(data)
    spec = spec_of(data, levels=(-1000, 3000))
    assert (spec.depth, spec.levels) == (name, (-1000, 3000))


def test_channels_without_names_are_to_be_named(tmp_path: Path) -> None:
    data = written(tmp_path, [noise(16, 24, 5)])
    with pytest.raises(UsageError, match=r"5 channels without names.*--channels red,green"):
        spec_of(data)
    names = (*RGB, "nir", "swir")
    spec = spec_of(data, channels=names)
    assert (spec.channels, len(spec.std)) == (names, 5)


def test_a_start_says_what_is_not_given(tmp_path: Path) -> None:
    data = written(tmp_path, [noise(16, 24, top=4096, dtype=np.uint16)])
    start = spec_of(data, levels=(0, 4095), channels=("gray",))
    assert spec_of(data, start=start) == start
    other = spec_of(data, start=start, levels=(0, 2047))
    assert (other.channels, other.levels) == (("gray",), (0, 2047))
    assert other.mean[0] == pytest.approx(2 * start.mean[0], rel=1e-2)
    told: list[str] = []
    plain = spec_of(data, start=InputSpec(8, 8), told=told)
    assert (plain.depth, plain.levels, plain.mean) == ("uint8", (0, 255), imagenet(RGB)[0])


def test_fill_is_for_padding(tmp_path: Path) -> None:
    data = written(tmp_path, [noise(16, 24)])
    first = read_picture(data.samples("train")[0].image)
    options: dict[str, Any] = {"reading": Reading(), "fill": 114.0}
    spec = input_for(data, first, (16, 24), resize="pad_centre", **options)
    assert (spec.resize, spec.fill) == ("pad_centre", 114.0)
    again = input_for(data, first, (16, 24), reading=Reading(), start=spec)
    assert again == spec
    with pytest.raises(UsageError, match="fill 114 without padding"):
        input_for(data, first, (16, 24), **options)


def test_a_constant_channel_has_a_deviation(tmp_path: Path) -> None:
    data = written(tmp_path, [np.full((16, 24), 3, np.uint16)])
    spec = InputSpec(
        16, 24, channels=("gray",), depth="uint16", levels=(0, 100), mean=(0,), std=(1,)
    )
    assert measure(data, spec) == ((0.03,), (1.0,), 3.0)


# The check of a data set


def test_images_of_a_data_set_must_agree(tmp_path: Path) -> None:
    data = written(tmp_path, [noise(16, 24), noise(16, 24, dtype=np.uint16)])
    with pytest.raises(DatasetError, match=r"1\.tif is uint16 of gray or RGB; .*0\.tif is uint8"):
        check_dataset(data)


def test_check_tells_depth_and_range(tmp_path: Path) -> None:
    contents = check_dataset(written(tmp_path, [noise(16, 24, top=4081, dtype=np.uint16)]))
    assert contents.depth == "uint16"
    assert contents.span[1] == contents.to_json()["span"][1] > 4000  # type: ignore[index]
    assert "values are uint16, " in contents.table()


def test_images_that_do_not_fit_the_net_are_found_before_training(tmp_path: Path) -> None:
    data = written(tmp_path, [noise(16, 24, 5)])
    with pytest.raises(EdgeUNetError, match=r"0\.tif has 5 channels; the net takes red, green"):
        check_dataset(data, Fit(InputSpec(16, 24)))


def test_filter_is_the_given_one_or_that_of_the_start(tmp_path: Path) -> None:
    data = written(tmp_path, [noise(16, 24)])
    first = read_picture(data.samples("train")[0].image)
    start = InputSpec(8, 8, filter="pillow")
    for given, known, wanted in (
        (None, None, "bilinear"),
        (None, start, "pillow"),
        ("area", start, "area"),
    ):
        made = input_for(data, first, (16, 24), reading=Reading(), filter=given, start=known)
        assert made.filter == wanted


@pytest.mark.parametrize("how", ["pillow", "pillow_bicubic"])
def test_byte_filters_are_refused_for_other_images(tmp_path: Path, how: Any) -> None:
    data = written(tmp_path, [noise(16, 24, top=4096, dtype=np.uint16)])
    first = read_picture(data.samples("train")[0].image)
    words = f"the filter {how} rounds to bytes, but the images are uint16. Pass --filter antialias"
    with pytest.raises(UsageError, match=words):
        input_for(data, first, (16, 24), reading=Reading(), filter=how)
