"""Models as other tools write them: PyTorch's two exporters, skl2onnx, opsets old and new, and what is refused."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprop import Model, export
from edgeprop.export.check import check
from edgeprop.export.graph.importer import load
from edgeprop.export.graph.samples import random_inputs
from edgeprop.export.lower import UnsupportedError, lower
from edgeprop.export.writers.image import to_image
from tests.support.graphs import model, node, shared

FLOAT = TensorProto.FLOAT


def normal(seed: int) -> Callable[..., Any]:
    random = np.random.default_rng(seed)
    return lambda *shape: random.standard_normal(shape).astype(np.float32)


def same(proto: onnx.ModelProto | Path) -> None:
    result = check(proto)
    assert result.status == "ok", result.message


def graph(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, Any]],
    outputs: dict[str, tuple[int, Any]],
    constants: dict[str, Any] | None = None,
    domains: tuple[str, ...] = (),
    opset: int = 17,
) -> onnx.ModelProto:
    """A model whose values may have any type: (element type, shape)."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


# ---- PyTorch ---------------------------------------------------------------------------------------------------------

try:
    import torch

    from tests.support.torch_nets import NETS
    from tests.support.torch_nets import make as make_net
except ImportError:
    torch, NETS = None, {"-": None}  # type: ignore[assignment]

needs_torch = pytest.mark.skipif(
    torch is None, reason="torch and onnxscript are not installed (pip install edgeprop[foreign])"
)
#: nets that the exporter cannot write in older opsets
_TOO_OLD = {
    "einsum": 12,
    "running sums": 11,
    "upsample": 11,
    "yolo": 11,
    "heat map": 11,
    "choices": 11,
    "mobile attention": 14,
}
#: what tracing cannot write: PyTorch's own transformer branches on a tensor there
_TRACED = [name for name in NETS if name != "transformer"]


def exported(net: Any, x: Any, path: Path, **options: Any) -> Path:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(net, x, path, **options)
    return path


