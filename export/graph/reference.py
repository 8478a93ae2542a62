"""Open onnxruntime sessions with the options that make integer results exact on every CPU (docs/arithmetic.md)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from .apart import Session, runs_apart
from .definition import as_defined, with_plain_biases
from .files import read
from .uses import inner_graphs

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
#: makes one of equal small constants, of which each layer that learns needs its own
_SHARING = ["ConstantSharing"]


#: operators of codes, and which of their operands are zero points of activations
_ZERO_POINTS = {
    "QuantizeLinear": (2,),
    "QLinearConv": (2, 7),
    "QLinearMatMul": (2, 7),
    "QGemm": (2, 8),
    "MatMulInteger": (2,),
    "ConvInteger": (2,),
}
_UINT8 = onnx.TensorProto.UINT8


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
    """True where activations are uint8, as dynamic ones always are: onnxruntime needs another option for those than for int8."""
    graph = model.graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types.update(
        (n.output[0], n.attribute[0].t.data_type) for n in graph.node if n.op_type == "Constant" and n.attribute
    )
    if any(value.type.tensor_type.elem_type == _UINT8 and value.name not in types for value in graph.input):
        return True
    for node in graph.node:
        if node.op_type.startswith("DynamicQuantize"):
            return True
        if node.op_type == "QuantizeLinear" and len(node.input) < 3:
            wanted = {attribute.i for attribute in node.attribute if attribute.name == "output_dtype"} - {0}
            if wanted <= {_UINT8}:  # the default
                return True
        names = [node.input[i] for i in _ZERO_POINTS.get(node.op_type, ()) if i < len(node.input)]
        if any(types.get(name) == _UINT8 for name in names):
            return True
    return False


def options(model: onnx.ModelProto) -> ort.SessionOptions:
    """Session options under which onnxruntime's integer results do not depend on the CPU."""
    result = ort.SessionOptions()
    result.log_severity_level = 4
    result.intra_op_num_threads = 1
    for key, value in _config(model).items():
        result.add_session_config_entry(key, value)
    return result


def _config(model: onnx.ModelProto) -> dict[str, str]:
    """The session's configuration that makes integer results independent of the CPU."""
    return {"session.x64quantprecision" if _has_uint8_activations(model) else "session.qdqisint8allowed": "1"}


def notes(model: onnx.ModelProto) -> list[str]:
    """What is to be said of the answers that a model's sessions give, a sentence each."""
    if not runs_apart(model):
        return []
    kinds = sorted({node.op_type for node in model.graph.node if inner_graphs(node)})
    return [
        f"compared with onnxruntime without optimization, which has crashed on graphs inside nodes ({', '.join(kinds)})"
    ]


def session(model: onnx.ModelProto | bytes | str | Path) -> ort.InferenceSession | Session:
    """Open a model as the exporter's reference.

    Parameters
    ----------
    model : an ONNX model, its bytes or its path; opened in a form that onnxruntime computes as ONNX defines it
        (`definition.as_defined`)

    Raises
    ------
    onnxruntime.capi.onnxruntime_pybind11_state.* : onnxruntime does not accept the model
    RuntimeError : the same of one that runs in a process of its own, or that crashes there
    """
    proto = as_defined(to_proto(model))
    if runs_apart(proto):
        return Session(proto, _level_apart(proto), [], _config(proto))
    return _open(proto, options, [])


def _level_apart(model: onnx.ModelProto) -> ort.GraphOptimizationLevel:
    """None where all is float, for which it is not needed; codes depend on what is fused."""
    level = ort.GraphOptimizationLevel
    return level.ORT_ENABLE_ALL if any("Quant" in n.op_type for n in model.graph.node) else level.ORT_DISABLE_ALL


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
        weight, given = node.input[at], node.input[zero_at] if len(node.input) > zero_at else ""
        like = arrays.get(node.input[1], np.zeros(())) if node.op_type == "DequantizeLinear" else np.zeros(())
        zero = arrays.get(given) if given else np.zeros_like(like, np.int8)
        if zero is None:
            continue
        for place, array in ((at, arrays[node.input[at]]), (zero_at, zero)):
            name = (given or f"{weight}.zero" if place == zero_at else weight) + _SUFFIX
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

        plain, without = with_plain_biases(model), _HIDING + _SHARING
        if runs_apart(plain):
            Session(plain, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, without, _config(plain), path)
        else:
            _open(plain, choose, without)
        fused = onnx.load(path)
    _restore_names(fused.graph)
    return fused


#: what onnxruntime appends to the name of an int8 constant that it turns into uint8
_SUFFIX = "_s8_2_u8"
_CONVERTED = re.compile(_SUFFIX + r"(_token_\d+)?$")


def _restore_names(graph: onnx.GraphProto) -> None:
    """Give constants that onnxruntime converted their names back: it does so on processors without VNNI alone.

    Layers are chosen by the names of their weights, and files must not depend on where they were made.
    """
    kept: dict[str, bytes] = {t.name: t.raw_data for t in graph.initializer if not _CONVERTED.search(t.name)}
    names: dict[str, str] = {}
    for tensor in [t for t in graph.initializer if _CONVERTED.search(t.name)]:
        plain = _CONVERTED.sub("", tensor.name)
        if plain not in kept:
            names[tensor.name] = plain
            kept[plain] = tensor.raw_data
            tensor.name = plain
        elif plain in names.values() and kept[plain] == tensor.raw_data:  # converted once for every node that reads it
            names[tensor.name] = plain
            graph.initializer.remove(tensor)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    for value in [v for v in graph.value_info if v.name in names or v.name in names.values()]:
        graph.value_info.remove(value)  # it tells the type from before the conversion


def unoptimized(model: onnx.ModelProto, threads: int = 1) -> ort.InferenceSession | Session:
    """Open a graph as it is, in a form that onnxruntime computes as ONNX defines it.

    Parameters
    ----------
    threads : 1 for a graph that runs once, for starting them would take longer than the run; 0: as many as there are cores
    """
    defined, level = as_defined(model), ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if runs_apart(defined):
        return Session(defined, level, [], {})
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.graph_optimization_level = level
    return ort.InferenceSession(defined.SerializeToString(), options, providers=["CPUExecutionProvider"])


def intermediates(
    fused: onnx.ModelProto, inputs: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Values inside a graph that is fused already (`fuse`) or all float, by name, in ONNX layout."""
    graph = onnx.ModelProto()
    graph.CopyFrom(fused)
    del graph.graph.output[:]
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return dict(zip(names, unoptimized(graph).run(list(names), dict(inputs)), strict=True))


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
    return np.asarray(unoptimized(model).run([output], dict(inputs))[0])


def to_proto(model: onnx.ModelProto | bytes | str | Path) -> onnx.ModelProto:
    """An ONNX model from whatever names it: a path, its bytes, or itself."""
    return model if isinstance(model, onnx.ModelProto) else read(model).proto
