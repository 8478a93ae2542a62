"""Hold the state of a lowering: values met so far, the ops and tensors of the Program being built."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf, prod
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from ..errors import Refusal
from ..graph import reference
from ..graph.limits import is_endless
from ..graph.normalize import Normal, array_of
from ..graph.uses import RANDOM
from ..program.program import DTYPES, Op, Tensor
from .layout import (
    Factor,
    Order,
    Storage,
    Value,
    new_dims,
    permute_array,
    port_permutation,
    refine,
    regroup,
    significant,
)

#: ONNX element types a value may have on the device
DTYPE_OF = {
    ir.DataType.FLOAT: "f32",
    ir.DataType.INT8: "i8",
    ir.DataType.UINT8: "u8",
    ir.DataType.INT32: "i32",
    ir.DataType.INT64: "i32",
}


@dataclass
class Layer:
    """An op with weights, for training and folding.

    names : the ONNX nodes and weights that went into it, by which a user may call it
    weights : tensors a user could train; a bias that the model does not have is not among them
    channels : size of the last device axis of its output
    """

    op: Op
    names: list[str]
    weights: list[str]
    channels: int


@dataclass
class Context:
    """State of one lowering.

    normal : the graph
    values : of each ONNX value that has been computed
    marks : says whether the user marked any of some names as trainable
    layers : ops with weights, by the tensor they write
    batch : factors of size 1 known to be the batch axis, where it is not in front
    skip : nodes that another node's lowering has taken up
    failed : nodes of constants that onnxruntime cannot run, and why
    """

    normal: Normal
    marks: Callable[[Iterable[str]], bool] = lambda names: False
    batched: bool = True
    ops: list[Op] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[ir.Value, Value] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    skip: set[ir.Node] = field(default_factory=set)
    batch: set[Factor] = field(default_factory=set)
    chains: dict[ir.Node, Any] = field(default_factory=dict)
    failed: dict[ir.Node, str] = field(default_factory=dict)
    _constants: dict[ir.Value, np.ndarray | None] = field(default_factory=dict)
    _transposed: dict[tuple[str, tuple[Factor, ...]], str] = field(default_factory=dict)

    # ---- Reading the graph ------------------------------------------------------------------------------------------

    @property
    def opset(self) -> int:
        """Version of ONNX's own operators."""
        return self.normal.model.graph.opset_imports.get("", 1)

    def constant(self, value: ir.Value | None) -> np.ndarray | None:
        """The array of a value that does not depend on the graph's inputs; else None."""
        if value is None:
            return None
        if value not in self._constants:
            array = array_of(value)
            node = value.producer()
            if (
                array is None
                and node is not None
                and all(i is None or self.constant(i) is not None for i in node.inputs)
            ):
                array = self._evaluate(node, value) if any(i is not None for i in node.inputs) else None
            self._constants[value] = array
        return self._constants[value]

    def _evaluate(self, node: ir.Node, value: ir.Value) -> np.ndarray | None:
        if node.op_type in RANDOM:
            return None
        arrays = {str(i.name): a for i in node.inputs if i is not None and (a := self.constant(i)) is not None}
        proto = ir.to_proto(node)
        if is_endless(proto, arrays):
            self.failed[node] = "it has too many elements, or may take any time"
            return None
        try:
            return reference.run_nodes(
                [proto], arrays, {}, str(value.name), dict(self.normal.model.graph.opset_imports)
            )
        except Exception as error:  # onnxruntime's own kinds have no common base
            self.failed[node] = str(error).splitlines()[0][:160]
            return None

    def needed(self, node: ir.Node, index: int, what: str) -> np.ndarray:
        """The constant at an input.

        Raises
        ------
        Refusal : it is computed
        """
        array = self.constant(node.inputs[index]) if index < len(node.inputs) else None
        if array is None:
            raise Refusal(f"its {what} is not constant", f"{what} as an initialiser")
        return array

    def value(self, node: ir.Node, index: int = 0) -> Value:
        """The activation at an input.

        Raises
        ------
        Refusal : it is a constant
        KeyError : it could not be computed because something before it was refused
        """
        source = node.inputs[index]
        if source is None or self.constant(source) is not None:
            raise Refusal(f"its input {index} is constant", "a value computed from the graph's inputs")
        return self.values[source]

    @staticmethod
    def sole(value: ir.Value) -> bool:
        """True if just one op reads a value and nothing outside the graph does."""
        return len(value.uses()) == 1 and not value.is_graph_output()

    def is_exclusive(self, node: ir.Node, index: int = 0) -> bool:
        """True if nothing but this node reads the memory behind an input, so that its producer may be changed."""
        source = node.inputs[index]
        return source is not None and self.sole(source) and self.values[source].exclusive

    # ---- Tensors and ops --------------------------------------------------------------------------------------------

    def unique(self, name: str) -> str:
        """`name`, with a number if it is taken."""
        names = itertools.chain([name], (f"{name}.{i}" for i in itertools.count(1)))
        return next(n for n in names if n not in self.tensors)

    def const(self, name: str, array: np.ndarray, dtype: str) -> str:
        """A constant tensor; one of the same name and bytes is shared. Returns its name."""
        data = np.ascontiguousarray(array, DTYPES[dtype])
        old = self.tensors.get(name)
        same_kind = old is not None and (old.shape, old.dtype) == (data.shape, dtype)
        if old is not None and old.data is not None and same_kind and old.data.tobytes() == data.tobytes():
            return name
        name = self.unique(name)
        self.tensors[name] = Tensor(name, dtype, data.shape, data)
        return name

    def activation(
        self, name: str | None, shape: Sequence[int], dtype: str = "f32", scale: float = 0.0, zero_point: int = 0
    ) -> str:
        """A new activation tensor of device shape `shape`. Returns its name."""
        name = self.unique(name or "value")
        self.tensors[name] = Tensor(name, dtype, tuple(shape), None, scale, zero_point)
        return name

    def emit(self, kind: str, node: ir.Node | None, inputs: Sequence[str], output: str, **attrs: Any) -> Op:
        """Append an op."""
        op = Op(kind, str(node.name or node.outputs[0].name) if node else kind, list(inputs), [output], attrs)
        self.ops.append(op)
        return op

    def producer(self, tensor: str) -> Op | None:
        """The op that writes a tensor."""
        return next((op for op in reversed(self.ops) if tensor in op.outputs), None)

    def rename(self, storage: Storage, name: str) -> None:
        """Give a tensor the name of the ONNX value it holds after fusing."""
        old, new = storage.tensor, self.unique(name)
        storage.order.tensors.append(new)
        op = self.producer(old)
        assert op is not None
        op.outputs = [new if output == old else output for output in op.outputs]
        tensor = self.tensors.pop(old)
        tensor.name = storage.tensor = new
        self.tensors[new] = tensor
        if old in self.layers:
            self.layers[new] = self.layers.pop(old)

    # ---- Layout -----------------------------------------------------------------------------------------------------

    def settle(self, value: Value, wanted: list[Factor]) -> None:
        """Decide the memory order of a graph input that nothing has read yet: `wanted` if its port can have it."""
        order = value.storage.order
        if order.factors is not None:
            return
        assert order.port is not None
        if self.batched:  # the batch stays in front, wherever an op would like its axis of 1
            wanted = [factor for factor in wanted if factor not in order.port[0]]
        perm = port_permutation(order.port, wanted)
        if perm is None or (self.batched and perm[0] != 0):
            perm = tuple(range(len(order.port)))
        order.perm = perm
        order.factors = [factor for axis in perm for factor in order.port[axis]]
        sizes = [prod(f.size for f in order.port[axis]) for axis in perm]
        for name in order.tensors:
            if name in self.tensors:
                self.tensors[name].shape = tuple(sizes[1:] if self.batched else sizes)

    def ordered(self, value: Value, axes: Iterable[int]) -> str:
        """The tensor that holds a value with its ONNX axes in this order, transposed if it must be; axes left out
        have size 1."""
        wanted = value.factors(axes)
        return self.reordered(value, wanted)

    def reordered(self, value: Value, wanted: list[Factor]) -> str:
        """The tensor that holds a value with its factors in this order."""
        self.settle(value, wanted)
        key = tuple(significant(wanted))
        have = significant(value.storage.order.settled())
        if list(key) == have:
            return value.storage.tensor
        if (value.storage.tensor, key) not in self._transposed:
            self._transposed[value.storage.tensor, key] = self._transpose(value.storage, have, list(key))
        return self._transposed[value.storage.tensor, key]

    def _transpose(self, storage: Storage, have: list[Factor], wanted: list[Factor]) -> str:
        steps = np.cumprod([1] + [factor.size for factor in reversed(have)])[:-1][::-1]
        step = dict(zip(have, (int(s) for s in steps), strict=True))
        dims: list[int] = []
        strides: list[int] = []
        for factor in wanted:
            if dims and strides[-1] == step[factor] * factor.size:
                dims[-1], strides[-1] = dims[-1] * factor.size, step[factor]
            else:
                dims.append(factor.size)
                strides.append(step[factor])
        if len(dims) > 6:
            raise Refusal("it needs a transpose of more than 6 axes", "fewer axes, or a layout that needs no transpose")
        source = self.tensors[storage.tensor]
        output = self.activation(f"{source.name}.transposed", dims, source.dtype, source.scale, source.zero_point)
        pad = 6 - len(dims)
        self.emit(
            "transpose",
            None,
            [source.name],
            output,
            dims=(1,) * pad + tuple(dims),
            strides=(0,) * pad + tuple(strides),
            size=DTYPES[source.dtype].itemsize,
        ).name = output
        return output

    def columns(self, value: Value) -> tuple[str, list[list[Factor]], list[Factor]]:
        """A value as (rows, last axis) for a dense layer.

        Returns the tensor, the last axis's factors as one axis in ONNX order, and the same in memory order: the
        weights' columns follow the latter, so that no element moves.
        """
        last = value.dims[-1:]
        leading = significant(value.factors(range(len(value.dims) - 1)))
        self.settle(value, value.factors(range(len(value.dims))))
        have = significant(value.storage.order.settled())
        if have[: len(leading)] == leading:
            return value.storage.tensor, last, have[len(leading) :]
        wanted = leading + significant(last[0])
        return self.reordered(value, wanted), last, significant(last[0])

    # ---- Results ----------------------------------------------------------------------------------------------------

    def result(
        self, output: ir.Value, shape: Sequence[int], axes: Sequence[int], tensor: str, dtype: str = "f32"
    ) -> None:
        """Note what a node computed: ONNX `shape`, its axes in memory order (those left out have size 1)."""
        dims = new_dims(shape)
        self.values[output] = Value(Storage(tensor, Order([dims[axis][0] for axis in axes])), dims, dtype)

    def like(self, output: ir.Value, value: Value, tensor: str, dtype: str = "f32") -> None:
        """Note what an element-wise node computed: laid out as its input."""
        value.storage.order.tensors.append(tensor)
        self.values[output] = Value(Storage(tensor, value.storage.order), value.dims, dtype)

    def alias(self, node: ir.Node, dims: list[list[Factor]]) -> None:
        """Note that a node's output is its first input seen with other axes."""
        value = self.values[node.inputs[0]]  # type: ignore[index]
        self.values[node.outputs[0]] = value.view(dims, self.is_exclusive(node))

    def reshape(self, node: ir.Node, shape: Sequence[int]) -> None:
        """Note that a node's output is its first input with another shape."""
        value = self.value(node)
        try:
            dims = regroup(value, shape)
        except ValueError:
            tensor = self.ordered(value, range(len(value.dims)))
            self.result(node.outputs[0], shape, range(len(shape)), tensor, value.dtype)
            self.values[node.outputs[0]].exclusive = False
            return
        self.alias(node, dims)

    def settle_for(self, value: Value, varying: Sequence[int]) -> None:
        """Decide an open memory order with the given sizes' axes of more than 1 innermost, as channels are."""
        rank = len(value.dims)
        inner = [axis for axis in range(rank) if axis - rank >= -len(varying) and varying[axis - rank] != 1]
        self.settle(value, value.factors([a for a in range(rank) if a not in inner] + inner))

    def in_order(self, value: Value, flat_shape: Sequence[int], array: np.ndarray) -> np.ndarray:
        """A constant that broadcasts to a value's ONNX shape, flattened in the value's memory order."""
        full = np.broadcast_to(array, flat_shape)
        return permute_array(full, value.dims, value.storage.order.settled())

    def match(self, a: Value, b: Value) -> tuple[str, str]:
        """Tensors of two values of one shape, in the same memory order."""
        if a.storage.order.factors is None and b.storage.order.factors is not None:
            second, first = self.match(b, a)
            return first, second
        pairs = refine(a, b)
        everything = range(len(a.dims))
        if pairs is None:
            return self.ordered(a, everything), self.ordered(b, everything)
        self.settle(a, a.factors(everything))
        other = dict(pairs)
        wanted = [other[factor] for factor in significant(a.storage.order.settled())]
        return a.storage.tensor, self.reordered(b, wanted)


def no_limits() -> dict[str, float]:
    """`lo`, `hi` of an op without activation."""
    return {"lo": -inf, "hi": inf}


def proto_of(node: ir.Node) -> onnx.NodeProto:
    """The node as ONNX writes it."""
    return ir.to_proto(node)