@needs_torch
@pytest.mark.parametrize("opset", [9, 13, 20])
@pytest.mark.parametrize("name", _TRACED)
def test_pytorch_by_tracing(name: str, opset: int, tmp_path: Path) -> None:
    """torch.onnx.export(dynamo=False), with a batch axis of any size, of one and of two samples."""
    opset = max(opset, _TOO_OLD.get(name, 0))
    for batch, dynamic in ((1, False), (2, False), (2, True)):
        net, x = make_net(name, batch)
        names = [f"x{i}" for i in range(len(x))]
        axes = {name: {0: "N"} for name in names} if dynamic else None
        options = {"dynamo": False, "opset_version": opset, "input_names": names, "dynamic_axes": axes}
        path = exported(net, x, tmp_path / "net.onnx", **options)
        same(path)
        if not dynamic:
            continue
        program = lower(path)
        assert all(port.shape[0] == 0 for port in (*program.inputs, *program.outputs))
        device = Model(to_image(program)).run(*(value.numpy() for value in x))
        with torch.no_grad():
            wanted = net(*x)
        for have, want in zip(device, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            np.testing.assert_allclose(have, want.numpy(), rtol=1e-4, atol=1e-5)


@needs_torch
@pytest.mark.parametrize("name", NETS)
def test_pytorch_by_dynamo(name: str, tmp_path: Path) -> None:
    """torch.onnx.export(dynamo=True)."""
    pytest.importorskip("onnxscript")
    net, x = make_net(name)
    same(exported(net, x, tmp_path / "net.onnx", dynamo=True, external_data=False, verbose=False))


@needs_torch
@pytest.mark.parametrize("name", ["cnn", "inverted residual"])
def test_pytorch_quantized_by_pt2e(name: str, tmp_path: Path) -> None:
    """torchao's quantization of an exported program (PT2E), for x86: QDQ with uint8 activations, weights by channel."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("torchao")
    from torchao.quantization.pt2e import quantize_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    net, x = make_net(name)
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = quantize_pt2e.prepare_pt2e(torch.export.export(net, tuple(x)).module(), quantizer)
    for seed in range(4):
        torch.manual_seed(seed)
        prepared(*(torch.randn_like(value) for value in x))
    net = torch.export.export(quantize_pt2e.convert_pt2e(prepared), tuple(x))
    path = exported(net, tuple(x), tmp_path / "net.onnx", dynamo=True, external_data=False, verbose=False)
    same(path)
    assert "conv2d_s8" in {op.kind for op in lower(path).ops}


@needs_torch
@pytest.mark.parametrize("name", ["transformer", "mobile attention"])
def test_attention_of_the_newest_opsets(name: str, tmp_path: Path) -> None:
    """From opset 23 on scaled_dot_product_attention is one node."""
    pytest.importorskip("onnxscript")
    net, x = make_net(name, 1)
    path = tmp_path / "net.onnx"
    same(exported(net, x, path, dynamo=True, external_data=False, verbose=False, opset_version=23))
    assert "Attention" in {node.op_type for node in onnx.load(path).graph.node}


@needs_torch
@pytest.mark.parametrize(
    "name",
    [
        "blaze",
        "yolo",
        "detector",
        "cnn",
        "inverted residual",
        "lstm state",
        "causal attention",
        "pixel shuffle",
        "gated",
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_quantized_from_pytorch(name: str, batch: int, tmp_path: Path) -> None:
    """Bit for bit what onnxruntime computes, also where the batch axis has a fixed size."""
    net, x = make_net(name, batch)
    path = exported(net, x, tmp_path / "net.onnx", dynamo=False, opset_version=17)
    samples = random_inputs(load(path).proto.graph, 0, batch)
    saved = export.save(tmp_path / "quantized", path, calibration=np.concatenate([*samples.values()] * 8))
    same(saved.model)


# ---- A batch axis of fixed size --------------------------------------------------------------------------------------


def heads() -> onnx.ModelProto:
    """Multi-head attention as PyTorch traces it: steps first, heads beside the batch."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("MatMul", ["t", "w"], ["qk"]),
        node("Split", ["qk"], ["q", "k"], axis=2, num_outputs=2),
        node("Reshape", ["q", "heads"], ["q1"]),
        node("Transpose", ["q1"], ["q2"], perm=[1, 0, 2]),
        node("Reshape", ["k", "heads"], ["k1"]),
        node("Transpose", ["k1"], ["k2"], perm=[1, 2, 0]),
        node("MatMul", ["q2", "k2"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1),
        node("MatMul", ["p", "q2"], ["o"]),
        node("Transpose", ["o"], ["o1"], perm=[1, 0, 2]),
        node("Reshape", ["o1", "flat"], ["o2"]),
        node("Gemm", ["o2", "w2"], ["o3"]),
        node("Reshape", ["o3", "steps"], ["o4"]),
        node("Transpose", ["o4"], ["y"], perm=[1, 0, 2]),
    ]
    constants = {"heads": np.array([5, 6, 4]), "flat": np.array([15, 8]), "steps": np.array([5, 3, 8])}
    constants |= {"w": normal(0)(8, 16), "w2": normal(1)(8, 8)}
    return model(nodes, {"x": [3, 5, 8]}, ["y"], constants, 18, shapes={"y": [3, 5, 8]})


def test_heads_beside_the_batch() -> None:
    same(heads())
    assert lower(heads()).inputs[0].shape == (3, 5, 8)


def repeated(third: float) -> onnx.ModelProto:
    """A token for each sample, folded to a constant, and a state that an LSTM starts from."""
    token = np.stack([normal(0)(1, 4)] * 3)
    token[2] += third
    states = np.zeros((1, 3, 6), np.float32)
    nodes = [
        node("Concat", ["token", "x"], ["c"], axis=1),
        node("Transpose", ["c"], ["t"], perm=[1, 0, 2]),
        node("LSTM", ["t", "w", "r", "", "", "h", "h"], ["", "last"], hidden_size=6),
        node("Gather", ["last", "i"], ["g"], axis=0),
        node("Add", ["g", "shift"], ["y"]),
    ]
    constants = {"token": token, "h": states, "i": np.array(-1), "shift": np.ones((3, 6), np.float32)}
    constants |= {"w": normal(1)(1, 24, 4), "r": normal(2)(1, 24, 6)}
    return model(nodes, {"x": [3, 2, 4]}, ["y"], constants, shapes={"y": [3, 6]})


def test_constants_for_every_sample() -> None:
    same(repeated(0))
    same(repeated(1))  # they differ, so it is one sample of three sequences


def test_samples_that_mix_are_one() -> None:
    nodes = [node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1), node("Sub", ["x", "m"], ["y"])]
    fixed = model(nodes, {"x": [3, 4]}, ["y"], shapes={"y": [3, 4]})
    same(fixed)
    assert lower(fixed).inputs[0].shape == (1, 3, 4)
    with pytest.raises(UnsupportedError, match="averages over the batch axis"):
        lower(model(nodes, {"x": ["N", 4]}, ["y"]))


