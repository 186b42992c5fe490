"""Each peer that is installed, on a small net: its masks are the reference's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeunet.benchmark.peers import PEERS, Peer, PeerNet
from edgeunet.benchmark.tools import Made, open_openvino, open_ort
from edgeunet.bundle.bundle import open_bundle
from edgeunet.runtime.backends.preprocess import Preprocessor


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_gives_the_masks_of_the_net(peer: Peer, fp32_bundle: Path, tmp_path: Path) -> None:
    if peer.missing is not None:
        pytest.skip(f"{peer.name} is {peer.missing}")
    bundle = open_bundle(fp32_bundle)
    golden = bundle.golden()
    images = Preprocessor(bundle.manifest.input)(list(golden.frames))
    path = peer.make(bundle.model_path("fp32"), images, tmp_path / "peer")
    wanted = golden.logits[:3].argmax(1)
    shape = 2, *images.shape[1:]
    with PeerNet(peer, Made(path, shape), threads=1) as net:
        found = net.infer(images[:3]).logits.argmax(1)
    assert np.mean(found == wanted) >= (0.95 if peer.precision == "int8" else 0.999)


def test_runtimes_open_the_graph_itself(fp32_bundle: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    bundle = open_bundle(fp32_bundle)
    images = Preprocessor(bundle.manifest.input)(list(bundle.golden().frames[:2]))
    made = Made(bundle.model_path("fp32"), (2, *images.shape[1:]))
    ours, theirs = open_ort(made, 1), open_openvino(made, 1, INFERENCE_PRECISION_HINT="f32")
    np.testing.assert_allclose(ours(images)[0], theirs(images)[0], atol=1e-3)
