"""A compiled net in a bundle: what is told of it, and what is refused before anybody loads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import MANIFEST_NAME, InputSpec
from edgeunet.bundle.rknn import RknnCard, in_order, read_rknn, to_bytes
from edgeunet.bundle.schema import encode
from edgeunet.errors import BundleError, UsageError
from edgeunet.files import sha256, write_json
from edgeunet.runtime.backends.preprocess import Preprocessor
from support.rockchip import compiled

fractions = st.floats(0.05, 0.95)


@given(
    mean=st.tuples(fractions, fractions),
    std=st.tuples(fractions, fractions),
    seed=st.integers(0, 99),
)
def test_input_becomes_the_bytes_that_it_was_made_of(
    mean: tuple[float, ...], std: tuple[float, ...], seed: int
) -> None:
    spec = InputSpec(8, 24, channels=("a", "b"), mean=mean, std=std, levels=(10.0, 200.0))
    frames = np.random.default_rng(seed).integers(0, 256, (2, 8, 24, 2), np.uint8)
    found = to_bytes(Preprocessor(spec)(list(frames)), spec)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, frames)


def test_values_between_two_bytes_and_beyond_are_rounded() -> None:
    spec = InputSpec(1, 1, channels=("a",), mean=(0.0,), std=(1.0,))
    images = np.array([-3, 9.4, 9.6, 300], np.float32).reshape(4, 1, 1, 1) / 255
    assert to_bytes(images, spec).ravel().tolist() == [0, 9, 10, 255]


@pytest.fixture
def bundle(int8_bundle: Path, tmp_path: Path) -> Bundle:
    return compiled(open_bundle(int8_bundle), tmp_path, "fp16")


def relisted(bundle: Bundle, **values: object) -> Bundle:
    """The bundle with another card, whose hash the manifest lists."""
    path = bundle.root / "rknn.json"
    write_json(path, json.loads(path.read_text()) | values)
    files = {**bundle.manifest.files, path.name: sha256(path)}
    write_json(bundle.root / MANIFEST_NAME, encode(replace(bundle.manifest, files=files)))
    return open_bundle(bundle.root)


def test_bundle_with_a_compiled_net(bundle: Bundle) -> None:
    card, content = read_rknn(bundle)
    assert (card.soc, card.cores, card.outputs) == ("rk3588", 3, ("logits",))
    assert content == (bundle.root / "model.rknn").read_bytes()
    with pytest.raises(UsageError, match=r"computes in FP16, and INT8 is wanted.*--flavour int8"):
        read_rknn(replace(bundle, manifest=replace(bundle.manifest, precision="int8")))


def test_bundle_without_one_says_how_to_compile(fp32_bundle: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no model\.rknn\. Compile one: .*--to rockchip"):
        read_rknn(open_bundle(fp32_bundle))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def turned(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("change", [cut, turned, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["model.rknn", "rknn.json"])
def test_changed_file_is_refused_by_its_hash(
    bundle: Bundle, name: str, change: Callable[[Path], object]
) -> None:
    change(bundle.root / name)
    with pytest.raises(BundleError, match=rf"{name} has SHA-256 .* the manifest expects"):
        open_bundle(bundle.root)
    with pytest.raises(BundleError, match=r"the manifest expects"):  # changed since it was opened
        read_rknn(bundle)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"soc": "rk9999"}, r"soc is 'rk9999'; expected one of rk3562, "),
        ({"outputs": ["mask"]}, r"outputs are mask; expected logits, presence"),
        ({"schema_version": 9}, r"has schema version 9; this edgeunet reads 1"),
        ({"cycles": "many"}, r"\$\.cycles: expected int"),
    ],
)
def test_card_that_does_not_fit_is_refused(
    bundle: Bundle, values: dict[str, object], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        read_rknn(relisted(bundle, **values))


def test_another_number_of_outputs_is_refused() -> None:
    card = RknnCard("rk3566", "int8", "2.5.0", ("logits",), {}, (), 1)
    assert card.cores == 1
    (only,) = in_order([np.ones((1, 2), np.float16)], card)
    assert only.dtype == np.float32
    with pytest.raises(BundleError, match=r"gives 2 outputs; expected logits\. Deploy"):
        in_order([only, only], card)
