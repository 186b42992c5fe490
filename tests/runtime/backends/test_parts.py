"""Nets of one graph or of two parts, whatever computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeunet.bundle.manifest import InputSpec, Manifest
from edgeunet.errors import BundleError, UsageError
from edgeunet.runtime.backends.parts import Arrays, End, PartedNet, rounded

IMAGE, LOGITS = End("tensor(float)", ["n", 3, 8, 8]), End("tensor(float)", ["n", 2, 4, 4])
PRESENCE = End("tensor(float)", ["n", 2])
FEATURES = End("tensor(float)", ["n", 1, 8, 8])
MANIFEST = Manifest(
    model="net", arguments={}, weights="w", precision="fp32", classes=("a", "b"),
    palette=((0, 0, 0), (1, 1, 1)), input=InputSpec(8, 8), logits_size=(4, 4), max_batch=4,
    files={}, versions={}, reference="graph", origin="test",
)  # fmt: skip


class Halves(PartedNet[Sequence[End]]):
    """Presence is the mean of a frame; the decoder gives 1 + its features. Parts are their ends."""

    def __init__(self, *outputs: End, decoder: Sequence[End] | None = None, lanes: int = 1) -> None:
        super().__init__(
            outputs, decoder, gate=(0.0, 0.5), lanes=lanes, open_lane=lambda: self.opened()
        )
        self.decoded: list[int] = []
        self.others: list[Halves] = []
        self.closes = False

    def opened(self) -> Halves:
        self.others.append(Halves(LOGITS))
        return self.others[-1]

    def ends_of(self, part: Sequence[End]) -> tuple[Sequence[End], Sequence[End]]:
        return [IMAGE], part

    def compute(self, part: Sequence[End], inputs: Arrays) -> Arrays:
        (given,) = inputs
        if part is self._decoder:
            self.decoded.append(len(given))
            return [1 + np.repeat(given[:, :, ::2, ::2], 2, axis=1)]
        if self.closes:
            self.close()
        mean = given.mean((1, 2, 3))
        return [np.stack([np.ones_like(mean), mean], 1), given[:, :1]]


def test_the_decoder_runs_for_the_frames_that_the_gate_leaves_open() -> None:
    net = Halves(PRESENCE, FEATURES, decoder=[LOGITS])
    images = np.float32([0.1, 0.9, 0.2])[:, None, None, None] * np.ones((3, 3, 8, 8), np.float32)
    found = net.infer_gated(images)
    assert net.decoded == [1]
    assert [float(each.max()) for each in found.logits] == pytest.approx([0, 1.9, 0])
    assert found.logits.shape == (3, 2, 4, 4)
    assert not net.infer_gated(images[:1]).logits.any() and net.decoded == [1]
    np.testing.assert_array_equal(net.infer(images).presence, found.presence)
    net.closes = True  # by another thread, before the decoder runs
    with pytest.raises(UsageError, match="it is closed"):
        net.infer_gated(images)


def test_streams_have_a_net_of_their_own_if_it_has_lanes() -> None:
    alone = Halves(LOGITS)
    assert alone.lane() is alone and alone.others == []
    net = Halves(LOGITS, lanes=2)
    assert net.others == [], "it is opened when it is first needed"
    assert net.lane() is net.lane() is net.others[0]
    net.close()
    for each in (net, net.others[0]):
        with pytest.raises(UsageError, match="it is closed"):
            each.run(np.zeros((1, 3, 8, 8), np.float32))
    with pytest.raises(UsageError, match="it is closed"):
        net.lane()
    assert len(net.others) == 1
    net.close()


@pytest.mark.parametrize(
    ("net", "changes", "found"),
    [
        (Halves(LOGITS, PRESENCE, PRESENCE), {}, r"one presence tensor.*\['n', 2\], tensor"),
        (Halves(LOGITS), {"gate": (0.5, 0.5)}, "one presence tensor.*has none"),
        (
            Halves(LOGITS),
            {"logits_size": (4, 8)},
            r"logits .*\[None, 2, 4, 8\], .*\['n', 2, 4, 4\]",
        ),
        (Halves(LOGITS), {"input": InputSpec(8, 16)}, "one image tensor"),
        (Halves(End("tensor(float16)", LOGITS.shape)), {}, r"has tensor\(float16\)"),
        (Halves(PRESENCE, FEATURES, decoder=[PRESENCE]), {}, "one logits tensor"),
        (Halves(LOGITS, FEATURES, decoder=[LOGITS]), {}, "one presence tensor"),
    ],
)
def test_ends_that_the_manifest_does_not_tell_are_refused(
    net: Halves, changes: dict[str, Any], found: str
) -> None:
    with pytest.raises(BundleError, match=found):
        net.check(replace(MANIFEST, **changes), name="net")


def test_open_sides_and_unknown_ranks_fit() -> None:
    for shape in ([], ["n", 2, "h", "w"], ["n", 2, 4, 4]):
        Halves(End("tensor(float)", shape)).check(MANIFEST, name="net")


def test_only_fp32_is_rounded() -> None:
    values = np.float32([1.0001, 1e5])
    assert rounded(values, np.dtype(np.float16)).tolist() == [1.0, np.inf]
    assert rounded(values, np.dtype(np.float32)) is values
    ids = np.arange(3)
    assert rounded(ids, np.dtype(np.float16)) is ids
