"""Reading models, their batch axis, and the normal form."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeprop import Model, export
from edgeprop.export.check import check
from edgeprop.export.errors import TrainableError
from edgeprop.export.graph import importer, reference
from edgeprop.export.graph.importer import load
from edgeprop.export.graph.normalize import normalize
from edgeprop.export.lower import UnsupportedError, lower
from tests.support.graphs import model, node, qdq, shared


def relu(shape: Any, out: Any = None, **options: Any) -> onnx.ModelProto:
    return model([node("Relu", ["x"], ["y"])], {"x": shape}, ["y"], shapes={"y": out or shape}, **options)


def test_source_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "my net.onnx"
    onnx.save(relu(["N", 3]), path)
    from_path, from_bytes = load(path), load(path.read_bytes())
    assert (from_path.source, from_bytes.source) == ("my net.onnx", "")
    assert from_path.source_hash == from_bytes.source_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert lower(path).name == "my_net"
    assert lower(str(path)).source == "my net.onnx"


def test_the_model_given_is_not_changed() -> None:
    proto = relu(["N", 3])
    before = proto.SerializeToString()
    lower(proto)
    assert proto.SerializeToString() == before


@pytest.mark.parametrize(
    ("shape", "batch"), [(["N", 3], 0), ([None, 3], 0), ([1, 3], 1), ([5, 3], 5), (["N"], 0), ([7], 7), ([], None)]
)
def test_batch_axis(shape: Any, batch: int | None) -> None:
    assert load(relu(shape)).batch == batch


def test_fixed_first_axes_that_differ_are_no_batch() -> None:
    proto = model(
        [node("Identity", ["a"], ["y"]), node("Identity", ["b"], ["z"])], {"a": [2, 3], "b": [4, 3]}, ["y", "z"]
    )
    assert load(proto).batch is None
    assert [port.shape for port in lower(proto).inputs] == [(1, 2, 3), (1, 4, 3)]


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (lambda: b"not a model", "not an ONNX model"),
        (lambda: relu(["N", "width"]), r"input 'x': axis 1 \('width'\) may vary"),
        (lambda: relu([2], opset=6), "opset 6 is too old"),
        (
            lambda: model([node("Relu", ["x", "x"], ["y"])], {"x": [2]}, ["y"], shapes={"y": [2]}),
            "onnx.checker rejects",
        ),
        (lambda: relu([2], dtype=onnx.TensorProto.DOUBLE), "input 'x': it is DOUBLE; float32, int8 or uint8"),
    ],
)
def test_models_that_are_refused(proto: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lower(proto())


def test_no_such_file() -> None:
    with pytest.raises(FileNotFoundError):
        lower("nowhere.onnx")


def test_initializers_listed_as_inputs() -> None:
    """IR version 3, as CNTK and old PyTorch write it."""
    proto = model([node("Gemm", ["x", "w"], ["y"])], {"x": [1, 2], "w": [2, 3]}, ["y"], {"w": np.ones((2, 3), "f4")})
    assert [port.name for port in lower(proto).inputs] == ["x"]


def test_constants_fold() -> None:
    """Constant nodes, arithmetic on them, and integer weights behind DequantizeLinear in a float model."""
    nodes = [
        node("Constant", [], ["raw"], value=onnx.numpy_helper.from_array(np.ones((3, 2), np.float32))),
        node("Transpose", ["raw"], ["w"], perm=[1, 0]),
        node("DequantizeLinear", ["codes", "scale"], ["bias"]),
        node("Gemm", ["x", "w", "bias"], ["y"], name="fc"),
    ]
    constants = {"codes": np.array([1, 2, 3], np.int8), "scale": np.float32(0.5)}
    program = lower(model(nodes, {"x": ["N", 2]}, ["y"], constants))
    assert [op.kind for op in program.ops] == ["dense_f32"]
    np.testing.assert_array_equal(program.tensors["bias"].data, np.float32([0.5, 1, 1.5]))
    assert [op.name for op in program.ops] == ["fc"]


def test_shared_weights_are_stored_once() -> None:
    nodes = [node("Gemm", ["x", "w"], ["h"], name="a"), node("Gemm", ["h", "w"], ["y"], name="b")]
    proto = model(nodes, {"x": ["N", 3]}, ["y"], {"w": np.eye(3, dtype=np.float32)})
    program = lower(proto)
    assert program.ops[0].inputs[1] == program.ops[1].inputs[1] == "w"
    with pytest.raises(ValueError, match="weight 'w' is shared"):
        lower(proto, trainable="a", loss="mse")


def test_quantized_graph_is_what_onnxruntime_fuses() -> None:
    normal = normalize(load(shared("mlperf_tiny/pretrainedResnet_quant.tf2onnx13.onnx")))
    operators = [n.op_type for n in normal.model.graph]
    assert (operators.count("QLinearConv"), operators.count("QLinearAdd"), operators.count("QGemm")) == (9, 3, 1)
    assert "DequantizeLinear" not in operators


def test_reference_options() -> None:
    """int8 and uint8 graphs each get the option under which onnxruntime is defined to the bit."""
    for dtype, key in ((np.int8, "session.qdqisint8allowed"), (np.uint8, "session.x64quantprecision")):
        pair, constants = qdq("x", 0.1, 3, dtype)
        proto = model(pair, {"x": ["N", 4]}, ["x.dq"], constants)
        assert reference.options(proto).get_session_config_entry(key) == "1"
        x = np.float32([[0.04, 0.06, -9, 99]])
        top = 255 if dtype == np.uint8 else 127
        low = max(-90, (0 if dtype == np.uint8 else -128) - 3)
        got = reference.run(proto, {"x": x})["x.dq"]
        np.testing.assert_allclose(got, np.float32([[0, 0.1, low * 0.1, (top - 3) * 0.1]]), rtol=1e-6)


def test_reference_options_see_every_form_of_codes() -> None:
    """uint8 as an operator's zero point, a default, an input of the graph or a Constant; weights do not count."""
    zeros = {
        "u": np.uint8(3),
        "s": np.int8(3),
        "scale": np.float32(0.1),
        "w": np.ones((4, 4), np.uint8),
        "m": np.ones((4, 4), np.int8),
    }

    def key(nodes: list[onnx.NodeProto], dtype: int = onnx.TensorProto.FLOAT) -> str:
        proto = model(nodes, {"x": [1, 4]}, ["y"], {k: v for k, v in zeros.items() if any(k in n.input for n in nodes)})
        proto.graph.input[0].type.tensor_type.elem_type = dtype
        chosen = reference.options(proto)
        try:
            assert chosen.get_session_config_entry(uint8) == "1"
            return uint8
        except RuntimeError:
            assert chosen.get_session_config_entry(int8) == "1"
            return int8

    uint8, int8 = "session.x64quantprecision", "session.qdqisint8allowed"
    product = ["x", "scale", "s", "w", "scale", "u", "scale", "s"]
    gemm = ["x", "scale", "s", "w", "scale", "u", "", "scale", "s"]
    constant = node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(np.int8(3)))
    assert key([node("QuantizeLinear", ["x", "scale", "u"], ["y"])]) == uint8
    assert key([node("QuantizeLinear", ["x", "scale"], ["y"])]) == uint8
    assert key([node("QuantizeLinear", ["x", "scale"], ["y"], output_dtype=onnx.TensorProto.INT8)]) == int8
    assert key([constant, node("QuantizeLinear", ["x", "scale", "c"], ["y"])]) == int8
    assert key([node("QLinearMatMul", product, ["y"])], onnx.TensorProto.INT8) == int8
    assert key([node("QLinearMatMul", [*product[:7], "u"], ["y"])], onnx.TensorProto.INT8) == uint8
    assert key([node("QGemm", gemm, ["y"], domain="com.microsoft")], onnx.TensorProto.INT8) == int8
    assert key([node("QGemm", [*gemm[:8], "u"], ["y"], domain="com.microsoft")], onnx.TensorProto.INT8) == uint8
    assert key([node("MatMulInteger", ["x", "m"], ["y"])], onnx.TensorProto.UINT8) == uint8
    assert key([node("MatMulInteger", ["x", "m", "s"], ["y"])], onnx.TensorProto.INT8) == int8
    assert key([node("DynamicQuantizeLinear", ["x"], ["q", "d", "y"])]) == uint8


