"""Peers: what they make is kept, what they raise is told, and batches are filled."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeunet.benchmark import peers
from edgeunet.benchmark.peers import PEERS, Peer, PeerNet
from edgeunet.benchmark.tools import Images, Made, Run
from edgeunet.errors import BackendError

IMAGES = np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1)


def a_peer(seen: list[object]) -> Peer:
    def convert(graph: Path, images: Images, folder: Path) -> Path:
        seen.append((graph.name, len(images)))
        (folder / "net.any").write_text("doubles")
        print("a library that talks")
        os.write(1, b"and one that does so past Python")
        return folder / "net.any"

    def load(made: Made, threads: int) -> Run:
        seen.append(threads)

        def run(images: Images) -> list[Images]:
            seen.append(images.shape)
            return [2 * images, images]

        return run

    return Peer("mine", "fp32", ("numpy",), "pip install numpy", convert, load)


def test_a_model_is_made_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[object] = []
    peer = a_peer(seen)
    path = peer.make(Path("net.onnx"), IMAGES, tmp_path / "mine")
    assert path.read_text() == "doubles"
    assert peer.make(Path("net.onnx"), IMAGES, tmp_path / "mine") == path
    assert seen == [("net.onnx", 5)]
    written = capfd.readouterr()
    assert written.out == "", "stdout may be JSON"
    assert written.err == "and one that does so past Python"
    (tmp_path / "mine" / "made").unlink()  # as if it had been interrupted
    (tmp_path / "mine" / "rest").touch()
    peer.make(Path("net.onnx"), IMAGES, tmp_path / "mine")
    assert len(seen) == 2
    assert not (tmp_path / "mine" / "rest").exists()


def test_batches_are_filled_and_outputs_counted(tmp_path: Path) -> None:
    seen: list[object] = []
    with PeerNet(a_peer(seen), Made(tmp_path, (2, 1, 1, 1)), threads=3) as net:
        found = net.infer(IMAGES)
    assert found.logits.ravel().tolist() == [0, 2, 4, 6, 8]
    assert found.presence is None
    assert seen == [3, *[(2, 1, 1, 1)] * 3]
    with PeerNet(a_peer([]), Made(tmp_path, (8, 1, 1, 1), outputs=2)) as net:
        presence = net.infer(IMAGES).presence
    assert presence is not None
    assert presence.ravel().tolist() == [0, 1, 2, 3, 4]


def test_whatever_a_peer_raises_is_told(tmp_path: Path) -> None:
    def fail(*arguments: object) -> Path:
        raise KeyError("a long\nstory")

    peer = replace(a_peer([]), convert=fail)
    with pytest.raises(BackendError, match="mine does not take the graph: KeyError: "):
        peer.make(Path("net.onnx"), IMAGES, tmp_path / "mine")
    with pytest.raises(BackendError, match="mine does not load it: KeyError"):
        PeerNet(replace(peer, open=fail), Made(tmp_path, (1, 1, 1, 1)))  # type: ignore[arg-type]
    broken = replace(peer, open=lambda made, threads: fail)  # type: ignore[arg-type, return-value]
    net = PeerNet(broken, Made(tmp_path, (1, 1, 1, 1)))
    with pytest.raises(BackendError, match="mine failed: KeyError"):
        net.infer(IMAGES)


def test_versions_are_of_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_UNKNOWN_TO_EXTRAS", ("numpy", "no-such-package"))
    assert peers.peer_versions() == {"numpy": np.__version__}


def test_missing_peers_say_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    assert all(peer.missing == f"not installed: {peer.install}" for peer in PEERS)
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: "there")
    assert [peer.missing for peer in PEERS] == [None] * len(PEERS)
