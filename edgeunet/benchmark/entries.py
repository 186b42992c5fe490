"""What takes part in a benchmark: candidates of `auto`, TensorRT's engines, and peers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

from ..bundle.bundle import Bundle
from ..bundle.manifest import Precision
from ..errors import UsageError
from ..extras import is_installed
from ..runtime.backends import Backend, create_backend
from ..runtime.backends.base import NetBackend
from ..runtime.backends.candidates import Candidate, candidates, is_worth_timing
from ..runtime.backends.tiling import TiledBackend, by_windows
from ..runtime.gpu.libcuda import has_gpu
from ..runtime.options import DEFAULTS, LoadOptions, Tiling
from ..runtime.segmenter import Segmenter
from .peers import PEERS, Peer, PeerNet
from .tools import Made

_ON_THE_GPU = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx_bindings"}
"""Backends that `auto` takes without measuring, and what Python imports for them."""


@dataclass(frozen=True)
class Entry:
    """Something to measure in one setting.

    bundle: in no precision yet, of the depth to measure. depth: None if there is one only.
    options: with threads and tiling. candidate: or else `peer`, with what it made.
    """

    bundle: Bundle
    options: LoadOptions
    candidate: Candidate | None = None
    peer: Peer | None = None
    made: Made | None = None
    depth: int | None = None

    @property
    def name(self) -> str:
        """Of engine and precision."""
        found = self.candidate or self.peer
        assert found is not None
        return found.label

    @property
    def precision(self) -> Precision:
        """What it computes in."""
        found = self.candidate or self.peer
        assert found is not None
        return found.precision

    @property
    def contends(self) -> bool:
        """Whether `auto` may choose it."""
        if self.candidate is None or self.candidate.backend in _ON_THE_GPU:
            return self.candidate is not None
        return is_worth_timing(self.candidate, self.options)

    @property
    def tiling(self) -> Tiling | None:
        """How frames are cut."""
        return self.options.tiling

    def open(self) -> Segmenter:
        """Load it.

        Raises:
            EdgeUNetError: it cannot be loaded on this machine.
        """
        if self.candidate is None:
            assert self.peer is not None and self.made is not None
            plain = self.bundle.at("fp32")
            net = PeerNet(self.peer, self.made, threads=self.options.threads)
            return Segmenter(plain, NetBackend(plain, net, name=self.peer.name))
        bundle = self.bundle.at(self.candidate.precision)
        options = self.candidate.options(self.options)
        if self.candidate.backend in _ON_THE_GPU:
            options = replace(self.options, precision=None, threads=None, tiling=None)
        whole = create_backend(self.candidate.backend, bundle, options)
        backend: Backend = by_windows(whole)
        plain_backends = [backend]
        if self.tiling is not None:
            backend = TiledBackend(whole, self.tiling)
        return Segmenter(bundle, backend, plain=plain_backends)


def entries_of(bundle: Bundle, options: LoadOptions) -> Iterator[Entry]:
    """All that can be tried on this machine, at every depth that the bundle carries.

    Args:
        options: with the threads of the setting, without tiling.
    """
    for depth in reversed(bundle.depths or (None,)):
        at = bundle if depth is None else bundle.at_depth(depth)
        for candidate in _all_candidates(at, options):
            yield Entry(at, options, candidate, depth=depth)


def check_options(bundle: Bundle, options: LoadOptions) -> None:
    """Raise UsageError for options of a GPU that nothing here takes."""
    found = list(_all_candidates(bundle, options))
    gpu = any(each.backend in _ON_THE_GPU for each in found)
    device = gpu or options.processor is not None or any(each.provider for each in found)
    for name, used in (("device", device), ("dla", gpu), ("trust_engines", gpu)):
        if not used and getattr(options, name) != getattr(DEFAULTS, name):
            flag = name.replace("_", "-")
            raise UsageError(
                f"got --{flag}, and no engine here takes it: no GPU can be used. Leave it out; "
                "`edgeunet doctor` says what is missing."
            )


def _all_candidates(bundle: Bundle, options: LoadOptions) -> Iterator[Candidate]:
    yield from candidates(bundle, options)
    held = [each for each in get_args(Precision) if each in bundle.manifest.flavours]
    wanted = held if options.precision is None else [options.precision]
    if not has_gpu():
        return
    for backend, module in _ON_THE_GPU.items():
        if is_installed(module):
            yield from (Candidate(backend, precision) for precision in wanted)


def peer_called(name: str) -> Peer:
    """A peer by its name."""
    return next(peer for peer in PEERS if peer.name == name)
