"""OpenVINO on the CPU, an Intel GPU or an NPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.engines import engine_dtype
from edgeunet.bundle.manifest import Flavour, Precision
from edgeunet.doctor import cores
from edgeunet.errors import BackendError

from ..options import LoadOptions
from .base import NetBackend
from .openvino_library import Device, find_device, load_openvino, openvino_core, reason
from .parts import Arrays, End, Graph, PartedNet, name_of, rounded, self_contained

NAME = "openvino"
LARGEST_BATCH = 8
"""Most images that one request computes. Each size that comes is compiled: OpenVINO is up to twice
as fast if it knows the shapes. On a CPU, INT8 was 5 to 24 % faster in eights than one by one, and
FP32 between 7 % faster and 5 % slower."""

_FLAVOURS: dict[Precision, Flavour] = {
    "fp32": "fp32",
    "fp16": "fp16",
    "bf16": "fp32",
    "int8": "int8.openvino",
}
_TYPES = {"f32": "tensor(float)", "f16": "tensor(float16)"}


def open_openvino(bundle: Bundle, options: LoadOptions) -> NetBackend:
    """The graph of the bundle's precision on the device that the options name, or the CPU.

    Raises:
        MissingDependencyError: OpenVINO is not installed. UsageError: a precision that the device
        does not compute in, or an option that it does not have. BackendError: there is no such
        device, or OpenVINO cannot load the graph.
    """
    device = find_device(options)
    precision = bundle.manifest.precision
    flavour = _FLAVOURS[precision]
    decoder = bundle.part_path(flavour, "decoder")
    net = OpenVinoNet(
        bundle.file(bundle.part_path(flavour, "encoder") or bundle.model_path(flavour)),
        decoder=decoder and bundle.file(decoder),
        gate=bundle.manifest.gate,
        device=device,
        precision=precision,
        threads=options.threads,
    )
    net.check(bundle.manifest, name=str(bundle.root))
    return NetBackend(bundle, net, name=NAME)


class OpenVinoNet(PartedNet["_Part"]):
    """A graph on OpenVINO.

    Calls have all threads. A stream has a net of its own, see `lane`, which computes two batches at
    once, each on half of the threads. Whichever is used is compiled then: that takes half a second.

    Args:
        graph: the whole net, or encoder and gate if there is a decoder.
        decoder: the second part.
        gate: thresholds of the presence, None without a gate.
        device: None for the CPU.
        precision: to compute in. What is not INT8 in a graph with INT8 runs in BF16 on a CPU that
            has it, else in FP32.
        threads: of the CPU; None for all cores.
        streams: batches that it computes at once.

    Raises:
        GraphError: a graph that is not self-contained, see `check_graph`. BundleError: a file that
        was changed. UsageError: a precision that the device does not compute in. BackendError:
        OpenVINO cannot load the graph, or, later, compile or run it.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        decoder: Graph | None = None,
        gate: Sequence[float] | None = None,
        device: Device | None = None,
        precision: Precision = "fp32",
        threads: int | None = None,
        streams: int = 1,
    ) -> None:
        device = device or find_device()
        available = threads or cores()
        settings = _settings(device, device.hint(precision), available, streams)
        self._dtype = engine_dtype("fp16" if precision == "fp16" else "fp32")
        lanes = min(2, available) if device.is_cpu else 2

        def open_lane() -> OpenVinoNet:
            net = OpenVinoNet(
                graph,
                decoder=decoder,
                gate=gate,
                device=device,
                precision=precision,
                threads=threads,
                streams=lanes,
            )
            for part in filter(None, (net._first, net._decoder)):
                part.prepare()
            return net

        super().__init__(
            _Part(graph, device, settings),
            None if decoder is None else _Part(decoder, device, settings),
            gate=gate,
            lanes=lanes,
            open_lane=open_lane,
        )

    def ends_of(self, part: _Part) -> tuple[Sequence[End], Sequence[End]]:
        """See `PartedNet`."""
        return part.inputs, part.outputs

    def compute(self, part: _Part, inputs: Arrays) -> Arrays:
        """See `PartedNet`. As on ONNX Runtime, what enters and leaves a net of FP16 is rounded."""
        given = [rounded(each, self._dtype) for each in inputs]
        return [rounded(each, self._dtype) for each in part.run(given)]


