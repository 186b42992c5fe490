"""Nodes that a pass makes out of one: each reads what the one before puts out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from .graph import part


class Chain:
    """Nodes from `source` on, and the constants that they read, as they are added.

    Args:
        node: that the new ones are made out of, see `graph.part`.
    """

    def __init__(self, node: onnx.NodeProto, source: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, npt.NDArray[np.generic]] = {}
        self.output = source
        self._node = node

    def add(
        self, op: str, name: str, *constants: npt.ArrayLike, output: str = "", **settings: Any
    ) -> None:
        """Append a node that reads the output so far, then the constants.

        Args:
            constants: whole numbers become INT64, as sizes and indices have to be.
            output: the tensor's name; by default one made of `name`.
        """
        node = part(self._node, name)
        inputs = [self.output]
        for index, values in enumerate(constants):
            inputs.append(f"{node}_constant{index}")
            whole = np.issubdtype(np.asarray(values).dtype, np.integer)
            self.constants[inputs[-1]] = np.asarray(values, np.int64 if whole else np.float32)
        self.output = output or f"{node}_output"
        self.nodes.append(helper.make_node(op, inputs, [self.output], name=node, **settings))
