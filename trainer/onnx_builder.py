"""Collect an ONNX graph's nodes and initializers: the builder that layers write themselves into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ._common import Array

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8  # the oldest that goes with the opset, so that older runtimes read it too


class Named(Protocol):
    """A layer, as far as the builder knows one."""

    name: str


class GraphBuilder:
    """Collects nodes and initializers while layers write themselves into it."""

    def __init__(self) -> None:
        self.onnx = import_onnx()
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.states: dict[str, tuple[str, Sequence[Any]]] = {}
        self.truncate: dict[str, int] = {}

    def node(
        self,
        op: str,
        name: str | Named,
        inputs: Sequence[str],
        *,
        part: str = "",
        outputs: Sequence[str] = (),
        **attributes: Any,
    ) -> str:
        """Add a node named `name`, a layer's (or given as one), and return the name of its first output value.

        A layer of several nodes tells them apart by `part`; the last one has none. `outputs`: names of the values, where
        one of the usual name is not enough.
        """
        name = name if isinstance(name, str) else name.name
        name = f"{name}.{part}" if part else name
        values = list(outputs) or [f"{name}.output"]
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), values, name=name, **attributes))
        return values[0]

    def constant(self, name: str, value: Array | float) -> str:
        """Add a float32 initializer and return its name."""
        array = np.ascontiguousarray(value, np.float32).reshape(np.shape(value))
        self.initializers.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Add an int64 initializer (n,), such as axes or a shape, and return its name."""
        self.initializers.append(self.onnx.numpy_helper.from_array(np.asarray(values, np.int64), name))
        return name

    def constants(self, name: str, values: Mapping[str, Array]) -> list[str]:
        """Add the float32 initializers ``<name>.<key>`` and return their names."""
        return [self.constant(f"{name}.{key}", value) for key, value in values.items()]

    def params(self, layer: Any) -> list[str]:
        """Add the parameters of a layer, in the order of `add_param`, and return their names."""
        return self.constants(layer.name, layer.params)

    def buffers(self, layer: Any) -> list[str]:
        """Add the buffers of a layer and return their names."""
        return self.constants(layer.name, layer.buffers)

    def state(self, name: str, shape: Sequence[Any]) -> str:
        """Add a state that goes from run to run: a graph input of that name, and the output ``<name>_next``."""
        self.states[name] = (f"{name}_next", shape)
        return name


def import_onnx() -> Any:
    """Return the onnx package.

    Raises
    ------
    ImportError
        If it is missing; the message says how to get it.
    """
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError("writing ONNX needs the onnx package: pip install edgeprop[export]") from error
    return onnx
