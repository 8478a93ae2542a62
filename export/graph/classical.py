"""Convert operators of `ai.onnx.ml`, as skl2onnx writes them, to ONNX's own; drop outputs that are no tensors.

A linear classifier becomes Gemm and Softmax, a Scaler Sub and Mul. The predicted label (ArgMax and a table of names, of
int64 or strings) and ZipMap's list of dictionaries are left out: the scores are the output, the names of the classes go
into the metadata, and a note says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .uses import keep_what_is_read, reads

DOMAIN = "ai.onnx.ml"
KEY_LABELS = "edgeprop.labels"
#: what stands between scores and a label
_LABELS = {"ArgMax", "ArrayFeatureExtractor", "Binarizer", "LinearClassifier", "LabelEncoder"}
_PASSES_ON = {"Cast", "Reshape", "Identity", "Squeeze", "Flatten"}
_NAMES = ("classlabels_ints", "classlabels_int64s", "classlabels_strings")


def to_tensors(proto: onnx.ModelProto) -> list[str]:
    """Rewrite a model in place.

    Returns
    -------
    What was left out, a sentence each
    """
    version = next((opset.version for opset in proto.opset_import if opset.domain in ("", "ai.onnx")), 1)
    work = _Rewriter(proto.graph, version)
    notes = [*work.drop_maps(), *work.drop_labels()]
    keep_what_is_read(proto.graph)
    work.rewrite()
    if work.labels and not any(prop.key == KEY_LABELS for prop in proto.metadata_props):
        proto.metadata_props.add(key=KEY_LABELS, value=json.dumps(work.labels, ensure_ascii=False))
    if not any(node.domain == DOMAIN for node in proto.graph.node):
        kept = [opset for opset in proto.opset_import if opset.domain != DOMAIN]
        del proto.opset_import[:]
        proto.opset_import.extend(kept)
    return notes


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _names(node: onnx.NodeProto) -> list[str]:
    """Names of the classes that a node knows."""
    given = _attributes(node)
    for key in _NAMES:
        found = given.get(key)
        if isinstance(found, list) and found:
            return [name.decode() if isinstance(name, bytes) else str(name) for name in found]
    return []


class _Rewriter:
    """The rewriting of one graph; `labels`: names of the classes that were met on the way."""

    def __init__(self, graph: onnx.GraphProto, version: int) -> None:
        self.graph, self.version = graph, version
        self.labels: list[str] = []
        self.sum_to_one: set[str] = set()

    def _producer(self, name: str) -> onnx.NodeProto | None:
        return self._producers().get(name)

    def _producers(self) -> dict[str, onnx.NodeProto]:
        """The node of each value, in the graph as it is now."""
        return {output: node for node in self.graph.node for output in node.output if output}

    def drop_maps(self) -> Iterator[str]:
        """ZipMap at an output: its input is the output."""
        for node in [node for node in self.graph.node if node.op_type == "ZipMap"]:
            value = next((value for value in self.graph.output if value.name == node.output[0]), None)
            if value is None:
                continue
            self.labels = self.labels or _names(node)
            classes = [len(self.labels)] if self.labels else []
            value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [None, *classes]))
            same = helper.make_node("Identity", [node.input[0]], [value.name], name=node.name)
            node.CopyFrom(same)
            yield f"output '{value.name}' is a tensor of scores: the device has no dictionaries (ZipMap)"

    def drop_labels(self) -> Iterator[str]:
        """Outputs that name the class, where another has the scores."""
        floats = [v.name for v in self.graph.output if v.type.tensor_type.elem_type in (0, TensorProto.FLOAT)]
        kept: list[onnx.ValueInfoProto] = []
        dropped: dict[str, str] = {}
        for value in self.graph.output:
            scores = self._scores(value.name, floats) if value.name not in floats else None
            if scores is None:
                kept.append(value)
            else:
                dropped[value.name] = scores
        if not dropped:
            return
        self._find_names()
        del self.graph.output[:]
        self.graph.output.extend(kept)
        for name, scores in dropped.items():
            yield f"output '{name}', the label, is left out: take the largest of '{scores}'"

    def _scores(self, name: str, outputs: list[str]) -> str | None:
        """Which of some outputs has the scores that another one is the label of; None where it is no label of theirs."""
        node = self._producer(name)
        while node is not None and node.op_type in _PASSES_ON:
            node = self._producer(node.input[0])
        if node is None or node.op_type not in _LABELS:
            return None
        if node.op_type != "ArgMax":
            return next(iter(outputs), None)
        source = node.input[0]
        before = self._before(source)
        return next(
            (
                other
                for other in outputs
                if other in before or (self._producer(source) and source in self._before(other))
            ),
            None,
        )

    def _before(self, name: str) -> set[str]:
        """A value and all that it is made of."""
        found: set[str] = set()
        todo = [name]
        producers = self._producers()
        while todo:
            value = todo.pop()
            if value not in found:
                found.add(value)
                node = producers.get(value)
                todo += reads(node) if node is not None else []
        return found

    def _find_names(self) -> None:
        """Names of the classes: of the classifier, or the constant that labels are taken from."""
        arrays = {tensor.name: tensor for tensor in self.graph.initializer}
        for node in self.graph.node:
            found = _names(node) if node.op_type == "LinearClassifier" else []
            if node.op_type == "ArrayFeatureExtractor" and node.input[0] in arrays:
                values = numpy_helper.to_array(arrays[node.input[0]]).ravel().tolist()
                found = [value.decode() if isinstance(value, bytes) else str(value) for value in values]
            self.labels = self.labels or found

    def rewrite(self) -> None:
        """Put ONNX's own operators in the place of those of ai.onnx.ml."""
        nodes: list[onnx.NodeProto] = []
        for node in self.graph.node:
            rule = _RULES.get(node.op_type) if node.domain == DOMAIN else None
            nodes += (rule(self, node) if rule is not None else None) or [node]
        del self.graph.node[:]
        self.graph.node.extend(nodes)

    def _constant(self, node: onnx.NodeProto, what: str, array: np.ndarray) -> str:
        name = f"{node.name or node.output[0]}.{what}"
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    def linear(self, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        """LinearClassifier, of which just the scores are read, and LinearRegressor."""
        given = _attributes(node)
        post = given.get("post_transform", b"NONE")
        classifier = node.op_type == "LinearClassifier"
        output = node.output[1 if classifier else 0]
        if post not in (b"NONE", b"SOFTMAX", b"LOGISTIC") or (classifier and self._is_read(node.output[0])):
            return None
        bias = np.array(given.get("intercepts") or np.zeros(int(given.get("targets", 1))), np.float32)  # type: ignore[call-overload]
        weight = np.array(given["coefficients"], np.float32).reshape(len(bias), -1)
        if classifier and len(bias) == 1:  # the other class of two has what is left
            other = np.float32(0 if post == b"LOGISTIC" else 1)
            weight = np.concatenate([-weight, weight], dtype=np.float32)
            bias = np.concatenate([other - bias, bias], dtype=np.float32)
            post = b"LOGISTIC" if post == b"LOGISTIC" else b"NONE"
        opposite = len(bias) == 2 and np.array_equal(weight[0], -weight[1]) and bias[0] == -bias[1]
        if post == b"LOGISTIC" and opposite:  # the same probabilities, and a loss that two classes share
            weight, bias, post = weight * np.float32(0.5), bias * np.float32(0.5), b"SOFTMAX"
        last = {b"NONE": None, b"SOFTMAX": "Softmax", b"LOGISTIC": "Sigmoid"}[post]
        scores = output if last is None else f"{output}.scores"
        constants = [self._constant(node, "weight", weight), self._constant(node, "bias", bias)]
        gemm = helper.make_node("Gemm", [node.input[0], *constants], [scores], name=node.name, transB=1)
        if last is None:
            return [gemm]
        act = helper.make_node(last, [scores], [output], name=f"{node.name}.{last}")
        if last == "Softmax":
            self.sum_to_one.add(output)
            act.attribute.append(helper.make_attribute("axis", 1))
        return [gemm, act]

    def scaler(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Scaler: (x - offset) * scale."""
        given = _attributes(node)
        constants = [
            self._constant(node, key, np.array(given.get(key) or [d])) for key, d in (("offset", 0), ("scale", 1))
        ]
        moved = f"{node.output[0]}.moved"
        return [
            helper.make_node("Sub", [node.input[0], constants[0]], [moved], name=f"{node.name}.offset"),
            helper.make_node("Mul", [moved, constants[1]], [node.output[0]], name=f"{node.name}.scale"),
        ]

    def normalizer(self, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        """Normalizer: L1 and L2. Behind a Softmax, whose sum is 1 already, it is left out."""
        norm = _attributes(node).get("norm", b"MAX")
        if norm == b"L1" and node.input[0] in self.sum_to_one:
            return [helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name)]
        if norm == b"L2":
            return [
                helper.make_node("LpNormalization", [node.input[0]], [node.output[0]], name=node.name, axis=-1, p=2)
            ]
        if norm != b"L1":
            return None
        total, safe = f"{node.output[0]}.sum", f"{node.output[0]}.sum.positive"
        least = self._constant(node, "least", np.array([np.finfo(np.float32).tiny]))
        reduce = helper.make_node("ReduceL1", [node.input[0]], [total], name=f"{node.name}.sum", keepdims=1)
        if self.version >= 18:
            reduce.input.append(self._axes(node))
        else:
            reduce.attribute.append(helper.make_attribute("axes", [-1]))
        return [
            reduce,
            helper.make_node("Max", [total, least], [safe], name=f"{node.name}.positive"),
            helper.make_node("Div", [node.input[0], safe], [node.output[0]], name=node.name),
        ]

    def _axes(self, node: onnx.NodeProto) -> str:
        name = f"{node.name or node.output[0]}.axes"
        self.graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), name))
        return name

    def feature(self, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        """ArrayFeatureExtractor of computed values: Gather along the last axis."""
        return [helper.make_node("Gather", list(node.input), list(node.output), name=node.name, axis=-1)]

    def _is_read(self, name: str) -> bool:
        inside = any(name in reads(node) for node in self.graph.node)
        return inside or any(name == value.name for value in self.graph.output)


#: operator of ai.onnx.ml -> what ONNX nodes it becomes; None or no row: it stays, and the lowering refuses it
_RULES: dict[str, Callable[[_Rewriter, onnx.NodeProto], list[onnx.NodeProto] | None]] = {
    "ArrayFeatureExtractor": _Rewriter.feature,
    "LinearClassifier": _Rewriter.linear,
    "LinearRegressor": _Rewriter.linear,
    "Normalizer": _Rewriter.normalizer,
    "Scaler": _Rewriter.scaler,
}