def test_unsupported_message_of_a_whole_model() -> None:
    """Each node that was refused has a line of its own."""
    nodes = [node("Det", ["x"], [name], name=name) for name in "ab"] + [node("Add", ["a", "b"], ["y"])]
    with pytest.raises(UnsupportedError) as caught:
        lower(model(nodes, {"x": ["N", 2, 2]}, ["y"]))
    message = str(caught.value)
    assert "Det 'a'" in message
    assert "Det 'b'" in message
    assert message.count("\n") == len(caught.value.nodes) == 2


# ---- What a graph may look like --------------------------------------------------------------------------------------


def old_form() -> onnx.ModelProto:
    """IR version 3, in which weights must be inputs too."""
    proto = model(
        [node("MatMul", ["x", "w"], ["y"])], {"x": [1, 4], "w": [4, 2]}, ["y"], {"w": np.eye(4, 2, dtype="f4")}, 8
    )
    proto.ir_version = 3
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(proto))
    return proto


@pytest.mark.parametrize(
    "options",
    [{}, {"calibration": np.ones((4, 4), np.float32)}, {"trainable": "last", "loss": "mse"}],
    ids=["float", "int8", "trainable"],
)
def test_files_of_ir_version_3_export(options: dict[str, Any], tmp_path: Path) -> None:
    done = export.save(tmp_path / "m", old_form(), **options)
    onnx.checker.check_model(str(done.paths["onnx"]))
    assert [port.name for port in done.program.inputs] == ["x"]