def test_the_first_axis_may_be_removed_where_samples_stay_apart() -> None:
    nodes = [node("Unsqueeze", ["x", "zero"], ["a"]), node("Squeeze", ["a", "zero"], ["b"]), node("Relu", ["b"], ["y"])]
    same(model(nodes, {"x": ["N", 4]}, ["y"], {"zero": np.array([0])}))
    nodes = [node("Gather", ["x", "zero"], ["a"], axis=0), node("Relu", ["a"], ["y"])]
    with pytest.raises(UnsupportedError, match="picks from the batch axis"):
        lower(model(nodes, {"x": ["N", 4]}, ["y"], {"zero": np.array([0])}))


# ---- Operators in others ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("equation", "a", "b"),
    [
        ("nd,de->ne", ["N", 4], (4, 3)),
        ("ntd,ed->nte", ["N", 5, 4], (3, 4)),
        ("btd,de->bet", ["N", 5, 4], (4, 3)),
        ("bqd, bkd -> bqk", ["N", 5, 4], None),
        ("bqd,bkd->bkq", ["N", 5, 4], None),
    ],
)
def test_einsum(equation: str, a: list[Any], b: tuple[int, ...] | None) -> None:
    nodes = [
        node("Relu", ["x"], ["h"]),
        node("Sigmoid", ["x"], ["g"]),
        node("Einsum", ["h", "w" if b else "g"], ["y"], equation=equation),
    ]
    same(model(nodes, {"x": a}, ["y"], {"w": normal(0)(*b)} if b else {}))


@pytest.mark.parametrize("equation", ["nii,nij->nj", "nij,nkl->nk"])
def test_einsum_that_is_no_product(equation: str) -> None:
    nodes = [node("Einsum", ["x", "x"], ["y"], equation=equation, name="e")]
    with pytest.raises(UnsupportedError, match="Einsum 'e'"):
        lower(model(nodes, {"x": ["N", 4, 4]}, ["y"], {"w": normal(0)(4, 4)}))


def test_masks() -> None:
    """Causal attention with Where and with an Add of minus infinity; a mask that leaves computed values."""
    future = np.triu(np.ones((4, 4), bool), 1)
    for nodes in (
        [node("Where", ["future", "least", "x"], ["m"]), node("Softmax", ["m"], ["y"], axis=-1)],
        [node("Add", ["x", "infinite"], ["m"]), node("Softmax", ["m"], ["y"], axis=-1)],
        [node("Where", ["past", "x", "values"], ["m"]), node("Relu", ["m"], ["y"])],
    ):
        constants = {
            "future": future,
            "past": ~future,
            "least": np.float32(-np.inf),
            "infinite": np.where(future, -np.inf, 0).astype(np.float32),
            "values": normal(1)(4, 4),
        }
        same(model(nodes, {"x": ["N", 4, 4]}, ["y"], constants))


