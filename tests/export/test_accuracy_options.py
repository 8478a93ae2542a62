"""What loses less to int8: method "auto", layers left in float32, equalization; and `check`, which tells where it is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from edgeprop.export.check import CheckResult, check, check_quantized
from edgeprop.export.lower import lower
from edgeprop.export.program.program import Program
from edgeprop.export.quantization.analysis import output_snr
from edgeprop.export.quantization.calibrate import METHODS
from edgeprop.export.quantization.corrections import LARGEST_FACTOR, equalize
from edgeprop.export.quantization.quantize import KEY_METHODS, prepare, quantize
from edgeprop.export.quantization.sensitivity import worth_float
from edgeprop.export.quantization.simplify import simplify
from tests.support import interpreter
from tests.support.graphs import model, node, qdq

Array = np.ndarray[Any, np.dtype[Any]]


def kinds(proto: onnx.ModelProto) -> dict[str, str]:
    """Kind of op by name of layer."""
    return {op.name: op.kind for op in lower(proto).ops}


# ---- Method "auto" ---------------------------------------------------------------------------------------------------


def outliers() -> tuple[onnx.ModelProto, Array]:
    """A net of which the input has outliers that do not matter, and the value inside some that do."""
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (256, 8)).astype(np.float32)
    x[5, 7] = 1000.0  # read by nobody: its weights are 0
    x[:3, :7] = 1.0
    first = random.uniform(-0.3, 0.3, (8, 8)).astype(np.float32)
    first[:, 0], first[7] = 12.0, 0.0  # of all ones, the largest sum by far
    constants = {"w": first, "v": random.standard_normal((8, 3)).astype(np.float32)}
    nodes = [node("Gemm", ["x", "w"], ["h"], name="one"), node("Gemm", ["h", "v"], ["y"], name="two")]
    return model(nodes, {"x": ["n", 8]}, ["y"], constants), x


def test_auto_is_better_than_each_method_alone() -> None:
    proto, x = outliers()
    options = {"percentile": 99.0, "scale_inputs": "never"}
    found = {method: quantize(proto, x, method=method, **options) for method in (*METHODS, "auto")}
    noise = {method: output_snr(proto, int8, x) for method, int8 in found.items()}
    assert noise["auto"] > max(noise[method] for method in METHODS) + 3, noise
    said = {p.key: p.value for p in found["auto"].metadata_props}
    picked = json.loads(said[KEY_METHODS])
    assert picked["x"] == "percentile"
    assert picked["h"] != "percentile"
    assert set(picked) == {"x", "h", "y"}
    assert KEY_METHODS not in {p.key for p in found["mse"].metadata_props}


# ---- Layers left in float32 ------------------------------------------------------------------------------------------


def image_net(**weights: Array) -> onnx.ModelProto:
    """x -> one -> Relu -> two and side -> Add -> three, convolutions all."""
    random = np.random.default_rng(1)
    made = {
        name: random.standard_normal((4, 4, 3, 3)).astype(np.float32) / 6 for name in ("one", "two", "side", "three")
    }
    made |= weights
    pads = {"pads": [1] * 4}
    nodes = [
        node("Conv", ["x", "one.weight"], ["a"], name="one", **pads),
        node("Relu", ["a"], ["r"], name="relu"),
        node("Conv", ["r", "two.weight"], ["b"], name="two", **pads),
        node("Conv", ["r", "side.weight"], ["s"], name="side", **pads),
        node("Add", ["b", "s"], ["t"], name="sum"),
        node("Conv", ["t", "three.weight"], ["y"], name="three", **pads),
    ]
    return model(nodes, {"x": ["n", 4, 6, 6]}, ["y"], {f"{name}.weight": w for name, w in made.items()})


def images(n: int = 32) -> Array:
    return np.random.default_rng(2).standard_normal((n, 4, 6, 6)).astype(np.float32)


INT8 = {"one": "conv2d_s8", "two": "conv2d_s8", "side": "conv2d_s8", "sum": "add_s8", "three": "conv2d_s8"}


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ((), {}),
        ("one", {"one": "conv2d_f32"}),
        ("three", {"three": "conv2d_f32"}),
        (["two", "sum"], {"two": "conv2d_f32", "sum": "add_f32"}),
        ("t*", {"two": "conv2d_f32", "three": "conv2d_f32"}),
    ],
)
def test_layers_kept_in_float32_run_there_and_their_neighbours_do_not(keep: Any, expected: dict[str, str]) -> None:
    int8 = quantize(image_net(), images(), keep_float=keep)
    found = kinds(int8)
    assert {name: found[name] for name in INT8} == INT8 | expected
    assert check(int8, {"x": images(3)}).status == "ok"


def test_several_readers_of_one_value_can_be_kept() -> None:
    found = kinds(quantize(image_net(), images(), keep_float=["two", "side"]))
    assert {name: found[name] for name in INT8} == INT8 | {"two": "conv2d_f32", "side": "conv2d_f32"}


@pytest.mark.parametrize(
    "op", ["AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax", "MaxPool", "Mul"]
)
def test_nodes_of_any_kind_can_be_kept(op: str) -> None:
    """Where onnxruntime makes an integer kernel all the same, the model stays one that it runs."""
    attributes = {"kernel_shape": [2, 2]} if op in ("AveragePool", "MaxPool") else {}
    weight = np.random.default_rng(3).standard_normal((4, 4, 1, 1)).astype(np.float32)
    inputs = ["a", "a"] if op == "Mul" else ["a"]
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node(op, inputs, ["b"], name="kept", **attributes),
        node("Conv", ["b", "w"], ["y"]),
    ]
    proto = model(nodes, {"x": ["n", 4, 6, 6]}, ["y"], {"w": weight})
    assert check(quantize(proto, images(), keep_float="kept"), {"x": images(2)}).status == "ok"


def spread() -> Array:
    """A weight whose largest element meets an input of nearly nothing: int8 has no steps left for the others."""
    weight = np.random.default_rng(4).standard_normal((4, 4, 3, 3)).astype(np.float32) / 6
    weight[:, 0] = 30.0
    return weight


def bad_net() -> onnx.ModelProto:
    """`image_net` of which `two` cannot be int8: the channel that its large weights read is always 0."""
    one = np.random.default_rng(5).standard_normal((4, 4, 3, 3)).astype(np.float32) / 6
    one[0] = 0.0
    return image_net(one=one, two=spread())


def test_the_layer_worth_float_is_named_first() -> None:
    normal, _ = prepare(bad_net(), images())
    found = worth_float(normal, (), {"x": images()})
    assert found[0][0] == "two"
    assert found[0][1] > 10
    kept = quantize(bad_net(), images(), keep_float="two")
    gained = output_snr(bad_net(), kept, images()) - output_snr(bad_net(), quantize(bad_net(), images()), images())
    assert gained == pytest.approx(found[0][1], abs=0.5)
    assert "two" not in [name for name, _ in worth_float(normal, (), {"x": images()}, keep_float="two")]


# ---- Equalization ----------------------------------------------------------------------------------------------------


def uneven(cap: float | None) -> onnx.ModelProto:
    """Pointwise, ReLU6 or ReLU, depthwise, ReLU6 or ReLU, pointwise, the channels between of very different size."""
    random = np.random.default_rng(6)
    size = np.float32([1, 0.02, 0.1, 0.03, 0.5, 0.015]).reshape(6, 1, 1, 1)
    weights = {
        "p": np.abs(random.standard_normal((6, 3, 1, 1)).astype(np.float32)) * size,
        "d": random.standard_normal((6, 1, 3, 3)).astype(np.float32) / 3,
        "q": random.standard_normal((4, 6, 1, 1)).astype(np.float32) / size.reshape(1, 6, 1, 1) / 4,
        "b": random.standard_normal(6).astype(np.float32) * size.ravel() / 10,
        "zero": np.float32(0),
        **({} if cap is None else {"cap": np.float32(cap)}),
    }
    rule = ("Relu", []) if cap is None else ("Clip", ["zero", "cap"])
    nodes = [
        node("Conv", ["x", "p", "b"], ["v0"], name="point"),
        node(rule[0], ["v0", *rule[1]], ["v1"], name="first"),
        node("Conv", ["v1", "d"], ["v2"], name="depth", group=6, pads=[1] * 4),
        node(rule[0], ["v2", *rule[1]], ["v3"], name="second"),
        node("Conv", ["v3", "q"], ["y"], name="last"),
    ]
    return model(nodes, {"x": ["n", 3, 8, 8]}, ["y"], weights)


def answers(proto: onnx.ModelProto, x: Array) -> Array:
    from edgeprop.export.graph import reference

    return reference.run(proto, {"x": x})["y"]


@pytest.mark.parametrize("cap", [None, 6.0, 3.0])
def test_equalization_keeps_the_float_function_and_loses_less(cap: float | None) -> None:
    """Of ReLU6, also one that cuts some channels off."""
    x = np.random.default_rng(7).standard_normal((64, 3, 8, 8)).astype(np.float32)
    proto = uneven(cap)
    even = equalize(simplify(proto), samples=x)
    exact = answers(proto, x)
    assert np.abs(answers(even, x) - exact).max() < 1e-5 * np.abs(exact).max()
    noise = [output_snr(proto, quantize(proto, x, equalization=on), x) for on in (False, True)]
    assert noise[1] > noise[0] + 6, noise


def test_equalization_without_samples_leaves_what_is_clipped_alone() -> None:
    normal = simplify(uneven(6.0))
    before, after = ({t.name: t for t in proto.graph.initializer} for proto in (normal, equalize(normal)))
    assert all(after[name].raw_data == before[name].raw_data for name in "pdq")


def test_equalization_leaves_trainable_layers_alone_and_has_a_limit() -> None:
    x = np.random.default_rng(7).standard_normal((16, 3, 8, 8)).astype(np.float32)
    normal = simplify(uneven(None))
    before = {t.name: onnx.numpy_helper.to_array(t) for t in normal.graph.initializer}
    after = {
        t.name: onnx.numpy_helper.to_array(t) for t in equalize(normal, fixed=["depth"], samples=x).graph.initializer
    }
    assert all(np.array_equal(after[name], before[name]) for name in "pdq")
    after = {t.name: onnx.numpy_helper.to_array(t) for t in equalize(normal, samples=x).graph.initializer}
    factors = np.abs(before["p"]).max((1, 2, 3)) / np.abs(after["p"]).max((1, 2, 3))
    assert factors.min() >= 0.999 / LARGEST_FACTOR
    assert factors.max() <= 1.001 * LARGEST_FACTOR
    assert factors.min() < 0.5


def two_points(weight: Array, bias: Array, reader: Array, clip: tuple[float, float]) -> onnx.ModelProto:
    """A pointwise convolution of one channel, Clip, another pointwise one."""
    constants = {"p": weight.reshape(-1, 1, 1, 1), "b": bias, "q": reader.reshape(1, -1, 1, 1)}
    constants |= {"low": np.float32(clip[0]), "high": np.float32(clip[1])}
    nodes = [
        node("Conv", ["x", "p", "b"], ["v"], name="first"),
        node("Clip", ["v", "low", "high"], ["c"], name="clip"),
        node("Conv", ["c", "q"], ["y"], name="second"),
    ]
    arrays = {name: np.asarray(array, np.float32) for name, array in constants.items()}
    return model(nodes, {"x": ["n", 1, 4, 4]}, ["y"], arrays)


def factors_of(proto: onnx.ModelProto, x: Array) -> tuple[Array, Array]:
    """What the channels of the first layer were divided by, and the largest change of an answer, relative."""
    normal = simplify(proto)
    even = equalize(normal, samples=x)
    before, after = (
        onnx.numpy_helper.to_array(next(t for t in each.graph.initializer if t.name == "p")).ravel()
        for each in (normal, even)
    )
    exact = answers(normal, x)
    return before / after, np.abs(answers(even, x) - exact).max() / np.abs(exact).max()


def test_a_nearly_dead_channel_is_not_blown_up_without_end() -> None:
    """Its bias would come to be the largest value of all."""
    x = np.random.default_rng(9).uniform(-1, 1, (32, 1, 4, 4)).astype(np.float32)
    dead = np.array([1, 1, 1e-4, 1e-4])
    factors, change = factors_of(two_points(dead, dead / 10, np.array([1, 2, 1, 30]), (0, 1e6)), x)
    assert 1 / 8.01 < factors.min() < 1 / 7.99
    assert factors.max() < 8.01
    assert change < 1e-5


@pytest.mark.parametrize("clip", [(0, 6), (-6, 6), (-0.5, 6), (-6, 1e6), (-1, 1)])
@pytest.mark.parametrize("weak", [0, 1, 2])
def test_no_channel_is_moved_across_a_bound(clip: tuple[float, float], weak: int) -> None:
    """Of channels that a Clip cuts above, below or nowhere: whichever has the small weights behind it, and so the large
    factor wanted, what is cut off stays so and nothing more is."""
    x = np.random.default_rng(9).uniform(-1, 1, (32, 1, 4, 4)).astype(np.float32)
    reader = np.array([3.0, 3.0, 3.0])
    reader[weak] = 0.02
    factors, change = factors_of(two_points(np.array([8, 0.8, 0.1]), np.zeros(3), reader, clip), x)
    assert change < 1e-5, factors


# ---- What check says -------------------------------------------------------------------------------------------------


def wrong(program: Program, inputs: Mapping[str, Array]) -> Any:
    """A device that computes layer `side` with another bias."""
    op = next(op for op in program.ops if op.name == "side")
    bias = program.tensors[op.inputs[2]]
    assert bias.data is not None
    changed = replace(bias, data=bias.data + np.int32(3000))
    broken = replace(program, tensors=program.tensors | {bias.name: changed})
    return interpreter.device(broken, inputs)


def test_the_layer_that_is_wrong_comes_first() -> None:
    result = check_quantized(image_net(), images(), device=wrong, suggest=False)
    assert result.status == "differs"
    layers = result.worst_first()
    assert layers[0].op == "side"
    assert layers[0].alone > 0
    later = {layer.op: layer for layer in layers[1:]}
    assert later["sum"].mismatches > 0
    assert not any(layer.alone for layer in layers[1:])
    rows = list(result.details())
    assert rows[0].split()[-2:] == ["SNR", "dB"]
    assert rows[1].split()[0] == "side"
    assert [row.split()[0] for row in rows[2:4]] == ["sum", "three"] or later["three"].mismatches >= later[
        "sum"
    ].mismatches


def test_noise_by_layer_the_most_first_and_what_to_do() -> None:
    result = check_quantized(bad_net(), images())
    assert result.status == "ok", str(result)
    noise = {layer.op: layer.snr for layer in result.layers if layer.snr is not None}
    assert {"one", "two", "side", "sum", "three"} <= set(noise)
    assert result.worst_first()[0].op == "two" == min(noise, key=noise.__getitem__)
    *_, outputs, advice = result.details(most=3)
    assert outputs == f"int8 against float32: {result.output_snr:.1f} dB at the outputs"
    assert advice.startswith("worth leaving in float32: two (+")
    assert "edgeprop export --float two" in advice
    assert "and 3 more that are no worse" in "\n".join(result.details(most=len(result.layers) - 3))
    assert list(replace(result, keep_float=[]).details())[-1] == "no single layer is worth leaving in float32"


def off_by(monkeypatch: pytest.MonkeyPatch, kind: str, steps: int, sample: Callable[[Array], bool]) -> None:
    """Let an op of the device be off in its first element, for the samples asked for."""
    usual = interpreter.OPS[kind]

    def op(program: Program, op: Any, inputs: list[Array]) -> Array:
        result = usual(program, op, inputs).copy()
        if sample(inputs[0]):
            at = int(np.abs(result.astype(int)).argmin())  # far from saturation
            result.flat[at] += steps
        return result

    monkeypatch.setitem(interpreter.OPS, kind, op)


def sums() -> onnx.ModelProto:
    """a + b in codes, behind a copy that makes b."""
    nodes, constants = [], {}
    for name, scale in (("x", 0.05), ("z", 0.1)):
        pair, made = qdq(name, scale, 3)
        nodes += pair
        constants |= made
    nodes.insert(2, node("Add", ["x.dq", "x.dq"], ["z"], name="sum"))
    return model(nodes, {"x": ["n", 12]}, ["z.dq"], constants)


@pytest.mark.parametrize("which", [0, 2])
def test_one_step_is_excused_in_any_sample_and_counted(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    x = np.random.default_rng(8).uniform(-3, 3, (4, 12)).astype(np.float32)
    x[:, 0], x[which, 0] = -1.0, 1.0
    off_by(monkeypatch, "add_s8", 1, lambda codes: codes.flat[0] > 3)
    result = check(sums(), {"x": x}, device=interpreter.device)
    assert result.status == "ok", str(result)
    assert result.mismatches == 1
    looked_at = 12 * len({0, which})
    assert (
        f"1 of {looked_at} elements of add_s8 are one step off, as they may be (docs/arithmetic.md)" in result.message
    )


@pytest.mark.parametrize("which", [0, 2])
def test_two_steps_are_not_excused(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    x = np.random.default_rng(8).uniform(-3, 3, (4, 12)).astype(np.float32)
    x[:, 0], x[which, 0] = -1.0, 1.0
    off_by(monkeypatch, "add_s8", 2, lambda codes: codes.flat[0] > 3)
    assert check(sums(), {"x": x}, device=interpreter.device).status == "differs"


def test_a_step_of_an_exact_op_is_not_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    off_by(monkeypatch, "conv2d_s8", 1, lambda codes: True)
    int8 = quantize(image_net(), images())
    result = check(int8, {"x": images(2)}, device=interpreter.device)
    assert result.status == "differs"
    assert "one step off" not in result.message


def test_samples_beyond_those_looked_at_are_not_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(check.__globals__, "_SAMPLES_LOOKED_AT", 2)
    off_by(monkeypatch, "add_s8", 1, lambda codes: True)
    x = np.random.default_rng(8).uniform(-3, 3, (4, 12)).astype(np.float32)
    found: CheckResult = check(sums(), {"x": x}, device=interpreter.device)
    assert found.status == "differs"
    assert check(sums(), {"x": x[:2]}, device=interpreter.device).status == "ok"