def captured(foreign: bool, attribute: bool = True) -> onnx.ModelProto:
    """A value that only the branches of an If read, one of them as its output."""
    outs = {name: onnx.helper.make_tensor_value_info(name, 1, [1, 4]) for name in ("t", "r")}
    then = onnx.helper.make_graph([node("Neg", ["r"], ["t"])], "then", [], [outs["t"]])
    other = onnx.helper.make_graph(
        [node("Identity", ["r"], ["e"])], "else", [], [onnx.helper.make_tensor_value_info("e", 1, [1, 4])]
    )
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("If", ["c"], ["z" if foreign else "y"], then_branch=then, else_branch=other),
    ]
    nodes += [node("Gelu", ["z"], ["y"], domain="com.microsoft")] if foreign else []
    proto = model(nodes, {"x": [1, 4]}, ["y"], {"c": True}, shapes={"y": [1, 4]})
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return proto


@pytest.mark.parametrize("foreign", [False, True])
def test_values_that_only_branches_read_stay(foreign: bool) -> None:
    assert check(captured(foreign)).status == "ok"


def test_branches_hold_what_outputs_that_are_left_out_do_not() -> None:
    """A label beside the scores goes, with what only it needed; what a branch reads stays."""
    proto = captured(False)
    proto.graph.node.append(node("ArgMax", ["y"], ["label"], axis=1))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("label", onnx.TensorProto.INT64, [1, 1]))
    result = check(proto)
    assert result.status == "ok"
    assert "'label'" in result.notes[0]


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("op", ["LayerNormalization", "Mish"])
def test_operators_newer_than_the_opset_declared(op: str, foreign: bool, tmp_path: Path) -> None:
    """As onnxruntime's optimizer writes LayerNormalization into files of opset 12."""
    constants = {
        "w": np.random.default_rng(0).normal(size=(8, 4)).astype("f4"),
        "s": np.ones(8, "f4"),
        "b": np.zeros(8, "f4"),
    }
    inputs = ["x", "s", "b"] if op == "LayerNormalization" else ["x"]
    nodes = [node(op, inputs, ["n"]), node("MatMul", ["n", "w"], ["z" if foreign else "y"])]
    nodes += [node("Gelu", ["z"], ["y"], domain="com.microsoft")] if foreign else []
    used = {name: array for name, array in constants.items() if any(name in n.input for n in nodes)}
    proto = model(nodes, {"x": ["N", 8]}, ["y"], used, 12, shapes={"y": ["N", 4]})
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    assert check(proto).status == "ok"
    done = export.save(tmp_path / "m", proto, calibration=np.random.default_rng(1).normal(size=(16, 8)).astype("f4"))
    onnx.checker.check_model(str(done.paths["onnx"]), full_check=True)