def test_softplus_of_pytorch() -> None:
    nodes = [
        node("Greater", ["x", "bound"], ["far"]),
        node("Softplus", ["x"], ["s"]),
        node("Where", ["far", "x", "s"], ["y"]),
    ]
    proto = model(nodes, {"x": ["N", 4]}, ["y"], {"bound": np.float32(20)})
    assert [op.kind for op in lower(proto).ops] == ["softplus_f32"]
    x = np.float32([[-30, 0.5, 19, 30]])
    assert check(proto, {"x": x}).status == "ok"
    other = model(nodes, {"x": ["N", 4]}, ["y"], {"bound": np.float32(1)})  # another function
    assert "sign_f32" in [op.kind for op in lower(other).ops]
    assert check(other, {"x": x}).status == "ok"


def test_functions_are_inlined() -> None:
    body = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Add", ["b", "a"], ["c"])]
    function = helper.make_function("mine", "Twice", ["a"], ["c"], body, [helper.make_opsetid("", 17)])
    proto = graph(
        [helper.make_node("Twice", ["x"], ["y"], domain="mine")],
        {"x": (FLOAT, ["N", 4])},
        {"y": (FLOAT, ["N", 4])},
        domains=("mine",),
    )
    proto.functions.append(function)
    same(proto)


@pytest.mark.parametrize("opset", [8, 10, 12, 14, 16, 18, 20, 22, 24, onnx.defs.onnx_opset_version()])
@pytest.mark.parametrize("path", ["community/mnist_cntk_cnn.onnx", "community/qonnx_residual_block.onnx", "heads"])
def test_opsets(path: str, opset: int) -> None:
    proto = heads() if path == "heads" else onnx.load(shared(path))
    have = next(o.version for o in proto.opset_import if o.domain == "")
    if opset < have and have > 13:
        pytest.skip(f"onnx does not convert {path} back from opset {have} to {opset}")
    same(onnx.version_converter.convert_version(proto, opset))


def test_codes_in_the_newest_opset() -> None:
    """onnxruntime has no QuantizeLinear of the newest opset yet."""
    proto = onnx.load(shared("ort_quantized/kws_qdq_perchannel.onnx"))
    same(onnx.version_converter.convert_version(proto, onnx.defs.onnx_opset_version()))


# ---- scikit-learn, as skl2onnx writes it -----------------------------------------------------------------------------


def classifier(post: str, classes: int, names: bool, **more: Any) -> onnx.ModelProto:
    """Scaler, LinearClassifier, Normalizer and ZipMap of a logistic regression."""
    array = normal(0)
    labels = (
        {"classlabels_strings": list("abc")[: max(classes, 2)]}
        if names
        else {"classlabels_ints": [4, 7, 9][: max(classes, 2)]}
    )
    maps = {key.replace("_ints", "_int64s"): value for key, value in labels.items()}
    linear = {
        "coefficients": array(classes * 5).tolist(),
        "intercepts": array(classes).tolist(),
        "post_transform": post,
    }
    linear |= more
    domain = "ai.onnx.ml"
    nodes = [
        helper.make_node(
            "Scaler", ["x"], ["s"], name="Scaler", domain=domain, offset=[0.5] * 5, scale=[1.0, 2, 3, 4, 5]
        ),
        helper.make_node("LinearClassifier", ["s"], ["label", "p"], name="Linear", domain=domain, **linear, **labels),
        helper.make_node("Normalizer", ["p"], ["q"], name="Normalizer", domain=domain, norm="L1"),
        helper.make_node("Identity" if names else "Cast", ["label"], ["output_label"], **({} if names else {"to": 7})),
        helper.make_node("ZipMap", ["q"], ["output_probability"], name="ZipMap", domain=domain, **maps),
    ]
    proto = graph(
        nodes,
        {"x": (FLOAT, [None, 5])},
        {"output_label": (TensorProto.STRING if names else TensorProto.INT64, [None])},
        domains=(domain,),
    )
    key = TensorProto.STRING if names else TensorProto.INT64
    value = helper.make_map_type_proto(key, helper.make_tensor_type_proto(FLOAT, []))
    proto.graph.output.append(helper.make_value_info("output_probability", helper.make_sequence_type_proto(value)))
    return proto


