"""ONNX Runtime: on the CPU, the default if there is no GPU, or on another of its providers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.engines import engine_dtype
from edgeunet.bundle.manifest import Exported, Flavour, Precision
from edgeunet.doctor import cores
from edgeunet.errors import BackendError, MissingDependencyError

from ..options import LoadOptions
from .base import NetBackend
from .parts import Arrays, End, Graph, PartedNet, name_of, opened, rounded, self_contained
from .placement import Placement

try:
    import onnxruntime
except ImportError:
    raise MissingDependencyError("onnxruntime", "cpu") from None

# INT8 has a graph of its own here: ONNX Runtime is fast with unsigned, asymmetric activations.
_FLAVOUR: dict[Precision, Flavour] = {"fp32": "fp32", "fp16": "fp16", "int8": "int8.cpu"}
# Precision of the engines that have this graph's rounding.
_ENGINE: dict[Flavour, Exported] = {"fp16": "fp16", "int8": "int8", "int8.fp16": "int8"}
_AS_WRITTEN = ("int8", "int8.fp16")


def open_onnxruntime(bundle: Bundle, options: LoadOptions) -> NetBackend:
    """The graph of the bundle's precision, on all cores or `options.threads`, or on a provider.

    Raises:
        BackendError: ONNX Runtime cannot load the graph, or start `options.provider`.
        UsageError: see `Placement.of`.
    """
    placement = Placement.of(bundle, options)
    flavour = _FLAVOUR[bundle.manifest.precision] if placement is None else placement.flavour
    return open_flavour(bundle, flavour, threads=options.threads, placement=placement)


def open_flavour(
    bundle: Bundle,
    flavour: Flavour,
    *,
    threads: int | None = None,
    rewritten: Callable[[bytes], bytes] | None = None,
    placement: Placement | None = None,
) -> NetBackend:
    """Open one of the bundle's graphs, see `OrtNet`.

    Args:
        rewritten: makes of a graph another one that computes the same.
    """

    def graph(path: Path) -> Graph:
        file = bundle.file(path)
        return file if rewritten is None else rewritten(file.read())

    decoder = bundle.part_path(flavour, "decoder")
    net = OrtNet(
        graph(bundle.part_path(flavour, "encoder") or bundle.model_path(flavour)),
        decoder=decoder and graph(decoder),
        gate=bundle.manifest.gate,
        threads=threads,
        flavour=flavour,
        placement=placement,
    )
    net.check(bundle.manifest, name=str(bundle.root))
    name = "onnxruntime" if placement is None else f"onnxruntime {placement.name}"
    return NetBackend(bundle, net, name=name)


class OrtNet(PartedNet[onnxruntime.InferenceSession]):
    """A graph on ONNX Runtime.

    A stream runs two batches at once, each on half of the threads: one uses the cores that the
    other leaves idle.

    Args:
        graph: the whole net, or encoder and gate if there is a decoder.
        decoder: the second part.
        gate: thresholds of the presence, None without a gate.
        threads: None for all cores.
        flavour: of the graph. TensorRT's INT8 graphs run node by node, without fusing or
            reordering, and those of FP16 and TensorRT's INT8 get and give what an engine would:
            see `engine_dtype`. Their own Casts do not do that: ONNX Runtime removes them, and
            computes FP16 graphs in FP32 with weights of FP16.
        placement: the provider to run on instead of the CPU. It rounds by itself and has one lane.

    Raises:
        GraphError: a graph that is not self-contained, see `check_graph`. BundleError: a file that
        was changed. BackendError: ONNX Runtime cannot load the graph, or, later, run it.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        decoder: Graph | None = None,
        gate: Sequence[float] | None = None,
        threads: int | None = None,
        flavour: Flavour = "fp32",
        placement: Placement | None = None,
    ) -> None:
        placed = placement is not None

        def open_session(graph: Graph) -> onnxruntime.InferenceSession:
            options = _session_options(threads, as_written=flavour in _AS_WRITTEN)
            return _open(graph, options, placement)

        self._dtype = engine_dtype("fp32" if placed else _ENGINE.get(flavour, "fp32"))
        self._one_image = placement is not None and placement.provider.one_image
        sessions = [open_session(each) for each in (graph, decoder) if each is not None]
        if placement is not None:
            placement.check(sessions)
        available = threads or cores()
        lanes = 1 if placed else min(2, available)
        super().__init__(
            sessions[0],
            sessions[1] if decoder is not None else None,
            gate=gate,
            lanes=lanes,
            open_lane=partial(
                OrtNet,
                graph,
                decoder=decoder,
                gate=gate,
                threads=available // lanes,
                flavour=flavour,
            ),
        )

    @property
    def input_shapes(self) -> dict[str, list[Any]]:
        """Shapes of the graph's inputs by name, as the graph gives them: numbers and symbols."""
        return {value.name: value.shape for value in opened(self._first).get_inputs()}

    @property
    def output_shapes(self) -> dict[str, list[Any]]:
        """Shapes of the graph's outputs by name, as the graph gives them: numbers and symbols."""
        return {value.name: value.shape for value in opened(self._first).get_outputs()}

    def ends_of(self, part: onnxruntime.InferenceSession) -> tuple[Sequence[End], Sequence[End]]:
        """See `PartedNet`."""
        return part.get_inputs(), part.get_outputs()

    def compute(self, part: onnxruntime.InferenceSession, inputs: Arrays) -> Arrays:
        """See `PartedNet`. The batch may have to come image by image."""
        if not self._one_image or len(inputs[0]) == 1:
            return _run(part, inputs, self._dtype)
        alone = [
            _run(part, [each[index : index + 1] for each in inputs], self._dtype)
            for index in range(len(inputs[0]))
        ]
        return [np.concatenate(outputs) for outputs in zip(*alone, strict=True)]


def _session_options(threads: int | None, *, as_written: bool) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; its warnings are about its own optimiser
    # It would take content with the mark of its own format for that, unchecked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def _open(
    graph: Graph, options: onnxruntime.SessionOptions, placement: Placement | None
) -> onnxruntime.InferenceSession:
    """Open a session of the bytes that were checked, without a path to find other files from."""
    content = self_contained(graph)
    if placement is not None:
        return placement.open(content, options)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises several unrelated classes
        raise BackendError(f"ONNX Runtime cannot load {name_of(graph)}: {error}") from error


def _run(session: onnxruntime.InferenceSession, inputs: Arrays, dtype: np.dtype[Any]) -> Arrays:
    """Run a session. FP32 inputs and outputs are rounded to `dtype`."""
    inputs = [rounded(each, dtype) for each in inputs]
    names = [value.name for value in session.get_inputs()]
    try:
        outputs: Arrays = session.run(None, dict(zip(names, inputs, strict=True)))
    except Exception as error:  # as above
        raise BackendError(f"ONNX Runtime failed on {inputs[0].shape}: {error}") from error
    return [rounded(each, dtype) for each in outputs]