def two_outputs(constant: list[onnx.NodeProto], name: str = "std", **constants: Any) -> onnx.ModelProto:
    nodes = [node("MatMul", ["x", "w"], ["y"]), *constant]
    return model(nodes, {"x": ["N", 4]}, ["y", name], {"w": np.eye(4, 2, dtype="f4"), **constants})


@pytest.mark.parametrize(
    ("proto", "note"),
    [
        (
            two_outputs([node("Exp", ["log"], ["std"])], log=np.zeros(2, "f4")),
            r"output 'std' is left out: it is always \[1, 1\]",
        ),
        (two_outputs([], "version", version=np.float32(3)), "output 'version' is left out: it is always 3"),
        (
            two_outputs([node("Identity", ["i"], ["std"])], i=np.arange(20.0, dtype="f4")),
            r"always \[0, 1, .*, 7, ... \(20 values\)\]",
        ),
    ],
    ids=["computed", "an initializer", "many"],
)
def test_outputs_that_are_constant_are_left_out(proto: onnx.ModelProto, note: str, tmp_path: Path) -> None:
    result = check(proto)
    assert result.status == "ok"
    assert re.search(note, result.notes[0])
    done = export.save(tmp_path / "m", proto)
    assert re.search(note, str(done))
    assert [port.name for port in done.program.outputs] == ["y"]


def test_outputs_of_chance_are_no_constants() -> None:
    proto = two_outputs([node("RandomNormal", [], ["std"], shape=[2])])
    assert check(proto).status == "unsupported"


# ---- What trains -----------------------------------------------------------------------------------------------------


def two_ends(head: str = "y") -> onnx.ModelProto:
    """An embedding and, behind a layer of its own, scores."""
    nodes = [
        node("MatMul", ["x", "u"], ["r"], name="body"),
        node("Relu", ["r"], ["e"]),
        node("MatMul", ["e", "w"], [head], name="head"),
    ]
    return model(
        nodes,
        {"x": ["N", 6]},
        ["e", head],
        {"u": np.ones((6, 8), "f4"), "w": np.eye(8, 3, dtype="f4")},
        shapes={"e": ["N", 8], head: ["N", 3]},
    )


def test_the_loss_looks_at_the_output_that_trains(tmp_path: Path) -> None:
    done = export.save(
        tmp_path / "m", two_ends(), trainable="head", loss="softmax_cross_entropy", labels=["a", "b", "c"]
    )
    assert [port.name for port in done.program.outputs] == ["y", "e"]
    assert "output 'y' comes first on the device" in str(done)
    learner = Model(str(done.paths["image"]))
    x = np.random.default_rng(0).normal(size=(12, 6)).astype("f4")
    before = learner.run(x)
    learner.partial_fit(x, ["a", "b", "c"] * 4)
    assert not np.array_equal(before[0], learner.run(x)[0])
    np.testing.assert_array_equal(before[1], learner.run(x)[1])