class _Part:
    """A graph, compiled for each number of images that a request computes when that first comes.

    inputs, outputs: its ends.
    """

    def __init__(self, graph: Graph, device: Device, settings: dict[str, Any]) -> None:
        self._name, self._device, self._settings = name_of(graph), device, settings
        self._model = self._read(self_contained(graph))
        if device.prefers_signed:
            use_signed_bytes(self._model)
        self.inputs = [self._end(each) for each in self._model.inputs]
        self.outputs = [self._end(each) for each in self._model.outputs]
        self._compiling = threading.Lock()
        # By number of images: what is compiled, and requests that no thread uses.
        self._compiled: dict[int, Any] = {}
        self._idle: dict[int, list[Any]] = {}

    def prepare(self) -> None:
        """Compile it for one image, as the first call would."""
        self._idle.setdefault(1, []).append(self._request(1))

    def run(self, inputs: Arrays) -> Arrays:
        """All outputs, (N, …) as the inputs are."""
        count, parts, start = len(inputs[0]), [], 0
        for size in _sizes(count):
            parts.append(self._infer(size, [each[start : start + size] for each in inputs]))
            start += size
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    def _infer(self, size: int, inputs: Arrays) -> Arrays:
        idle = self._idle.setdefault(size, [])
        try:
            request = idle.pop()  # no other thread gets it
        except IndexError:
            request = self._request(size)
        contiguous = [np.ascontiguousarray(each) for each in inputs]
        try:
            found = _answer(request, contiguous)
        except RuntimeError as error:
            raise BackendError(
                f"OpenVINO failed on {contiguous[0].shape} on {self._device.name}: {reason(error)}"
            ) from error
        idle.append(request)
        return found

    def _request(self, size: int) -> Any:
        """A new request for so many images; BackendError if the graph cannot be compiled."""
        with self._compiling:
            try:
                if size not in self._compiled:
                    self._compiled[size] = self._compile(size)
                return self._compiled[size].create_infer_request()
            except RuntimeError as error:
                raise BackendError(
                    f"OpenVINO cannot run {self._name} on {self._device.name} "
                    f"({self._device.title}): {reason(error)}"
                ) from error

    def _compile(self, size: int) -> Any:
        model = self._model.clone()
        model.reshape({each: _of_batch(each.partial_shape, size) for each in model.inputs})
        compiled = openvino_core().compile_model(model, self._device.name, self._settings)
        key = "INFERENCE_PRECISION_HINT"
        found = compiled.get_property(key).get_type_name()
        if found != self._settings[key]:  # it takes another type without a word
            raise BackendError(
                f"OpenVINO computes in {found} on {self._device.name} ({self._device.title}), but "
                f"was told {self._settings[key]}. Pass another --precision."
            )
        return compiled

    def _read(self, content: bytes) -> Any:
        """The model in an ONNX file, and in no other of the formats that OpenVINO reads."""
        frontend = load_openvino().frontend.FrontEndManager().load_by_framework("onnx")
        try:
            model = frontend.convert(frontend.load(BytesIO(content)))
        except Exception as error:  # several unrelated classes, also of its own
            raise BackendError(f"OpenVINO cannot load {self._name}: {reason(error)}") from error
        if not model.inputs or not model.outputs:  # of no content it makes an empty model
            raise BackendError(f"OpenVINO cannot load {self._name}: it has no inputs or outputs.")
        return model

    @staticmethod
    def _end(port: Any) -> End:
        shape, kind = port.partial_shape, port.element_type.get_type_name()
        sides = [] if shape.rank.is_dynamic else list(shape)
        known = [side.get_length() if side.is_static else "?" for side in sides]
        return End(_TYPES.get(kind, f"tensor({kind})"), known)


