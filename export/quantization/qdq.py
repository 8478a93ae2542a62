"""Insert QuantizeLinear and DequantizeLinear into a graph, and quantize its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from .calibrate import Affine, Array, CalibrationError, NotFinite, Range
from .rules import FUSED_ANYHOW, PRODUCT, RULES, Rule
from .selection import Chosen, is_layer
from .simplify import ACTIVATIONS, channel_axis, clip_bounds, constant, new_constant, sole_user
from .weights import Weights, quantize_bias, quantize_weights


@dataclass
class Quantizer:
    """One quantization: which nodes, with which parameters; then the surgery.

    params : of every value that has an int8 form
    absorbed : Relu and Clip nodes that saturation takes over, by the node before them
    superfluous : those that onnxruntime would leave behind a MatMul with a bias as a layer of its own
    operands : constant inputs that become codes with a scale
    """

    graph: ir.Graph
    chosen: Chosen
    ranges: Mapping[str, Range]
    per_channel: bool
    int8_io: bool
    kept: set[ir.Node] = field(default_factory=set)
    params: dict[ir.Value, Affine] = field(default_factory=dict)
    absorbed: dict[ir.Node, ir.Node] = field(default_factory=dict)
    superfluous: list[ir.Node] = field(default_factory=list)
    operands: list[tuple[ir.Node, int]] = field(default_factory=list)
    weights: dict[ir.Node, Weights] = field(default_factory=dict)
    bias_shifts: Mapping[str, Array] = field(default_factory=dict)

    # -- Parameters

    def choose_parameters(self) -> None:
        """Find what becomes int8 and its scale and zero point, in the order of the graph."""
        for node in self.graph:
            if node not in self.chosen.nodes:
                continue
            for value in self._activations(node):
                if value not in self.params:
                    self.params[value] = self._range(value).affine()
            if node not in self.absorbed.values() and node not in self.chosen.biases:
                self._choose_output(node)
            if self._rule(node).weights:
                self._choose_weights(node)
            elif self._rule(node).inputs is None and node not in self.chosen.biases.values():
                self.operands += [(node, i) for i, value in enumerate(node.inputs) if constant(value) is not None]

    def _rule(self, node: ir.Node) -> Rule:
        """A node's rule; the last of a group has one for whatever it is."""
        known = RULES.get(node.op_type, Rule())
        if node in self.chosen.groups:
            return Rule(fixed=known.fixed)
        return PRODUCT if known.weights and not is_layer(node) else known

    def _activations(self, node: ir.Node) -> list[ir.Value]:
        """Inputs that need an int8 form; none for an absorbed activation or bias."""
        if node in self.absorbed.values() or node in self.chosen.biases.values():
            return []
        if node in self.chosen.groups:
            return [self.chosen.groups[node]]
        count = self._rule(node).inputs
        inputs = node.inputs if count is None else node.inputs[:count]
        return [i for i in inputs if i is not None and constant(i) is None]

    def _choose_output(self, node: ir.Node) -> None:
        rule, output = self._rule(node), node.outputs[0]
        if rule.fixed is not None:
            self.params[output] = rule.fixed
        elif rule.moves:
            for part in node.outputs:
                self.params[part] = self.params[node.inputs[0]]  # type: ignore[index]
        elif rule.absorbs and (activation := self._activation_behind(node)) is not None:
            self.absorbed[node] = activation
            low, high = clip_bounds(activation)
            params = self._range(activation.outputs[0]).clipped(low, high).affine(low, high)
            self.params[activation.outputs[0]] = params
            if node in self.chosen.biases.values():
                self.superfluous.append(activation)
        else:
            self.params[output] = self._range(output).affine()

    def _activation_behind(self, node: ir.Node) -> ir.Node | None:
        user = sole_user(node.outputs[0])
        if user is None or user not in self.chosen.nodes or user.op_type not in ACTIVATIONS:
            return None
        low, high = clip_bounds(user)
        return user if low <= 0 <= high and low < high else None

    def _range(self, value: ir.Value) -> Range:
        try:
            return self.ranges[str(value.name)]
        except KeyError:
            raise CalibrationError(f"value {value.name!r} has no range: is it float32?") from None

    def _choose_weights(self, node: ir.Node) -> None:
        weight = constant(node.inputs[1])
        _, bias = self._bias(node)
        assert weight is not None
        if not np.isfinite(weight).all() or (bias is not None and not np.isfinite(bias).all()):
            raise NotFinite(f"{node.op_type} {node.name!r} has weights that are NaN or infinite", "make them finite")
        x_scale = self.params[node.inputs[0]].scale  # type: ignore[index]
        self.weights[node] = quantize_weights(weight, bias, channel_axis(node), x_scale, self.per_channel)

    def _bias(self, node: ir.Node) -> tuple[tuple[ir.Node, int], Array | None]:
        """Where a layer's bias stands, its node and input, and the bias."""
        add = self.chosen.biases.get(node)
        if add is not None:
            index = next(i for i, value in enumerate(add.inputs) if constant(value) is not None)
            return (add, index), constant(add.inputs[index])
        return (node, 2), constant(node.inputs[2]) if len(node.inputs) > 2 else None

    def weight_errors(self) -> dict[str, tuple[str, Array]]:
        """By node name: the name of its input, and what rounding changed its weight by."""
        errors = {}
        for node, weights in self.weights.items():
            weight, axis = constant(node.inputs[1]), channel_axis(node)
            assert weight is not None
            along = np.broadcast_to(weights.scale, weight.shape[axis])
            along = along.reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
            errors[str(node.name)] = (str(node.inputs[0].name), weights.codes * along - weight)  # type: ignore[union-attr]
        return errors

    # -- Surgery

    def rewrite(self) -> None:
        """Put QuantizeLinear and DequantizeLinear into the graph."""
        for node, weights in self.weights.items():
            self._store_weights(node, weights)
        for node, index in self.operands:
            self._store_operand(node, index)
        for value in list(self.params):
            self._insert_pair(value)
        for node in self.superfluous:
            node.outputs[0].replace_all_uses_with(node.inputs[0])  # type: ignore[arg-type]
            self.graph.remove(node, safe=True)

    def _insert_pair(self, value: ir.Value) -> None:
        """value -> QuantizeLinear -> DequantizeLinear -> all who read it, graph outputs included; not who wants it exact."""
        name, params = str(value.name), self.params[value]
        users = [(u.node, u.idx) for u in value.uses() if u.node not in self.chosen.exact]
        outside = value.is_graph_output()
        scale = new_constant(self.graph, f"{name}.scale", np.asarray(params.scale, np.float32))
        zero = new_constant(self.graph, f"{name}.zero_point", np.asarray(params.zero_point, np.int8))
        integer_input = value.is_graph_input() and self.int8_io
        codes = value
        if not integer_input:
            codes = self._append("QuantizeLinear", [value, scale, zero], f"{name}.int8", value, ir.DataType.INT8)
        else:
            value.type = ir.TensorType(ir.DataType.INT8)
        real = self._append("DequantizeLinear", [codes, scale, zero], f"{name}.dequantized", value, ir.DataType.FLOAT)
        apart = [use for use in users if self._stays_float(use[0])]
        separate = self._dequantized_by_channel(codes, value, params) if apart else real
        for user, index in users:
            user.replace_input_with(index, separate if (user, index) in apart else real)
        if outside:
            self._move_output(value, codes if self.int8_io else real, name)

    def _stays_float(self, node: ir.Node) -> bool:
        """Whether a node the user keeps can be kept from becoming an integer kernel."""
        return node in self.kept and node.op_type not in FUSED_ANYHOW and not self._rule(node).moves

    def _dequantized_by_channel(self, codes: ir.Value, value: ir.Value, params: Affine) -> ir.Value:
        """Real values for a node that stays float32, by a DequantizeLinear with the same scale for every channel.

        From one with a single scale onnxruntime would make an integer kernel of the node, where a QuantizeLinear is
        behind it, or (WeightBiasQuantization) quantize a layer by itself with one scale for all its weights.
        """
        known = {i: size for i, size in enumerate(value.shape or []) if i and isinstance(size, int) and size > 1}
        axis, size = next(iter(known.items()), (None, 1))
        name = f"{value.name}.by_channel"
        scale = new_constant(self.graph, f"{name}.scale", np.full([size], params.scale, np.float32))
        zero = new_constant(self.graph, f"{name}.zero_point", np.full([size], params.zero_point, np.int8))
        attributes = {"axis": axis} if axis is not None else {}
        return self._append("DequantizeLinear", [codes, scale, zero], name, value, ir.DataType.FLOAT, attributes)

    def _append(
        self,
        op: str,
        inputs: list[ir.Value],
        name: str,
        like: ir.Value,
        dtype: ir.DataType,
        attributes: Mapping[str, Any] | None = None,
    ) -> ir.Value:
        node = ir.node(op, inputs, attributes or {}, name=name)
        output = node.outputs[0]
        output.name, output.shape, output.type = name, like.shape, ir.TensorType(dtype)
        self.graph.append(node)
        return output

    def _move_output(self, old: ir.Value, new: ir.Value, name: str) -> None:
        """Make `new` the graph output called `name`; what was called so becomes `name`.float."""
        for index, output in enumerate(self.graph.outputs):
            if output is old:
                self.graph.outputs[index] = new
        if not old.is_graph_input():
            old.name = f"{name}.float"
            new.name = name

    def _store_weights(self, node: ir.Node, weights: Weights) -> None:
        """Replace a layer's float weight and bias by integers and their DequantizeLinear."""
        x_scale = self.params[node.inputs[0]].scale  # type: ignore[index]
        bias = self._shifted_bias(node, weights, x_scale)
        self._replace(node, 1, weights.codes, weights.scale, channel_axis(node))
        if bias is not None:
            self._replace(*self._bias(node)[0], bias, np.float32(x_scale) * weights.scale, 0)

    def _store_operand(self, node: ir.Node, index: int) -> None:
        """Replace a constant operand by codes, whose scale follows from its smallest and largest element."""
        array = constant(node.inputs[index])
        assert array is not None
        scale, zero = Range(float(array.min()), float(array.max())).affine()
        codes = np.clip(np.rint(array / np.float32(scale)) + zero, -128, 127).astype(np.int8)
        self._replace(node, index, codes, np.asarray(scale, np.float32), 0, zero)

    def _shifted_bias(self, node: ir.Node, weights: Weights, x_scale: float) -> Array | None:
        shift = self.bias_shifts.get(str(node.name))
        if shift is None or weights.bias is None:
            return weights.bias
        _, bias = self._bias(node)
        assert bias is not None
        return quantize_bias(bias - shift, x_scale, weights.scale)

    def _replace(self, node: ir.Node, index: int, codes: Array, scale: Array, axis: int, zero: int = 0) -> None:
        old = node.inputs[index]
        assert old is not None
        name = str(old.name)
        node.replace_input_with(index, None)
        if not old.uses() and not old.is_graph_output():
            self.graph.initializers.pop(name, None)
        stored = new_constant(self.graph, name, codes)
        name = str(stored.name)
        scales = new_constant(self.graph, f"{name}.scale", scale.astype(np.float32))
        zeros = new_constant(self.graph, f"{name}.zero_point", np.full(scale.shape, zero, codes.dtype))
        attributes = {"axis": axis} if scale.ndim else {}
        dequantize = ir.node("DequantizeLinear", [stored, scales, zeros], attributes, name=f"{name}.dequantized")
        real = dequantize.outputs[0]
        real.name, real.shape, real.type = f"{name}.dequantized", old.shape, ir.TensorType(ir.DataType.FLOAT)
        self.graph.append(dequantize)
        node.replace_input_with(index, real)
