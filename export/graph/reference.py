"""The desktop's answer: onnxruntime, with the options that make it well defined to the bit (docs/arithmetic.md)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

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


#: what quantizes its input as it runs, to uint8, or takes what was
_DYNAMIC = {"ConvInteger", "DynamicQuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger"}
#: operator -> its inputs that are int8 weights and their zero points, in ONNX's own domain or in onnxruntime's
_WEIGHTS = {
    "ConvInteger": (1, 3),
    "DequantizeLinear": (0, 2),
    "DynamicQuantizeMatMul": (1, 3),
    "MatMulInteger": (1, 3),
    "QGemm": (3, 5),
    "QLinearConv": (3, 5),
    "QLinearMatMul": (3, 5),
}


def _has_uint8_activations(model: onnx.ModelProto) -> bool:
    """True where a QuantizeLinear gives uint8: onnxruntime needs another option for those than for int8."""
    if any(node.op_type in _DYNAMIC for node in model.graph.node):
        return True
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "QLinearConv")]
    zero_points = [node.input[2 if node.op_type == "QuantizeLinear" else 7 : 9] for node in nodes]
    return any(
        not names or types.get(names[0], onnx.TensorProto.UINT8) == onnx.TensorProto.UINT8 for names in zero_points
    )


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
    return _open(to_proto(model), options, [])


def _open(
    proto: onnx.ModelProto, choose: Callable[[onnx.ModelProto], ort.SessionOptions], without: Sequence[str]
) -> ort.InferenceSession:
    """A session; with uint8 weights where onnxruntime stumbles over making those of int8 weights itself."""

    def opened(model: onnx.ModelProto) -> ort.InferenceSession:
        data, providers = model.SerializeToString(), ["CPUExecutionProvider"]
        return ort.InferenceSession(data, choose(model), providers=providers, disabled_optimizers=list(without))

    try:
        return opened(proto)
    except Exception:
        unsigned = _with_unsigned_weights(proto) if _has_uint8_activations(proto) else None
        if unsigned is None:
            raise
        return opened(unsigned)


def _with_unsigned_weights(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with uint8 in the place of int8 weights: both 128 higher, they and their zero points, so nothing else changes.

    None where there are none.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.data_type != onnx.TensorProto.STRING}
    made: dict[str, np.ndarray] = {}
    for node in graph.node:
        at, zero_at = _WEIGHTS.get(node.op_type, (-1, -1))
        if at < 0 or len(node.input) <= at or node.input[at] not in arrays or arrays[node.input[at]].dtype != np.int8:
            continue
        given = node.input[zero_at] if len(node.input) > zero_at else ""
        like = arrays.get(node.input[1], np.zeros(())) if node.op_type == "DequantizeLinear" else np.zeros(())
        zero = arrays.get(given) if given else np.zeros_like(like, np.int8)
        if zero is None:
            continue
        for place, array in ((at, arrays[node.input[at]]), (zero_at, zero)):
            name = f"{node.input[at]}.uint8{'.zero' if place == zero_at else ''}"
            made[name] = (array.astype(np.int16) + 128).astype(np.uint8)
            node.input.extend([""] * (place + 1 - len(node.input)))
            node.input[place] = name
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in made.items())
    return copy if made else None


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

        def choose(proto: onnx.ModelProto) -> ort.SessionOptions:
            chosen = options(proto)
            chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            chosen.optimized_model_filepath = str(path)
            return chosen

        _open(model, choose, _HIDING)
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