@pytest.mark.parametrize("output", ["y", "e"])
def test_of_several_outputs_one_is_named(output: str, tmp_path: Path) -> None:
    """Of what the body trains both outputs could be meant: the first is, unless another is named."""
    for options in ({"loss_output": output}, {} if output == "e" else {"loss_output": output}):
        done = export.save(tmp_path / "m", two_ends(), trainable="body", loss="mse", **options)
        assert done.program.outputs[0].name == output
        assert lower(done.paths["onnx"]).outputs[0].name == output


def test_outputs_that_the_loss_cannot_look_at() -> None:
    with pytest.raises(
        ValueError, match=r"loss_output='z' \(--loss-output z\) is no output of the model: give one of e, y"
    ):
        lower(two_ends(), trainable="head", loss="mse", loss_output="z")
    with pytest.raises(ValueError, match=r"the loss on 'e' does not depend on it.*loss_output='y'"):
        lower(two_ends(), trainable="head", loss="mse", loss_output="e")
    several = two_ends()
    several.graph.node.append(node("Tanh", ["y"], ["t"]))
    several.graph.output.append(onnx.helper.make_tensor_value_info("t", 1, ["N", 3]))
    with pytest.raises(ValueError, match="any of the outputs 'y', 't': name one, loss_output='y'"):
        lower(several, trainable="head", loss="mse")


def test_networks_of_several_inputs_do_not_learn() -> None:
    """Nor does the runtime let them: said at export, with all else that stands in the way."""
    nodes = [node("Concat", ["a", "b"], ["c"], axis=1), node("MatMul", ["c", "w"], ["y"], name="fc")]
    proto = model(nodes, {"a": ["N", 4], "b": ["N", 2]}, ["y"], {"w": np.eye(6, 3, dtype="f4")})
    assert lower(proto).ops
    with pytest.raises(TrainableError, match=r"it has 2 inputs \('a', 'b'\), and a device learns from one") as caught:
        lower(proto, trainable=["last", "nothing"], loss="mse")
    assert [refused.name for refused in caught.value.nodes] == ["graph", "nothing"]


@pytest.mark.parametrize("extra", [[], [node("Relu", ["b"], ["unused"])]])
def test_inputs_that_nothing_reads_do_not_keep_it_from_learning(extra: list[onnx.NodeProto], tmp_path: Path) -> None:
    nodes = [*extra, node("MatMul", ["a", "w"], ["y"], name="fc")]
    proto = model(nodes, {"b": ["N", 2], "a": ["N", 4]}, ["y"], {"w": np.eye(4, 3, dtype="f4")})
    done = export.save(tmp_path / "m", proto, trainable="fc", loss="mse")
    assert [port.name for port in done.program.inputs] == ["a"]
    assert "input 'b' is left out: no output depends on it" in str(done)
    assert check(done.paths["onnx"]).status == "ok"
    x, y = np.ones((2, 4), "f4"), np.zeros((2, 3), "f4")
    learner = Model(str(done.paths["image"]))
    before = learner.run(x)
    learner.partial_fit(x, y)
    assert not np.array_equal(before, learner.run(x))
    assert [port.name for port in lower(proto).inputs] == ["b", "a"]


def test_domains_are_imported_once() -> None:
    """The checker wants each to be, which not all files do, and onnxruntime does not."""
    nodes = [node("Relu", ["x"], ["a"], domain="ai.onnx")]
    nodes += [node("Gelu", [a], [b], domain="com.microsoft") for a, b in (("a", "b"), ("b", "c"))]
    nodes += [node("Other", [a], [b], domain="org.other") for a, b in (("c", "d"), ("d", "y"))]
    proto = model(nodes, {"x": ["N", 4]}, ["y"], shapes={"y": ["N", 4]})
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    given = [(o.domain, o.version) for o in proto.opset_import]
    known = importer._known_parts(proto, 17)
    assert [(o.domain, o.version) for o in known.opset_import] == [*given, ("org.other", 1)]
