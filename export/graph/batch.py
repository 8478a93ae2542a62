"""Reduce a graph over a batch to one sample, and check that samples are computed independently.

A batch axis of fixed size is all over a graph: in targets of Reshape, in constants repeated for every sample, in states
that recurrent operators start from. Each value's batch axis is followed from the inputs on, and every such constant is
cut down to one sample; the result is then run beside the original.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from . import reference
from .samples import random_inputs
from .uses import RANDOM, reads

Array = np.ndarray[Any, np.dtype[Any]]

#: samples that a graph's batch is tried with where its size may vary
_TRIED = 3
#: of a larger batch, those that are looked at alone
_ROWS = 64
_TOLERANCE = 1e-4
#: where it holds codes, which kernels for other numbers of samples may round another way
_TOLERANCE_OF_CODES = 0.05
#: a batch of so many samples is unlike any size that a graph names
_UNLIKELY = 1_000_003
#: operators with operands that broadcast, and which operands: None all
_BROADCAST: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Min", "Max", "Pow", "Where", "PRelu", "Sum", "Mean", "MatMul")),
    **dict.fromkeys(("Concat", "Greater", "Less", "Equal", "And", "Or")),
    "Gemm": (2,),
}
#: operand that holds sizes of the output
_SIZES = {"Expand": 1, "Resize": 3}
#: operand -> its batch axis
_RECURRENT = {"RNN": {4: 0, 5: 1}, "GRU": {4: 0, 5: 1}, "LSTM": {4: 0, 5: 1, 6: 1}}


#: what onnx raises where it knows no shape of an operator
_INFERENCE = (onnx.shape_inference.InferenceError, onnx.defs.SchemaError, onnx.checker.ValidationError)


class MixedSamples(ValueError):
    """The graph does not treat the samples of its batch apart from one another."""


def samples_apart(proto: onnx.ModelProto, batch: int) -> bool:
    """True if a graph gives each sample of a batch what it gives it alone; found by trying.

    Parameters
    ----------
    batch : its size, 0 where that may vary; larger ones are cut by `one_sample`, which tries it
    """
    if batch:
        return True
    try:
        return not cuts(proto) and _same_alone(proto, proto, random_inputs(proto.graph, 0, _TRIED), _TRIED)
    except ValueError:
        return False  # inputs of a type that no device takes


def cuts(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The Slices that take part of a batch whose size may vary, as `x[0:3]`: of one sample they take all."""
    if not any(node.op_type == "Slice" for node in proto.graph.node):
        return []
    large = onnx.ModelProto()
    large.CopyFrom(proto)
    set_first_axis(large.graph, 0, _UNLIKELY)
    try:
        graph = onnx.shape_inference.infer_shapes(large, data_prop=True).graph
    except _INFERENCE:
        return []
    sizes = {
        value.name: dims[0].dim_value
        for value in (*graph.input, *graph.value_info, *graph.output)
        if (dims := value.type.tensor_type.shape.dim)
    }
    return [
        node
        for node in proto.graph.node
        if node.op_type == "Slice"
        and sizes.get(node.input[0]) == _UNLIKELY
        and sizes.get(node.output[0]) != _UNLIKELY
        and sizes.get(node.output[0])
    ]


def check_apart(proto: onnx.ModelProto) -> None:
    """Refuse a graph, of a batch whose size may vary, that computes with the number of samples: for one sample, that is 1.

    Found by trying, where the graph asks for sizes at all. What onnxruntime runs with one sample alone is no such graph.

    Raises
    ------
    MixedSamples : it gives a sample among others something else than alone
    """
    nodes = proto.graph.node
    if not any(node.op_type in ("Shape", "Size") for node in nodes) or any(n.op_type in RANDOM for n in nodes):
        return
    codes = any("Quant" in node.op_type or "QLinear" in node.op_type for node in nodes)
    try:
        arrays = random_inputs(proto.graph, 0, _TRIED)
        opened = reference.session(proto)
        whole = opened.run(None, dict(arrays))
        alone = [opened.run(None, {name: a[row : row + 1] for name, a in arrays.items()}) for row in range(_TRIED)]
    except Exception:  # whatever onnxruntime raises, and inputs that no device takes: told where they are lowered
        return
    if not all(array.ndim and len(array) == _TRIED for array in whole):
        return
    tolerance = _TOLERANCE_OF_CODES if codes else _TOLERANCE
    pairs = [(got, want[row]) for row in range(_TRIED) for got, want in zip(alone[row], whole, strict=True)]
    if not all(_close(got, want, tolerance) for got, want in pairs):
        raise MixedSamples(
            "it computes with the number of samples in its batch (Shape, Size): a sample among others gets something else "
            "than alone; fix the first axis of its inputs at 1 if one sample is meant"
        )