@pytest.mark.parametrize("names", [False, True])
@pytest.mark.parametrize(("post", "classes"), [("SOFTMAX", 3), ("LOGISTIC", 3), ("LOGISTIC", 1), ("SOFTMAX", 2)])
def test_linear_classifiers(post: str, classes: int, names: bool, tmp_path: Path) -> None:
    proto = classifier(post, classes, names)
    same(proto)
    imported = load(proto)
    assert [value.name for value in imported.proto.graph.output] == ["output_probability"]
    assert imported.notes == [
        "output 'output_probability' is a tensor of scores: the device has no dictionaries (ZipMap)",
        "output 'output_label', the label, is left out: take the largest of 'output_probability'",
    ]
    saved = export.save(tmp_path / "net", proto, trainable="last", loss="mse" if classes == 3 else None)
    assert "note: output 'output_label', the label, is left out" in str(saved)
    assert saved.program.labels == (list("abc") if names else ["4", "7", "9"])[: max(classes, 2)]
    assert saved.train_arena > 0


def test_two_classes_that_share_a_line_learn_as_softmax() -> None:
    """The probabilities of a logistic regression, and the loss that fits them."""
    program = lower(classifier("LOGISTIC", 1, False), trainable="last")
    assert (program.loss, program.logits) == ("softmax_cross_entropy", "p.scores")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("TreeEnsembleRegressor", {})], r"TreeEnsembleRegressor 'n0': .*; MLPRegressor"),
        ([("Normalizer", {"norm": "MAX"})], "Normalizer 'n0': .*; L1 or L2"),
        ([("LinearRegressor", {"coefficients": [1.0] * 5, "post_transform": "PROBIT"})], "LinearRegressor 'n0'"),
        ([("Imputer", {})], "Imputer 'n0'"),
    ],
)
def test_what_of_scikit_learn_is_refused(nodes: list[tuple[str, dict[str, Any]]], message: str) -> None:
    made = [
        helper.make_node(kind, ["x"], ["y"], name=f"n{i}", domain="ai.onnx.ml", **attributes)
        for i, (kind, attributes) in enumerate(nodes)
    ]
    proto = graph(made, {"x": (FLOAT, ["N", 5])}, {"y": (FLOAT, ["N", 1])}, domains=("ai.onnx.ml",))
    with pytest.raises(UnsupportedError, match=message):
        lower(proto)


def test_a_label_of_an_input_is_refused() -> None:
    nodes = [node("ArgMax", ["x"], ["y"], axis=1, name="label")]
    proto = graph(nodes, {"x": (FLOAT, ["N", 4])}, {"y": (TensorProto.INT64, ["N", 1])})
    with pytest.raises(UnsupportedError, match=r"ArgMax 'label': .*; the scores themselves as output"):
        lower(proto)


def estimators() -> dict[str, Any]:
    from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
    from sklearn.svm import LinearSVC

    x, y = normal(0)(90, 4), np.arange(90) % 3
    x += y[:, None]
    hidden = {"hidden_layer_sizes": (6,), "max_iter": 30, "random_state": 0}
    return {
        "mlp": MLPClassifier(**hidden).fit(x, y),
        "mlp of two": MLPClassifier(activation="tanh", **hidden).fit(x, y > 1),
        "mlp of names": MLPClassifier(activation="logistic", **hidden).fit(x, np.array(list("abc"))[y]),
        "mlp regressor": MLPRegressor(**hidden).fit(x, x[:, 0]),
        "logistic": LogisticRegression().fit(x, y),
        "logistic of two": LogisticRegression().fit(x, y > 1),
        "pipeline": make_pipeline(StandardScaler(), MLPClassifier(**hidden)).fit(x, y),
        "min max": make_pipeline(MinMaxScaler(), LogisticRegression()).fit(x, y),
        "normalized": make_pipeline(Normalizer("l1"), Normalizer(), LogisticRegression()).fit(x, y),
        "linear": LinearRegression().fit(x, x[:, 0]),
        "ridge": make_pipeline(StandardScaler(), Ridge()).fit(x, x[:, :2]),
        "svc": LinearSVC().fit(x, y),
    }


