"""The desktop's answer: onnxruntime, with the options that make it well defined to the bit (docs/arithmetic.md)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

#: float fusions of onnxruntime that would hide the layers of a float island behind operators of its own
_HIDING = [
    "ConvActivationFusion",
    "GemmActivationFusion",
    "MatmulTransposeFusion",
    "MatMulScaleFusion",
    "FastGeluFusion",
    "QuickGeluFusion",
    "GeluFusionL1",
    "GeluFusionL2",
    "BiasGeluFusion",
    "BiasSoftmaxFusion",
    "LayerNormFusionL1",
    "LayerNormFusionL2",
    "GatherSliceToSplitFusion",
    "ConvAddActivationFusion",
]


def _has_uint8_activations(model: onnx.ModelProto) -> bool:
    """True where a QuantizeLinear gives uint8: onnxruntime needs another option for those than for int8."""
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "QLinearConv")]
    zero_points = [node.input[2 if node.op_type == "QuantizeLinear" else 7 : 9] for node in nodes]
    return any(
        not names or types.get(names[0], onnx.TensorProto.UINT8) == onnx.TensorProto.UINT8 for names in zero_points
    )


def _with_weights_apart(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a copy of int8 weights for each reader: the first reader's conversion to uint8, which exact sums on
    x86 ask for, takes the name that onnxruntime then wants for the second's."""
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, index))
    weights = {
        tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims
    }
    shared = [
        node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in weights and len(readers.get(node.output[0], ())) > 1
    ]
    if not shared and all(len(readers.get(name, ())) < 2 for name in weights):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    outputs = {value.name for value in graph.output}
    nodes = []
    for node in graph.node:
        users = [(n, i) for n in graph.node for i, name in enumerate(n.input) if name == node.output[0]]
        nodes.append(node)
        if node.op_type != "DequantizeLinear" or node.input[0] not in weights or node.output[0] in outputs:
            continue
        for count, (user, index) in enumerate(users[1:], 1):
            twin = onnx.NodeProto()
            twin.CopyFrom(node)
            twin.name, twin.output[0] = f"{node.name}.twin{count}", f"{node.output[0]}.twin{count}"
            user.input[index] = twin.output[0]
            nodes.append(twin)
    seen: dict[str, int] = {}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    copies = []
    for node in nodes:
        for index, name in enumerate(node.input):
            if name in weights:
                seen[name] = seen.get(name, 0) + 1
                if seen[name] > 1:
                    copy = onnx.TensorProto()
                    copy.CopyFrom(tensors[name])
                    copy.name = f"{name}.twin{seen[name]}"
                    node.input[index] = copy.name
                    copies.append(copy)
    made = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(made)
    graph.initializer.extend(copies)
    return result


def options(model: onnx.ModelProto) -> ort.SessionOptions:
    """Session options under which onnxruntime's integer results do not depend on the CPU."""
    result = ort.SessionOptions()
    result.log_severity_level = 4
    result.intra_op_num_threads = 1
    key = "session.x64quantprecision" if _has_uint8_activations(model) else "session.qdqisint8allowed"
    result.add_session_config_entry(key, "1")
    return result


def session(model: onnx.ModelProto | bytes | str | Path) -> ort.InferenceSession:
    """Open a model as the exporter's reference.

    Parameters
    ----------
    model : an ONNX model, its bytes or its path

    Raises
    ------
    onnxruntime.capi.onnxruntime_pybind11_state.* : onnxruntime does not accept the model
    """
    proto = to_proto(model)
    apart = _with_weights_apart(proto)
    return ort.InferenceSession(apart.SerializeToString(), options(proto), providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto | bytes | str | Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of a model, by name, for inputs by name (ONNX shapes and layout)."""
    opened = session(model)
    names = [output.name for output in opened.get_outputs()]
    return dict(zip(names, opened.run(names, dict(inputs)), strict=True))


def fuse(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model after onnxruntime's own fusion of QDQ groups (QLinearConv, QGemm, ...), which the exporter lowers.

    Leaving the fusion to onnxruntime makes the exported program compute what onnxruntime does by construction.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fused.onnx"
        chosen = options(model)
        model = _with_weights_apart(model)
        chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        chosen.optimized_model_filepath = str(path)
        ort.InferenceSession(
            model.SerializeToString(), chosen, providers=["CPUExecutionProvider"], disabled_optimizers=_HIDING
        )
        return onnx.load(path)


def intermediates(
    fused: onnx.ModelProto, inputs: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Values inside a graph that is fused already (`fuse`) or all float, by name, in ONNX layout."""
    graph = onnx.ModelProto()
    graph.CopyFrom(fused)
    del graph.graph.output[:]
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    chosen = ort.SessionOptions()
    chosen.log_severity_level = 4
    chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    opened = ort.InferenceSession(graph.SerializeToString(), chosen, providers=["CPUExecutionProvider"])
    return dict(zip(names, opened.run(list(names), dict(inputs)), strict=True))


def run_nodes(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
    output: str,
    opsets: Mapping[str, int],
) -> np.ndarray:
    """Evaluate a few nodes on their own, unoptimized: `output`, from `inputs` and the `constants` they read."""
    graph = onnx.helper.make_graph(
        list(nodes),
        "nodes",
        [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in inputs.items()
        ],
        [onnx.ValueInfoProto(name=output)],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=8)
    chosen = ort.SessionOptions()
    chosen.log_severity_level = 4
    chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    opened = ort.InferenceSession(model.SerializeToString(), chosen, providers=["CPUExecutionProvider"])
    return np.asarray(opened.run([output], dict(inputs))[0])


def to_proto(model: onnx.ModelProto | bytes | str | Path) -> onnx.ModelProto:
    """An ONNX model from whatever names it: a path, its bytes, or itself."""
    if isinstance(model, onnx.ModelProto):
        return model
    if isinstance(model, bytes):
        return onnx.load_model_from_string(model)
    return onnx.load(model)
