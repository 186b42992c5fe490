"""Run lengths: equal to those of pycocotools, number by number and character by character."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from edgeunet.data.layouts.drawing import runs_of
from edgeunet.shapes.runs import Ids, compress, compressed_runs, run_lengths

KINDS = [np.uint8, np.int16, np.int32, np.int64]


@st.composite
def maps(draw: st.DrawFn) -> Ids:
    """Small maps of few ids, and larger ones whose runs and differences have several digits."""
    kind = draw(st.sampled_from(KINDS))
    small = draw(
        hnp.arrays(
            kind,
            hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
            elements=st.sampled_from([0, 1, 2, 100]),
        )
    )
    return np.kron(small, np.ones(draw(st.tuples(*[st.sampled_from([1, 3, 40])] * 2)), kind))


@given(ids=maps())
def test_run_lengths_are_those_of_pycocotools(ids: Ids) -> None:
    counts, texts = run_lengths(ids), compressed_runs(ids)
    assert list(counts) == list(texts) == np.unique(ids).tolist()
    for key in counts:
        inside = np.asfortranarray(ids == key, np.uint8)
        wanted = coco.encode(inside)
        assert texts[key] == wanted["counts"].decode()
        assert counts[key].tolist() == runs_of(texts[key]).tolist()
        # pycocotools gives no uncompressed run lengths; what it makes of ours is the same mask.
        made = coco.frPyObjects({"size": list(ids.shape), "counts": counts[key].tolist()}, 0, 0)
        assert made["counts"] == wanted["counts"]


@given(counts=st.lists(st.integers(0, 2**12) | st.integers(0, 2**30), min_size=1, max_size=12))
def test_numbers_of_every_length_are_written_as_pycocotools_does(counts: list[int]) -> None:
    made = coco.frPyObjects({"size": [1 << 20, 1 << 20], "counts": counts}, 0, 0)
    assert compress(counts) == made["counts"].decode()
    assert runs_of(compress(counts)).tolist() == counts


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_transposed_and_cut_maps_are_read_as_they_are_seen(shape: tuple[int, int]) -> None:
    wide = np.arange(4 * shape[0] * shape[1], dtype=np.uint8).reshape(2 * shape[0], -1) % 3
    for seen in (wide[::2, ::2], wide[::2, ::2].T):
        assert compressed_runs(seen) == compressed_runs(seen.copy())