def test_skl2onnx() -> None:
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed (pip install edgeprop[foreign])")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = estimators()
    for name, estimator in models.items():
        for opset in (11, 15, 18):
            proto = skl2onnx.to_onnx(estimator, np.zeros((1, 4), np.float32), target_opset=opset)
            result = check(proto)
            assert result.status == "ok", f"{name}, opset {opset}: {result.message}"


# ---- Refusals --------------------------------------------------------------------------------------------------------


def branches() -> tuple[onnx.GraphProto, onnx.GraphProto]:
    value = helper.make_tensor_value_info("b", FLOAT, None)
    return tuple(helper.make_graph([helper.make_node(op, ["x"], ["b"])], op, [], [value]) for op in ("Relu", "Neg"))  # type: ignore[return-value]


def looped() -> onnx.GraphProto:
    ports = [("i", TensorProto.INT64), ("c", TensorProto.BOOL), ("v", FLOAT)]
    inputs = [helper.make_tensor_value_info(name, kind, [] if kind != FLOAT else None) for name, kind in ports]
    outputs = [
        helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v2", FLOAT, None),
    ]
    nodes = [helper.make_node("Relu", ["v"], ["v2"]), helper.make_node("Identity", ["c"], ["c2"])]
    return helper.make_graph(nodes, "body", inputs, outputs)


X, Y = {"x": (FLOAT, ["N", 4])}, {"y": (FLOAT, ["N", 4])}
HALF, DOUBLE, LONG, BOOL = TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.BOOL


def through(kind: int, dtype: Any) -> onnx.ModelProto:
    """A MatMul in another type."""
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], name="there", to=kind),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="product"),
        helper.make_node("Cast", ["b"], ["y"], name="back", to=FLOAT),
    ]
    return graph(nodes, X, Y, {"w": np.ones((4, 4), dtype)})


