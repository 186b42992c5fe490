"""ONNX Runtime on the CPU, the default if there is no GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import Bundle, BundleFile
from edgeunet.bundle.engines import engine_dtype
from edgeunet.bundle.graphs import check_graph, read_graph
from edgeunet.bundle.manifest import Exported, Flavour, Manifest, Precision
from edgeunet.doctor import cores
from edgeunet.errors import BackendError, BundleError, MissingDependencyError, UsageError

from ..frames import NetOutputs
from ..options import LoadOptions
from .base import CLOSED, Net, NetBackend
from .postprocess import open_classes

try:
    import onnxruntime
except ImportError:
    raise MissingDependencyError("onnxruntime", "cpu") from None

# INT8 has a graph of its own here: ONNX Runtime is fast with unsigned, asymmetric activations.
_FLAVOUR: dict[Precision, Flavour] = {"fp32": "fp32", "fp16": "fp16", "int8": "int8.cpu"}
# Precision of the engines that have this graph's rounding.
_ENGINE: dict[Flavour, Exported] = {"fp16": "fp16", "int8": "int8", "int8.fp16": "int8"}
_AS_WRITTEN = ("int8", "int8.fp16")

Arrays = list[npt.NDArray[Any]]
Graph = Path | bytes | BundleFile


def open_onnxruntime(bundle: Bundle, options: LoadOptions) -> NetBackend:
    """The graph of the bundle's precision, on all cores or `options.threads`.

    Raises:
        BackendError: ONNX Runtime cannot load the graph.
    """
    return open_flavour(bundle, _FLAVOUR[bundle.manifest.precision], threads=options.threads)


def open_flavour(
    bundle: Bundle,
    flavour: Flavour,
    *,
    threads: int | None = None,
    rewritten: Callable[[bytes], bytes] | None = None,
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
    )
    net.check(bundle.manifest, name=str(bundle.root))
    return NetBackend(bundle, net, name="onnxruntime")


class OrtNet(Net):
    """A graph on ONNX Runtime.

    If the graph comes in two parts, the decoder runs only for the frames whose gate leaves more
    than one class open. A stream runs two batches at once, each on half of the threads: one uses
    the cores that the other leaves idle.

    Args:
        graph: the whole net, or encoder and gate if there is a decoder.
        decoder: the second part.
        gate: thresholds of the presence, None without a gate.
        threads: None for all cores.
        flavour: of the graph. TensorRT's INT8 graphs run node by node, without fusing or
            reordering, and those of FP16 and TensorRT's INT8 get and give what an engine would:
            see `engine_dtype`. Their own Casts do not do that: ONNX Runtime removes them, and
            computes FP16 graphs in FP32 with weights of FP16.

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
    ) -> None:
        options = _session_options(threads, as_written=flavour in _AS_WRITTEN)
        self._dtype = engine_dtype(_ENGINE.get(flavour, "fp32"))
        self._first: onnxruntime.InferenceSession | None = _open(graph, options)
        self._decoder = None if decoder is None else _open(decoder, options)
        self._has_decoder = decoder is not None
        self._gate = gate
        available = threads or cores()
        self.lanes = min(2, available)
        self._open_lane = partial(
            OrtNet,
            graph,
            decoder=decoder,
            gate=gate,
            threads=available // self.lanes,
            flavour=flavour,
        )
        self._opening = threading.Lock()
        self._lane: OrtNet | None = None

    @property
    def input_shapes(self) -> dict[str, list[Any]]:
        """Shapes of the graph's inputs by name, as the graph gives them: numbers and symbols."""
        return {value.name: value.shape for value in _opened(self._first).get_inputs()}

    @property
    def output_shapes(self) -> dict[str, list[Any]]:
        """Shapes of the graph's outputs by name, as the graph gives them: numbers and symbols."""
        return {value.name: value.shape for value in _opened(self._first).get_outputs()}

    def check(self, manifest: Manifest, *, name: str) -> None:
        """Raise BundleError if the graph's declared ends are not those that the manifest tells.

        Sides that the graph leaves open are not compared; `check_outputs` does that later.
        """
        spec, classes = manifest.input, len(manifest.classes)
        image = ("image", [None, len(spec.mean), spec.height, spec.width])
        logits = ("logits", [None, classes, *manifest.logits_size])
        presence = ("presence", [None, classes])
        outputs = _opened(self._first).get_outputs()
        ends = [(*image, _opened(self._first).get_inputs())]
        if self._decoder is not None:
            ends += [(*presence, outputs[:1]), (*logits, self._decoder.get_outputs())]
        else:
            ends.append((*logits, outputs[:1]))
            if manifest.gate is not None or len(outputs) > 1:
                ends.append((*presence, outputs[1:]))
        for what, wanted, found in ends:
            shown = [f"{each.type} {each.shape}" for each in found]
            if len(found) != 1 or not _fits(found[0], wanted):
                raise BundleError(
                    f"{name}: expected one {what} tensor(float) {wanted}, the graph has "
                    f"{', '.join(shown) or 'none'}. Export the bundle again."
                )

    def run(self, image: npt.NDArray[Any]) -> Arrays:
        """All outputs of the graph (of its first part if there are two), in their order."""
        return _run(self._first, [image], self._dtype)

    def decode(self, features: Arrays) -> npt.NDArray[np.float32]:
        """Logits from the features of the first part."""
        return _run(self._decoder, features, self._dtype)[0]

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Net`."""
        first, *rest = self.run(images)
        if self._has_decoder:
            return NetOutputs(self.decode(rest), first)
        return NetOutputs(first, rest[0] if rest else None)

    def infer_gated(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Net`."""
        if not self._has_decoder:
            return self.infer(images)
        presence, *features = self.run(images)
        undecided = np.flatnonzero(open_classes(presence, self._gate).sum(axis=1) > 1)
        if len(undecided) == len(images):
            return NetOutputs(self.decode(features), presence)
        shape = _opened(self._decoder).get_outputs()[0].shape[1:]
        logits = np.zeros((len(images), *shape), np.float32)
        if len(undecided):
            logits[undecided] = self.decode([each[undecided] for each in features])
        return NetOutputs(logits, presence)

    def lane(self) -> OrtNet:
        """See `Net`; opened when it is first needed."""
        with self._opening:
            _opened(self._first)
            if self._lane is None:
                self._lane = self._open_lane()
            return self._lane

    def close(self) -> None:
        """Free the sessions, once the calls under way in other threads have ended."""
        with self._opening:
            lane, self._lane = self._lane, None
            self._first = self._decoder = None
        if lane is not None:
            lane.close()


def _fits(end: Any, wanted: Sequence[int | None]) -> bool:
    """Whether an input or output has this rank and these sides, as far as it names them."""
    pairs = zip(end.shape, wanted, strict=False)
    same = all(w is None or not isinstance(side, int) or side == w for side, w in pairs)
    # ONNX Runtime gives no sides for an unknown rank.
    return end.type == "tensor(float)" and len(end.shape) in (0, len(wanted)) and same


def _rounded(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """FP32 values rounded to a type, in FP32; others as they are."""
    if values.dtype != np.float32 or dtype == np.float32:
        return values
    with np.errstate(over="ignore"):  # what FP16 cannot hold is infinite in an engine too
        return values.astype(dtype).astype(np.float32)


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


def _open(graph: Graph, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Open a session of the bytes that were checked, without a path to find other files from."""
    name = "the graph" if isinstance(graph, bytes) else str(getattr(graph, "path", graph))
    if isinstance(graph, Path):
        content = read_graph(graph)
    else:
        content = graph if isinstance(graph, bytes) else graph.read()
        check_graph(content, name=name)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises several unrelated classes
        raise BackendError(f"ONNX Runtime cannot load {name}: {error}") from error


def _opened(session: onnxruntime.InferenceSession | None) -> onnxruntime.InferenceSession:
    """The session; UsageError if its net was closed."""
    if session is None:
        raise UsageError(CLOSED)
    return session


def _run(
    session: onnxruntime.InferenceSession | None, inputs: Arrays, dtype: np.dtype[Any]
) -> Arrays:
    """Run a session. FP32 inputs and outputs are rounded to `dtype`."""
    session = _opened(session)
    inputs = [_rounded(each, dtype) for each in inputs]
    names = [value.name for value in session.get_inputs()]
    try:
        outputs: Arrays = session.run(None, dict(zip(names, inputs, strict=True)))
    except Exception as error:  # as above
        raise BackendError(f"ONNX Runtime failed on {inputs[0].shape}: {error}") from error
    return [_rounded(each, dtype) for each in outputs]