def only_one(proto: onnx.ModelProto) -> onnx.ModelProto | None:
    """A graph whose batch axis may vary by its shapes, with that axis fixed at 1 where onnxruntime takes one sample and no
    more, as behind a Squeeze of it; else None."""
    try:
        one, more = (random_inputs(proto.graph, 0, rows) for rows in (1, _TRIED))
        opened = reference.session(proto)
        opened.run(None, one)
    except Exception:  # it takes none, or an input is of a type that no device takes
        return None
    try:
        opened.run(None, more)
    except Exception:
        fixed = onnx.ModelProto()
        fixed.CopyFrom(proto)
        set_first_axis(fixed.graph, 0)
        return onnx.shape_inference.infer_shapes(fixed)
    return None


def _same_alone(proto: onnx.ModelProto, single: onnx.ModelProto, arrays: Mapping[str, Array], rows: int) -> bool:
    """Whether `single` gives each of the samples what `proto` gives all of them."""
    try:
        together, alone = reference.session(proto), reference.session(single)
        whole = together.run(None, dict(arrays))
        for row in np.unique(np.linspace(0, rows - 1, min(rows, _ROWS)).astype(int)):
            results = alone.run(None, {name: array[row : row + 1] for name, array in arrays.items()})
            for got, want in zip(results, whole, strict=True):
                if want.ndim == 0 or len(want) != rows or not _close(got, want[row]):
                    return False
    except Exception:  # whatever onnxruntime raises: it does not take a batch of this size
        return False
    return True


