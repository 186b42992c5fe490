"""A network, and the parser that fills it from ONNX."""

from __future__ import annotations

import weakref
from typing import Any

import onnx
from onnx import TensorProto

from .values import stored, tell

_TYPES = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.INT8: "INT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
    TensorProto.UINT8: "UINT8",
}


class ITensor:
    def _setup(self, network: Any, name: str, is_input: bool, dtype: str, dims: Any) -> None:
        self._network = weakref.ref(network)  # a cycle would keep the builder alive
        self._name = name
        self._is_input = is_input
        self._dtype = dtype
        self._dims = tuple(dims)  # a dynamic one by its name

    name = stored("name")
    allowed_formats = stored("allowed_formats", lambda self: (1 << 12) - 1)

    @property
    def shape(self) -> Any:
        sizes = [dim if isinstance(dim, int) else -1 for dim in self._dims]
        return self._new("Dims", sizes)

    @shape.setter
    def shape(self, value: Any) -> None:
        self._dims = tuple(value)

    @property
    def dtype(self) -> Any:
        return getattr(self._trt.DataType, self._dtype)

    @dtype.setter
    def dtype(self, value: Any) -> None:
        network = self._network()
        if network._strong:
            tell(
                network._logger,
                "ERROR",
                "ITensor::setType: Error Code 3: API Usage Error (the types of a strongly typed "
                f"network are those of its graph; tensor {self._name} keeps its own)",
            )
            return
        self._dtype = value.name


class ILayer:
    def _setup(self, network: Any, name: str, operator: str, outputs: int) -> None:
        self._network = weakref.ref(network)
        self._name = name
        self._operator = operator
        self._outputs = outputs
        self._constraint: str | None = None

    name = stored("name")
    num_outputs = property(lambda self: self._outputs)

    @property
    def precision(self) -> Any:
        return getattr(self._trt.DataType, self._constraint or "FLOAT")

    @precision.setter
    def precision(self, value: Any) -> None:
        self._constraint = value.name

    def set_output_type(self, index: int, dtype: Any) -> None:
        assert 0 <= index < self._outputs
        assert dtype.name == "FLOAT", "QuantizeLinear of TensorRT 8 may read it, and takes FP32"

    @property
    def type(self) -> Any:
        """CONSTANT, or None for any other layer: the product only asks for constants."""
        return self._trt.LayerType.CONSTANT if self._operator == "Constant" else None


class INetworkDefinition:
    def _setup(self, builder: Any, flags: int) -> None:
        kinds = self._trt.NetworkDefinitionCreationFlag.__members__
        set_flags = {name for name, member in kinds.items() if flags >> int(member) & 1}
        self._builder = builder
        self._logger = builder._logger
        self._flags = flags
        # From TensorRT 11 on, all networks are strongly typed.
        self._strong = "STRONGLY_TYPED" in set_flags or "EXPLICIT_BATCH" not in kinds
        # Without the flag, networks of TensorRT 8 have no batch dimension. TensorRT 10 ignores it.
        self._implicit = "STRONGLY_TYPED" not in kinds and "EXPLICIT_BATCH" not in set_flags
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._layers: list[Any] = []
        self._onnx = b""

    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    num_layers = property(lambda self: len(self._layers))

    def get_input(self, index: int) -> Any:
        return self._item(self._inputs, index, "getInput")

    def get_output(self, index: int) -> Any:
        return self._item(self._outputs, index, "getOutput")

    def get_layer(self, index: int) -> Any:
        return self._item(self._layers, index, "getLayer")

    def get_flag(self, flag: Any) -> bool:
        return bool(self._flags >> int(flag) & 1)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self._layers):
            raise IndexError("Out of bounds")
        return self._layers[index]

    def _item(self, items: list[Any], index: int, method: str) -> Any:
        if 0 <= index < len(items):
            return items[index]
        tell(
            self._logger,
            "ERROR",
            f"INetworkDefinition::{method}: Error Code 3: API Usage Error (Invalid index {index}.)",
        )
        return None

    def _fill(self, model: onnx.ModelProto) -> None:
        """Take the inputs, outputs and nodes of a graph."""
        constants = {value.name for value in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in constants]
        self._inputs = [self._tensor(value, True) for value in inputs]
        self._outputs = [self._tensor(value, False) for value in model.graph.output]
        self._layers = [
            self._new(
                "ILayer",
                self,
                node.name or f"{node.op_type}_{index}",
                node.op_type,
                len(node.output),
            )
            for index, node in enumerate(model.graph.node)
        ]
        self._onnx = model.SerializeToString()

    def _tensor(self, value: onnx.ValueInfoProto, is_input: bool) -> Any:
        dtype = _TYPES[value.type.tensor_type.elem_type]
        if not hasattr(self._trt.DataType, dtype):
            dtype = "INT32"  # TensorRT 8 has no INT64
        dims = [
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"?{index}"
            for index, dim in enumerate(value.type.tensor_type.shape.dim)
        ]
        return self._new("ITensor", self, value.name, is_input, dtype, dims)


class OnnxParser:
    def _setup(self, network: Any, logger: Any) -> None:
        self._network = weakref.ref(network)  # the real one does not keep it alive either
        self._logger = logger
        self._errors: list[Any] = []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> Any:
        return self._errors[index]

    def parse(self, model: Any, path: str | None = None) -> bool:
        try:
            loaded = onnx.load_from_string(bytes(model))
        except Exception:
            return self._fail("Failed to parse the ONNX model.")
        return self._parse(loaded)

    def _parse(self, model: onnx.ModelProto) -> bool:
        network = self._network()
        if network is None:
            raise RuntimeError("the network of this parser is gone: the real one would crash")
        if network._implicit:
            return self._fail(
                "This version of the ONNX parser only supports TensorRT INetworkDefinitions with "
                "an explicit batch dimension.",
                "INVALID_VALUE",
            )
        faults = self._trt.scenario.parser_faults
        for fault in faults:
            node = model.graph.node[fault.node] if fault.node >= 0 else None
            self._fail(fault.desc, fault.code, fault.node, node)
        if not faults:
            network._fill(model)
        return not faults

    def _fail(
        self,
        desc: str,
        code: str = "MODEL_DESERIALIZE_FAILED",
        index: int = -1,
        node: onnx.NodeProto | None = None,
    ) -> bool:
        tell(self._logger, "ERROR", desc)
        self._errors.append(self._new("ParserError", desc, code, index, node))
        return False


class ParserError:
    def _setup(self, desc: str, code: str, index: int, node: onnx.NodeProto | None) -> None:
        self._desc = desc
        self._code = code
        self._index = index
        self._node = node

    def desc(self) -> str:
        return self._desc

    def code(self) -> Any:
        kinds = self._trt.ErrorCode.__members__
        # TensorRT 10 added the codes that say what about a node is unsupported.
        return kinds.get(self._code, kinds["UNSUPPORTED_NODE"])

    def node(self) -> int:
        return self._index

    def node_name(self) -> str:
        return self._node.name if self._node else ""

    def node_operator(self) -> str:
        return self._node.op_type if self._node else ""
