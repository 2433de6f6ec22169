"""An ONNX graph that is rewritten: the nodes that make and read each tensor, and the constants."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from musetalk_runtime.core.arrays import Array


class OnnxGraph:
    """The graph of `model`, which is changed in place. Constants are initializers, as `export-student` leaves them."""

    def __init__(self, model: ModelProto) -> None:
        self._graph = model.graph
        del self._graph.value_info[:]
        self._constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in self._graph.initializer}

    @property
    def nodes(self) -> list[NodeProto]:
        """All nodes now, in order."""
        return list(self._graph.node)

    def makers(self) -> dict[str, NodeProto]:
        """The node that makes a tensor, by its name."""
        return {name: node for node in self._graph.node for name in node.output}

    def readers(self) -> dict[str, list[NodeProto]]:
        """The nodes that read a tensor, by its name."""
        found: dict[str, list[NodeProto]] = {}
        for node in self._graph.node:
            for name in node.input:
                found.setdefault(name, []).append(node)
        return found

    def is_constant(self, name: str) -> bool:
        """Whether `name` is a constant."""
        return name in self._constants

    def constant(self, name: str) -> Array:
        """The value of a constant."""
        return numpy_helper.to_array(self._constants[name])

    def add_constant(self, name: str, value: npt.ArrayLike) -> str:
        """Add or replace a constant; FP32 where it is not of integers. Gives its name."""
        array = np.asarray(value)
        if not np.issubdtype(array.dtype, np.integer):
            array = array.astype(np.float32)
        tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
        if name in self._constants:
            self._constants[name].CopyFrom(tensor)
        else:
            self._graph.initializer.append(tensor)
            self._constants[name] = self._graph.initializer[-1]
        return name

    def replace(self, old: Iterable[NodeProto], new: Iterable[NodeProto]) -> None:
        """Put the nodes `new` where the last of `old` was, and drop those."""
        dropped = {node.output[0] for node in old}
        nodes = self.nodes
        last = max(index for index, node in enumerate(nodes) if node.output[0] in dropped)
        kept = [node for node in nodes[:last] if node.output[0] not in dropped]
        copies = [NodeProto.FromString(node.SerializeToString()) for node in (*kept, *new, *nodes[last + 1 :])]
        del self._graph.node[:]
        self._graph.node.extend(copies)

    def drop_unread(self) -> None:
        """Drop the constants that nothing reads any more."""
        read = self.readers()
        for name in [name for name in self._constants if name not in read]:
            self._graph.initializer.remove(self._constants.pop(name))


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """The value of an attribute of `node`."""
    found = next((entry for entry in node.attribute if entry.name == name), None)
    return default if found is None else helper.get_attribute_value(found)