def _close(got: Array, want: Array, tolerance: float = _TOLERANCE) -> bool:
    have, wanted = np.ravel(got).astype(np.float64), np.ravel(want).astype(np.float64)
    largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
    same_size = have.size == wanted.size
    return same_size and np.allclose(have, wanted, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


# ---- A batch of fixed size -------------------------------------------------------------------------------------------


@dataclass
class _Sample:
    """A value cut down to one sample.

    axis : the axis that the batch is in; None: it has no batch
    outer : elements before the batch, counted in memory order: more than those of the axes before where the batch shares
        its axis with others, (steps * batch, n)
    """

    shape: list[int]
    axis: int | None
    outer: int = 1


def one_sample(proto: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """The graph for one sample of a batch of fixed size.

    Parameters
    ----------
    proto : with constants folded; not changed
    batch : the size of the first axis of every input and output, 2 or more

    Raises
    ------
    MixedSamples : samples are not apart, or their axis cannot be followed
    """
    try:
        cut = _Cut(onnx.shape_inference.infer_shapes(proto, data_prop=True), batch)
        single = cut.run()
    except (*_INFERENCE, KeyError, ValueError, IndexError) as error:
        raise MixedSamples(f"its batch of {batch} cannot be taken apart ({error})") from error
    try:
        arrays = random_inputs(proto.graph, 0, batch)
    except ValueError:
        return single  # the lowering refuses the input
    if not _same_alone(proto, single, arrays, batch):
        raise MixedSamples(f"it does not treat the {batch} samples of its batch apart from one another")
    return single


class _Cut:
    """The walk through a graph that cuts it down to one sample."""

    def __init__(self, proto: onnx.ModelProto, batch: int) -> None:
        self.proto, self.batch = onnx.ModelProto(), batch
        self.proto.CopyFrom(proto)
        graph = self.proto.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        known = [*graph.input, *graph.value_info, *graph.output]
        self.types = {value.name: value.type for value in known}
        self.samples: dict[str, _Sample] = {}

    def run(self) -> onnx.ModelProto:
        graph = self.proto.graph
        for value in graph.input:
            dims = value.type.tensor_type.shape.dim
            dims[0].dim_value = 1
            self.samples[value.name] = _Sample([d.dim_value for d in dims], 0)
        for node in graph.node:
            self._node(node)
        for value in graph.output:
            value.type.tensor_type.ClearField("shape")
        del graph.value_info[:]
        used = {name for node in graph.node for name in reads(node)}
        kept = [t for t in graph.initializer if t.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        return self.proto

    def _node(self, node: onnx.NodeProto) -> None:
        sample = next((self.samples[name] for name in node.input if name in self.samples), None)
        if sample is None:
            return
        if node.op_type == "Reshape":
            self._reshape(node, sample)
        if node.op_type in _SIZES:
            self._sizes(node, sample)
        if node.op_type in _BROADCAST:
            self._operands(node, _BROADCAST[node.op_type])
        for index, axis in _RECURRENT.get(node.op_type, {}).items():
            self._cut_operand(node, index, axis)
        for name, shape in self._infer(node, sample).items():
            self.samples[name] = self._sample(name, shape, sample, node.op_type == "Reshape")

    def _sample(self, name: str, shape: list[int], source: _Sample, reshaped: bool) -> _Sample:
        """The value of that shape; its batch axis is the one whose size differs from the original's."""
        before = self._dims(name)
        axes = [a for a, (one, whole) in enumerate(zip(shape, before, strict=True)) if one != whole]
        if len(axes) > 1 or any(before[a] != shape[a] * self.batch for a in axes):
            raise ValueError(f"value '{name}' {before} has samples of {shape}")
        if not axes:
            return _Sample(shape, None)
        outer = prod(shape[: axes[0]])
        if reshaped:
            outer = source.outer
        elif source.axis is not None and source.shape[source.axis] == shape[axes[0]]:
            outer *= source.outer // max(prod(source.shape[: source.axis]), 1)
        return _Sample(shape, axes[0], outer)

    def _dims(self, name: str) -> list[int]:
        dims = self.types[name].tensor_type.shape.dim
        if not all(d.HasField("dim_value") for d in dims):
            raise ValueError(f"the shape of value '{name}' is not known")
        return [d.dim_value for d in dims]

    def _infer(self, node: onnx.NodeProto, sample: _Sample) -> dict[str, list[int]]:
        """Shapes of the node's outputs for one sample; where ONNX does not know them, the batch stays in its axis."""
        types, data = {}, {}
        for name in node.input:
            if name in self.samples:
                kind = self.types[name].tensor_type.elem_type
                types[name] = onnx.helper.make_tensor_type_proto(kind, self.samples[name].shape)
            elif name not in self.constants and name:  # dequantized weights, which are not folded
                types[name] = self.types[name]
            elif name:
                data[name] = numpy_helper.from_array(self.constants[name], name)
                types[name] = onnx.helper.make_tensor_type_proto(data[name].data_type, self.constants[name].shape)
        version = next(o.version for o in self.proto.opset_import if o.domain == node.domain)
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        found = onnx.shape_inference.infer_node_outputs(
            schema, node, types, data, opset_imports=list(self.proto.opset_import), ir_version=self.proto.ir_version
        )
        result = {}
        for name in filter(None, node.output):
            kind = found[name].tensor_type if name in found else onnx.TypeProto.Tensor()
            if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
                result[name] = [d.dim_value for d in kind.shape.dim]
            else:
                sizes = self._dims(name)
                result[name] = [n // self.batch if a == sample.axis else n for a, n in enumerate(sizes)]
        return result

    # ---- Constants that hold the batch

    def _replace(self, node: onnx.NodeProto, index: int, array: Array) -> None:
        """Give a node another constant; others may read the old one."""
        name = f"{node.input[index]}.sample.{node.output[0]}"
        self.constants[name] = array
        self.proto.graph.initializer.append(numpy_helper.from_array(array, name))
        node.input[index] = name

    def _reshape(self, node: onnx.NodeProto, sample: _Sample) -> None:
        """The target without the batch, which stays where it was among the elements."""
        if sample.axis is None or len(node.input) < 2:
            return
        sizes = self._dims(node.output[0])
        axis = next(a for a in range(len(sizes)) if prod(sizes[: a + 1]) > sample.outer)
        if sizes[axis] % self.batch:
            raise ValueError(f"Reshape '{node.name}' splits the batch")
        sizes[axis] //= self.batch
        self._replace(node, 1, np.array(sizes, np.int64))

    def _sizes(self, node: onnx.NodeProto, sample: _Sample) -> None:
        """Sizes that an operator gives its output, counted from the last axis."""
        index = _SIZES[node.op_type]
        if sample.axis is None or len(node.input) <= index or not node.input[index]:
            return
        sizes = self.constants[node.input[index]].copy()
        at = len(sizes) - len(sample.shape) + sample.axis
        if at >= 0 and sizes[at] != 1:
            sizes[at] //= self.batch
            self._replace(node, index, sizes)

    def _operands(self, node: onnx.NodeProto, which: tuple[int, ...] | None) -> None:
        """Constants repeated for every sample, their axes counted from the last."""
        behind = {
            sample.axis - len(sample.shape)
            for name in node.input
            if (sample := self.samples.get(name)) is not None and sample.axis is not None
        }
        for index in range(len(node.input)) if which is None else which:
            array = self.constants.get(node.input[index]) if index < len(node.input) else None
            for axis in behind:
                if array is not None and array.ndim >= -axis and node.input[index] not in self.samples:
                    self._cut_operand(node, index, array.ndim + axis)

    def _cut_operand(self, node: onnx.NodeProto, index: int, axis: int) -> None:
        array = self.constants.get(node.input[index]) if index < len(node.input) else None
        if array is None or array.shape[axis] != self.batch:
            return
        first = np.take(array, [0], axis)
        if not np.array_equal(np.broadcast_to(first, array.shape), array):
            raise ValueError(f"a constant of '{node.name}' differs from sample to sample")
        self._replace(node, index, first)


def set_first_axis(graph: onnx.GraphProto, was: int, size: int = 1) -> None:
    """Fix the first axis of inputs at `size`; shapes of everything behind follow by inference. `was`: 0 or 1."""
    for value in graph.input:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = size
    if was != 1:
        for value in graph.output:
            value.type.tensor_type.ClearField("shape")
        del graph.value_info[:]