def use_signed_bytes(model: Any) -> None:
    """Turn unsigned bytes around a zero point of 128 into signed ones without a zero point.

    They stand for the same values. With AMX a convolution of several pixels takes up to 1.3 times
    as long if there is a zero point.

    Args:
        model: of OpenVINO, as read from a graph with pairs of QuantizeLinear and DequantizeLinear;
            it is changed.
    """
    ops = load_openvino().opset13
    for pair in model.get_ops():
        ends = _zero_points(pair)
        if not ends or not all(_constant(end.input_value(1)) == 128 for end in ends):
            continue
        data, low, high = (pair.input_value(port) for port in range(3))
        lowest, highest = (ops.constant(np.float32(level)) for level in (-128, 127))
        levels = ops.fake_quantize(data, low, high, lowest, highest, pair.get_levels())
        values = ops.convert(ops.convert(levels, "i8"), "f32")
        for end in ends:
            for reader in end.output(0).get_target_inputs():
                reader.replace_source_output(values.output(0))
    model.validate_nodes_and_infer_types()


_PAIR = [("FakeQuantize", "f32"), ("Convert", "u8"), ("Convert", "f32"), ("Subtract", "f32")]
"""What QuantizeLinear and DequantizeLinear are read as, without the Multiply at the end."""


def _zero_points(node: Any) -> list[Any]:
    """What subtracts the zero point of the unsigned bytes that a node rounds to; else nothing."""
    steps = [[node]]
    for _ in _PAIR[1:]:
        steps.append([reader for each in steps[-1] for reader in _readers(each)])
    kinds = [{(n.get_type_name(), _type(n)) for n in step} for step in steps]
    return steps[-1] if kinds == [{kind} for kind in _PAIR] else []


def _type(node: Any) -> str:
    """Of what it puts out; none of the end of the graph."""
    outputs = node.get_output_size()
    return str(node.get_output_element_type(0).get_type_name()) if outputs else ""


def _readers(node: Any) -> list[Any]:
    ports = node.output(0).get_target_inputs() if node.get_output_size() else ()
    return [port.get_node() for port in ports]


def _constant(output: Any) -> float | None:
    """A constant of one value, converted or not; None for anything else."""
    node = output.get_node()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    single = node.get_type_name() == "Constant" and node.get_data().size == 1
    return float(node.get_data().item()) if single else None


def _answer(request: Any, inputs: Arrays) -> Arrays:
    """All outputs, which the next call with this request leaves alone.

    It writes them into arrays of their own at once: a copy takes 2 % of a wide net's time.
    """
    new_tensor = load_openvino().Tensor
    own = {}
    for index, port in enumerate(request.model_outputs):
        if port.partial_shape.is_static:
            own[index] = np.empty(port.shape, port.element_type.to_dtype())
            request.set_output_tensor(index, new_tensor(own[index], shared_memory=True))
    found = request.infer(inputs, share_inputs=True, share_outputs=True)
    return [own[i] if i in own else found[i].copy() for i in range(len(found))]


def _sizes(count: int) -> Iterator[int]:
    """Powers of two that add up to a number of images: few sizes are compiled then.

    5 images are 4 and 1.
    """
    while count > 0:
        size = min(LARGEST_BATCH, 1 << (count.bit_length() - 1))
        yield size
        count -= size


def _of_batch(shape: Any, size: int) -> list[Any]:
    """A shape whose first side is the number of images, if the graph leaves that open."""
    sides = list(shape)
    if sides and sides[0].is_dynamic:
        sides[0] = size
    return sides


def _settings(device: Device, hint: str, threads: int, streams: int) -> dict[str, Any]:
    settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    if streams > 1:
        settings["PERFORMANCE_HINT"] = "THROUGHPUT"
        settings["PERFORMANCE_HINT_NUM_REQUESTS"] = str(streams)
    if device.is_cpu:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
        # Several processes would pin their threads to the same cores.
        settings["ENABLE_CPU_PINNING"] = "NO"
    return settings
