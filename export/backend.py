"""Run ONNX models on the C runtime as an `onnx.backend`: a model in, an image in memory, the device's C code runs it.

What ONNX's own suites run against. A device's program has constant weights, so operands that the device cannot take as
an input (a weight, a shape, axes) are bound to the values of the first run; the first operand always stays an input of
the program, so that nothing is computed on the desktop that the runtime should compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend as OnnxBackend
from onnx.backend.base import BackendRep, Device, DeviceType

from .errors import UnsupportedError, UnsupportedNode
from .graph.importer import load
from .lower import lower_with_values
from .program.plan import plan
from .program.program import Program
from .writers.image import to_image

Array = np.ndarray[Any, np.dtype[Any]]

#: types of inputs that the device takes; others are bound to their values
_ON_DEVICE = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT32)


class Prepared(BackendRep):
    """A model that is lowered when the values of its operands are known.

    Attributes
    ----------
    program : what ran last
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.program: Program | None = None

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """Run on the arrays of the graph's inputs, in order or by name.

        Returns
        -------
        The outputs, in the shapes and types of the ONNX graph

        Raises
        ------
        UnsupportedError : a node the device cannot run, whichever operands are constant
        ValueError : the model or the inputs are not valid
        """
        arrays = _by_name(self.model, inputs)
        _check_types(self.model, arrays)
        refused: Exception | None = None
        for bound in _choices(self.model, arrays):
            model = _bind(self.model, {name: arrays[name] for name in bound})
            try:
                self.program = _lower(model)
            except (UnsupportedError, ValueError) as error:
                refused = error  # of the last try, which has most operands bound
                continue
            return _run(self.program, self.model, arrays)
        assert refused is not None
        raise refused


def _by_name(model: onnx.ModelProto, inputs: Any) -> dict[str, Array]:
    constants = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in constants]
    if isinstance(inputs, Mapping):
        return {name: np.asarray(inputs[name]) for name in names if name in inputs}
    given = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
    if len(given) > len(names):
        raise ValueError(f"{len(given)} inputs given, the model takes {len(names)}: {', '.join(names)}")
    return {name: np.asarray(x) for name, x in zip(names, given, strict=False)}


def _check_types(model: onnx.ModelProto, arrays: Mapping[str, Array]) -> None:
    """Refuse a model of whose inputs the device can take none: with all of them constant, nothing is left to compute."""
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    if not arrays or any(types[name] in _ON_DEVICE for name in arrays):
        return
    names = {name: onnx.TensorProto.DataType.Name(types[name]).lower() for name in arrays}
    cure = "float32, int8, uint8 or int32"
    raise UnsupportedError(
        [UnsupportedNode(name, "input", f"the device has no inputs of {kind}", cure) for name, kind in names.items()]
    )


def _choices(model: onnx.ModelProto, arrays: Mapping[str, Array]) -> Sequence[list[str]]:
    """Which inputs to bind to their values: none but those no device takes, then more and more from the last on."""
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    names = list(arrays)
    never = [name for name in names if types[name] not in _ON_DEVICE or arrays[name].size == 0]
    free = [name for name in names if name not in never]
    return [sorted({*never, *free[keep:]}, key=names.index) for keep in range(len(free), 0, -1)] or [never]


def _bind(model: onnx.ModelProto, values: Mapping[str, Array]) -> onnx.ModelProto:
    """The model with some inputs made constants, and the sizes of the others fixed."""
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    kept = [value for value in bound.graph.input if value.name not in values]
    del bound.graph.input[:]
    bound.graph.input.extend(kept)
    bound.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in values.items())
    return bound


def _lower(model: onnx.ModelProto) -> Program:
    """The planned program."""
    program, _ = lower_with_values(load(model, ends=False), name="model")
    plan(program)
    return program


def _run(program: Program, model: onnx.ModelProto, arrays: Mapping[str, Array]) -> tuple[Array, ...]:
    from .. import Model

    device = Model(to_image(program), max_memory=None)
    given = [arrays[port.name].reshape((-1, *port.shape[1:])) for port in program.inputs]
    results = dict(zip([port.name for port in program.outputs], device.run(*given), strict=True))
    batched = all(port.shape[0] != 1 or arrays[port.name].ndim == len(port.shape) for port in program.inputs)
    return tuple(_shaped(results[value.name], value, batched) for value in model.graph.output)


def _shaped(array: Array, value: onnx.ValueInfoProto, batched: bool) -> Array:
    """An output in the shape the graph gives it; without one, the axis in front that a port adds is taken off."""
    dims = value.type.tensor_type.shape.dim
    if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
        return array.reshape([d.dim_value for d in dims])
    return array if batched else array[0]


class Backend(OnnxBackend):
    """`onnx.backend.base.Backend` over the C runtime; the module's functions are those of this class."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """True if the model lowers as it is, with all its inputs computed."""
        try:
            _lower(model)
        except (UnsupportedError, ValueError):
            return False
        return True

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> Prepared:
        """Get a model ready to run.

        Raises
        ------
        ValueError : the checker rejects the model, or the device is not the CPU
        """
        if not cls.supports_device(device):
            raise ValueError(f"device {device!r}: the C runtime runs on the CPU")
        super().prepare(model, device, **kwargs)
        return Prepared(model)

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Array, ...]:
        """`prepare`, then `run`."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Array, ...]:
        """Run one node on arrays, in the newest opset unless `opset_version` says otherwise."""
        arrays = {name: np.asarray(x) for name, x in zip([n for n in node.input if n], inputs, strict=True)}
        make, kind = onnx.helper.make_tensor_value_info, onnx.helper.np_dtype_to_tensor_dtype
        ins = [make(name, kind(array.dtype), array.shape) for name, array in arrays.items()]
        outs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        version = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        opset = [onnx.helper.make_opsetid(node.domain, version)]
        model = onnx.helper.make_model(onnx.helper.make_graph([node], "node", ins, outs), opset_imports=opset)
        return Prepared(onnx.shape_inference.infer_shapes(model)).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """True for the CPU."""
        return bool(Device(device).type == DeviceType.CPU)


is_compatible = Backend.is_compatible
prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
