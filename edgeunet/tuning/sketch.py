"""A bundle of a net with random weights: wrong masks, and the speed of the trained one."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from torch.optim.swa_utils import update_bn

from ..benchmark.timing import first_seconds, sampled_latencies
from ..bundle.bundle import Bundle, open_bundle
from ..bundle.golden import GOLDEN_NAME
from ..bundle.manifest import FLAVOURS, MANIFEST_NAME, InputSpec, Manifest, flavour_file
from ..bundle.schema import encode
from ..data.datasets import Dataset
from ..errors import EdgeUNetError
from ..exporting.graphs.fp16 import half
from ..exporting.graphs.trace import trace
from ..exporting.int8.calibration.calibrate import make_table
from ..exporting.int8.calibration.observe import observe
from ..exporting.int8.emitters import write_int8
from ..files import sha256, write_json
from ..models import SegmentationNet, create_model
from ..models.reference import to_input
from ..runtime.backends import Backend, create_backend
from ..runtime.backends.candidates import candidates, is_worth_timing
from ..runtime.backends.golden import golden_agreement
from ..runtime.frames import Batch, Frame
from ..runtime.options import DEFAULTS
from .space import Configuration

SECONDS, BLOCKS = 1.2, 8
"""Of timing, for each way, in so many blocks."""


@dataclass(frozen=True)
class Sketcher:
    """Draws configurations of a variant as bundles, for frames of a data set.

    spec: input of the net; its size is each configuration's own. frames: of one size, fitted to the
    net, two at least.
    """

    model: str
    dataset: Dataset
    spec: InputSpec
    frames: Sequence[Frame]

    def input_of(self, configuration: Configuration) -> InputSpec:
        """Of a configuration."""
        height, width = configuration.size
        return replace(self.spec, height=height, width=width)

    def net(self, configuration: Configuration) -> SegmentationNet:
        """With random weights."""
        torch.manual_seed(0)
        return create_model(
            self.model,
            num_classes=len(self.dataset.classes),
            in_channels=len(self.spec.channels),
            **configuration.arguments,
        ).eval()

    def draw(self, configuration: Configuration, folder: Path) -> Bundle:
        """Write all graphs of an INT8 bundle, with ranges of two frames.

        Ranges and weights change what is computed, not how fast. The batch statistics are those of
        the frames, so that no activation is so small that a processor takes longer for it.

        Args:
            folder: empty.

        Raises:
            EdgeUNetError: a net that cannot be exported.
        """
        spec, net = self.input_of(configuration), self.net(configuration)
        shown = self.frames[:2]
        images = torch.cat([to_input(frame, spec) for frame in shown])
        update_bn([images], net)
        with torch.inference_mode():
            logits = net.eval()(images)
        assert isinstance(logits, torch.Tensor), "a search has no gates"
        reference = folder / flavour_file("fp32")
        trace(net, reference, height=spec.height, width=spec.width, channels=len(spec.channels))
        half(reference, folder / flavour_file("fp16"))
        seen = observe(reference, shown, spec)
        table = make_table(reference, seen, "minmax", model=self.model, source="a sketch")
        write_int8(folder, table)
        masks = np.zeros((len(shown), *shown[0].shape[:2]), np.uint8)
        np.savez(folder / GOLDEN_NAME, frames=np.stack(shown), masks=masks, logits=logits.numpy())
        manifest = Manifest(
            model=self.model,
            arguments=configuration.arguments,
            weights="random",
            precision="int8",
            classes=self.dataset.classes,
            palette=self.dataset.palette,
            input=spec,
            logits_size=(logits.shape[2], logits.shape[3]),
            max_batch=1,
            files={
                name: sha256(folder / name)
                for name in (GOLDEN_NAME, *map(flavour_file, FLAVOURS["int8"]))
            },
            versions={"python": platform.python_version()},
            reference="graph",
            origin="random weights",
        )
        write_json(folder / MANIFEST_NAME, encode(manifest))
        return open_bundle(folder)


def times_of(bundle: Bundle, frames: Sequence[Frame], *, checked: bool = False) -> dict[str, float]:
    """Median milliseconds of a whole frame, by engine and precision.

    All take turns in blocks of calls. The quietest block of each counts: other load on the machine
    makes calls longer, and none shorter.

    The engines and precisions are those that `auto` chooses from. One that cannot be loaded here is
    left out.

    Args:
        frames: fitted to the net, of one size.
        checked: leave out those that fail the golden check.
    """
    with ExitStack() as stack:
        calls = {}
        for candidate in candidates(bundle, DEFAULTS):
            if not is_worth_timing(candidate, DEFAULTS):
                continue
            try:
                backend = stack.enter_context(
                    create_backend(
                        candidate.backend,
                        bundle.at(candidate.precision),
                        candidate.options(DEFAULTS),
                    )
                )
                if checked:
                    golden_agreement(backend)
            except EdgeUNetError:
                continue
            calls[candidate.label] = _segments(backend, frames)
        first = {way: first_seconds(call) for way, call in calls.items()}
        blocks = [
            sampled_latencies(calls, budget=SECONDS / BLOCKS, rounds=1, first=first)
            for _ in range(BLOCKS)
        ]
    return {way: round(min(float(np.median(each[way])) for each in blocks), 4) for way in calls}


def _segments(backend: Backend, frames: Sequence[Frame]) -> Callable[[], object]:
    """A call that makes the mask of the next frame."""
    supply = cycle(frames)
    return lambda: backend.segment(Batch.of([next(supply)]))