def one(op: str, inputs: Any = X, outputs: Any = Y, domain: str = "", **attributes: Any) -> onnx.ModelProto:
    made = helper.make_node(op, list(inputs), list(outputs), name="it", domain=domain, **attributes)
    return graph([made], inputs, outputs, domains=(domain,) if domain else ())


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], list[str]]] = {
    "an operator that the device has not": (lambda: one("Mod", {**X, "x2": (FLOAT, ["N", 4])}, fmod=1), ["Mod 'it': "]),
    "an operator of another domain": (lambda: one("Gadget", domain="my.own"), ["my.own.Gadget 'it': "]),
    "an operator that there is not": (lambda: one("Gadget"), ["Gadget 'it': the device has no such operator"]),
    "half": (
        lambda: one("Relu", {"x": (HALF, ["N", 4])}, {"y": (HALF, ["N", 4])}),
        ["input 'x': it is FLOAT16; float32"],
    ),
    "double": (
        lambda: one("Relu", {"x": (DOUBLE, [2, 4])}, {"y": (DOUBLE, [2, 4])}),
        ["input 'x': it is DOUBLE; float32"],
    ),
    "bool": (
        lambda: one("Not", {"x": (BOOL, ["N", 4])}, {"y": (BOOL, ["N", 4])}),
        ["input 'x': it is BOOL", "Not 'it'"],
    ),
    "strings": (lambda: one("Identity", {"x": (8, ["N", 4])}, {"y": (8, ["N", 4])}), ["input 'x': it is STRING"]),
    "whole numbers": (
        lambda: one("Abs", {"x": (LONG, ["N", 4])}, {"y": (LONG, ["N", 4])}),
        ["Abs 'it': it works on integers"],
    ),
    "half inside": (lambda: through(HALF, np.float16), ["Cast 'there': it casts FLOAT to FLOAT16; float32", "'back'"]),
    "double inside": (lambda: through(DOUBLE, np.float64), ["Cast 'there': it casts FLOAT to DOUBLE", "'back'"]),
    "axes that vary": (
        lambda: one("Relu", {"x": (FLOAT, ["N", 3, "H", "W"])}, {"y": (FLOAT, None)}),
        ["input 'x': axis 2 ('H'), axis 3 ('W') may vary; only the first (batch) axis can"],
    ),
    "no shape": (lambda: one("Relu", {"x": (FLOAT, None)}, {"y": (FLOAT, None)}), ["input 'x': it has no shape"]),
    "no elements": (lambda: one("Relu", {"x": (FLOAT, ["N", 0])}, {"y": (FLOAT, ["N", 0])}), ["it has no elements"]),
    "a condition": (
        lambda: graph(
            [
                helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0, name="max"),
                helper.make_node("Cast", ["m"], ["c"], to=BOOL, name="cast"),
                helper.make_node("If", ["c"], ["y"], name="if", then_branch=branches()[0], else_branch=branches()[1]),
            ],
            X,
            Y,
        ),
        [
            "Cast 'cast': it casts FLOAT to BOOL",
            "If 'if': the device has no such operator; a condition that is constant",
        ],
    ),
    "a loop": (
        lambda: graph(
            [helper.make_node("Loop", ["n", "", "x"], ["y"], name="loop", body=looped())], X, Y, {"n": np.array(3)}
        ),
        ["Loop 'loop': the device has no such operator; the loop unrolled"],
    ),
    "sizes of the data": (
        lambda: graph(
            [
                helper.make_node("NonZero", ["x"], ["h"], name="nz"),
                helper.make_node("Cast", ["h"], ["y"], to=FLOAT, name="c"),
            ],
            X,
            {"y": (FLOAT, None)},
        ),
        ["NonZero 'nz'", "Cast 'c': it casts INT64 to FLOAT"],
    ),
    "an output that is an input": (lambda: graph([], X, {"x": (FLOAT, ["N", 4])}), ["output 'x': it is an input too"]),
    "an output that is constant": (
        lambda: graph([helper.make_node("Relu", ["w"], ["y"])], X, Y, {"w": np.ones((4, 4), np.float32)}),
        ["output 'y': it does not depend on the inputs"],
    ),
    "a computed shape": (
        lambda: one("Reshape", {**X, "s": (LONG, [2])}, {"y": (FLOAT, None)}),
        ["Reshape 'it': its shape is not constant; shape as an initialiser"],
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(what: str, tmp_path: Path) -> None:
    """By every road, with each node in a line of its own: operator, name, why, and what to do instead."""
    make, lines = REFUSED[what]
    proto = make()
    with pytest.raises(UnsupportedError) as caught:
        lower(proto)
    message = str(caught.value)
    assert len(caught.value.nodes) >= len(lines)
    assert message.count("\n") == len(caught.value.nodes)
    for line in lines:
        assert line in message
    assert check(proto).status == "unsupported"
    with pytest.raises(ValueError, match="unsupported"):
        export.save(tmp_path / "net", proto)
    if what != "no shape":
        shape = [d.dim_value or 1 for d in proto.graph.input[0].type.tensor_type.shape.dim]
        with pytest.raises(ValueError):  # noqa: PT011 - calibration may fail before
            export.save(tmp_path / "net", proto, calibration=np.ones(shape, np.float32))
    assert not list(tmp_path.iterdir())


def test_opsets_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match=r"opset 99 is newer than onnx .* knows"):
        lower(model([node("Relu", ["x"], ["y"])], {"x": ["N", 4]}, ["y"], opset=99))
