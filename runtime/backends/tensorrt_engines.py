"""The engines of a bundle on a GPU: built if none fit, loaded, and new ones judged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.golden import PROMISED
from edgeunet.bundle.manifest import Manifest, Part
from edgeunet.errors import BackendError, EngineError, MissingDependencyError

from ..frames import Batch, NetOutputs
from ..gpu.cuda import CudaDevice
from ..gpu.engine import BuiltEngine, build_bundle_engine, engine_parts, load_toolkit
from ..gpu.engine.execution import LoadedEngine
from ..gpu.engine.keep import note_agreement
from ..gpu.engine.log import objects_freed
from ..pipeline.stopping import Closing
from .base import Net, NetBackend
from .tensorrt_slot import Slot, SlotNet
from .tiling import by_windows

_log = logging.getLogger(__name__)


class Engines(Closing):
    """A bundle's engine, or those of its parts, on a GPU.

    TensorRT chooses tactics by their time, so each build rounds in its own way. Each plan is
    therefore judged once, by the golden frames. If one of FP16 agrees with PyTorch less than
    promised, it is built again with its head in FP32. The sidecar keeps what was found.

    Args:
        kind: "tensorrt" or "rtx". device: index of `gpu`. Others: as in `build_bundle_engine`.

    Attributes:
        built: the plans with their cards. loaded: the same, on the GPU.

    Raises:
        As `build_bundle_engine`, `engine_parts` and `LoadedEngine`. BackendError: an engine does
        not fit the manifest.
    """

    def __init__(
        self,
        bundle: Bundle,
        gpu: CudaDevice,
        *,
        kind: str,
        device: int = 0,
        dla: int | None = None,
        workspace_mb: int | None = None,
        trust_engines: bool = False,
        report: Callable[[str], None] = _log.warning,
        progress: Callable[[float], None] = lambda done: None,
    ) -> None:
        self._bundle, self._gpu, self._report = bundle, gpu, report
        self._build = partial(
            build_bundle_engine,
            bundle,
            runtime=kind,
            here=True,
            device=device,
            dla=dla,
            workspace_mb=workspace_mb,
            trust_engines=trust_engines,
            report=report,
            progress=progress,
        )
        toolkit = load_toolkit(kind)
        self._open = partial(LoadedEngine, toolkit, dla=dla, trust=trust_engines, report=report)
        self._parts = engine_parts(bundle, runtime=kind)
        self._held = ExitStack()
        self.built: list[BuiltEngine] = []
        self.loaded: list[LoadedEngine] = []
        with ExitStack() as undone:
            undone.callback(self.close)
            self._load()
            if any(each.card.agreement is None for each in self.built):
                self._judge()
            undone.pop_all()

    def close(self) -> None:
        """Free the engines. Their contexts must be gone."""
        self.loaded = []
        self._held.close()

    def _load(self) -> None:
        self.built, self.loaded = [], []
        for part in self._parts:
            built, engine = self._load_part(part)
            self.built.append(built)
            self.loaded.append(self._held.enter_context(engine))
        _check_ends(self.loaded, self._bundle.manifest)

    def _load_part(self, part: Part | None) -> tuple[BuiltEngine, LoadedEngine]:
        """Load an engine. If an existing one cannot be loaded, build it once more."""
        built = self._build(part=part)
        try:
            return built, self._on_gpu(built)
        except EngineError as error:
            if built.built:
                raise
            self._report(f"{error} It is built again.")
        built = self._build(part=part, force=True)
        return built, self._on_gpu(built)

    def _on_gpu(self, built: BuiltEngine) -> LoadedEngine:
        with self._gpu.current("loading an engine"), objects_freed():
            return self._open(built.path, self._gpu, sha256=built.card.plan_sha256)

    def _judge(self) -> None:
        """Measure the agreement, improve it if it is too low, and note it."""
        precision = self._bundle.manifest.precision
        promised, fp16_head = PROMISED[precision], None
        agreement = self._agreement()
        if agreement < promised and precision == "fp16" and not self._has_fp32_head:
            self._report(
                f"FP16 agrees with PyTorch on {agreement:.2%} of the golden pixels; expected "
                f"{promised:.1%}. The engine is built again with its head in FP32."
            )
            self._move_head()
            if self._has_fp32_head:
                agreement, fp16_head = self._agreement(), agreement
                self._report(
                    f"with the head in FP32, {agreement:.2%} of the golden pixels agree; with it "
                    f"in FP16, {fp16_head:.2%} did"
                )
        self.built = [
            note_agreement(each, agreement, fp16_head=fp16_head, report=self._report)
            for each in self.built
        ]
        if agreement < promised:
            self._report(
                f"{self._bundle.root} in {precision.upper()} agrees with PyTorch on only "
                f"{agreement:.2%} of the golden pixels; expected {promised:.1%}. `edgeunet parity` "
                "says where they differ; `edgeunet build --force` chooses other tactics."
            )

    @property
    def _has_fp32_head(self) -> bool:
        return bool(self.built[-1].card.changes.fp32_layers)

    def _agreement(self) -> float:
        with Slot(self._gpu, self.loaded, None, self._bundle.manifest.gate) as slot:
            return _golden_agreement(self._bundle, SlotNet(slot))

    def _move_head(self) -> None:
        """Build the engine with the head again, in FP32. If that fails, the old one stays."""
        self.close()  # the build needs the memory
        try:
            self._build(part=self._parts[-1], fp32_head=True)
        except (EngineError, MissingDependencyError) as error:
            self._report(f"the head stays in FP16: {error}")
        self._load()


def _check_ends(engines: Sequence[LoadedEngine], manifest: Manifest) -> None:
    """Raise BackendError unless kernels and engines agree on all sizes: GPUs check no bounds."""
    spec, classes = manifest.input, len(manifest.classes)
    wanted = {
        "image": (len(spec.mean), spec.height, spec.width),
        "logits": (classes, *manifest.logits_size),
        "presence": (classes,),
    }
    found = {name: each.shape for engine in engines for name, each in engine.tensors.items()}
    for name, shape in wanted.items():
        if name == "presence" and manifest.gate is None and name not in found:
            continue
        if found.get(name) != shape:
            raise BackendError(
                f"expected an engine with {name} {shape}, got {found.get(name, 'none')}: the graph "
                "does not fit the manifest of its bundle. Export the bundle again."
            )


def _golden_agreement(bundle: Bundle, net: Net) -> float:
    """Share of the golden pixels that agree with PyTorch's masks; 0 if a logit is not finite.

    Pre- and post-processing run on the host, so the net alone is judged.

    Raises:
        BundleError: the golden frames are damaged. BackendError: the net's outputs do not fit the
            manifest, see `check_outputs`.
    """
    golden, limit = bundle.golden(), bundle.manifest.max_batch
    watched = _Watched(net)
    backend = by_windows(NetBackend(bundle, watched, name="engine"))
    right = 0
    for at in range(0, len(golden.frames), limit):
        batch = backend.segment(Batch.of(list(golden.frames[at : at + limit])))
        if not watched.finite:
            return 0.0
        right += int(np.sum(batch.masks == golden.masks[at : at + limit]))
    return right / golden.masks.size


class _Watched(Net):
    """A net that always computes its logits, and remembers whether all were finite."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self.finite = True

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        outputs = self._net.infer(images)
        self.finite = self.finite and outputs.is_finite
        return outputs
