"""Models that run on a stream: states kept from run to run, on the device and in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgeprop import Model
from edgeprop.export import save
from edgeprop.export.check import check
from edgeprop.export.lower import UnsupportedError, lower
from edgeprop.export.program.plan import plan
from edgeprop.export.writers.header import to_header
from edgeprop.export.writers.image import read_image, to_image
from edgeprop.export.writers.report import to_dict
from tests.support.compiler import program, run
from tests.support.graphs import model, node, shared

N_IN, N_HIDDEN = 3, 5


def some(seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    return lambda *shape: (0.7 * random.standard_normal(shape)).astype(np.float32)


def weights(op: str) -> dict[str, Any]:
    array, gates = some(4), {"GRU": 3, "LSTM": 4}[op]
    return {
        "W": array(1, gates * N_HIDDEN, N_IN),
        "R": array(1, gates * N_HIDDEN, N_HIDDEN),
        "B": array(1, 2 * gates * N_HIDDEN),
        "head.weight": array(2, N_HIDDEN),
        "head.bias": array(2),
        "flat": np.array([1, N_HIDDEN]),
    }


def one_step(op: str = "GRU") -> onnx.ModelProto:
    """A frame in, two values out, states `h` -> `hn` (and `c` -> `cn`) beside them."""
    states = ["h", "c"] if op == "LSTM" else ["h"]
    nodes = [
        node(
            op, ["x", "W", "R", "B", "", *states], ["", *(f"{s}n" for s in states)], hidden_size=N_HIDDEN, name="cell"
        ),
        node("Reshape", ["hn", "flat"], ["last"]),
        node("Gemm", ["last", "head.weight", "head.bias"], ["y"], transB=1, name="head"),
    ]
    inputs = {"x": [1, 1, N_IN], **{s: [1, 1, N_HIDDEN] for s in states}}
    shapes = {"y": [1, 2], **{f"{s}n": [1, 1, N_HIDDEN] for s in states}}
    return model(nodes, inputs, ["y", *(f"{s}n" for s in states)], weights(op), shapes=shapes)


def whole(op: str = "GRU") -> onnx.ModelProto:
    """The same net over a sequence: the values of every step."""
    nodes = [
        node("Transpose", ["x"], ["time"], perm=[1, 0, 2]),
        node(op, ["time", "W", "R", "B"], ["Y"], hidden_size=N_HIDDEN, name="cell"),
        node("Squeeze", ["Y", "one"], ["rows"]),
        node("Transpose", ["rows"], ["batch"], perm=[1, 0, 2]),
        node("MatMul", ["batch", "matrix"], ["product"], name="head"),
        node("Add", ["product", "head.bias"], ["y"]),
    ]
    constants = weights(op) | {"one": np.array([1]), "matrix": weights(op)["head.weight"].T.copy()}
    return model(nodes, {"x": [1, 8, N_IN]}, ["y"], constants)


PAIRS = {"GRU": {"h": "hn"}, "LSTM": {"h": "hn", "c": "cn"}}


@pytest.mark.parametrize("op", PAIRS)
def test_step_by_step_is_the_whole_sequence(op: str) -> None:
    """In one call, in several, after a reset, in a clone, from a saved image."""
    x = some(1)(8, 1, N_IN)
    wanted = Model(to_image(lower(whole(op)))).run(x.reshape(1, 8, N_IN))[0].reshape(8, 2)
    device = Model(to_image(lower(one_step(op), states=PAIRS[op])))
    assert [port.name for port in device.inputs] == ["x"]
    assert [port.name for port in device.outputs] == ["y"]
    np.testing.assert_allclose(device.run(x)[0], wanted, atol=1e-6)
    assert not np.allclose(device.run(x)[0], wanted, atol=1e-3)
    device.reset_state()
    for frame, y in zip(x, wanted, strict=True):
        np.testing.assert_allclose(device.predict(frame[None])[0], y, atol=1e-6)
    np.testing.assert_allclose(device.clone().run(x)[0], wanted, atol=1e-6)


def test_learning_leaves_the_stream_where_it_is() -> None:
    """It starts from the state too: the gradient is that of the next frame."""
    x = some(1)(8, 1, N_IN)
    built = lower(one_step(), states=PAIRS["GRU"], trainable="head", loss="mse")
    device, other = Model(to_image(built)), Model(to_image(built))
    for each in (device, other):
        each.run(x[:4])
    before = device.parameters()
    device.partial_fit(x[4:5], np.ones((1, 2)), lr=0.1)
    y = other.run(x[4:5])[0]
    bias = before["head.bias"] - np.float32(0.1) * (y[0] - 1)
    np.testing.assert_allclose(device.parameters()["head.bias"], bias, atol=1e-6)
    device.set_parameters(before)
    np.testing.assert_array_equal(device.run(x[4:])[0][0], y[0])


def test_state_has_a_place_of_its_own() -> None:
    """The same in both plans, and nobody else's; it goes through an image and shows in the report."""
    built = lower(one_step("LSTM"), states=PAIRS["LSTM"], trainable="head", loss="mse")
    planned = plan(built)
    for offsets in (planned.infer_offsets, planned.train_offsets):
        assert (offsets["h"], offsets["c"]) == (0, 32)
        others = [at for name, at in offsets.items() if name not in ("h", "c")]
        assert min(others) >= 64
    assert read_image(to_image(built)).states == built.states
    assert [(s["name"], s["next"], s["bytes"]) for s in to_dict(built)["states"]] == [("h", "hn", 20), ("c", "cn", 20)]


def test_shift_register() -> None:
    """A cache that the frame itself takes the place of, and one that takes that of the other."""
    nodes = [
        node("Add", ["x", "first"], ["sum"]),
        node("Add", ["sum", "second"], ["y"]),
        node("Identity", ["x"], ["to.first"]),
        node("Identity", ["first"], ["to.second"]),
    ]
    names, four = ["y", "to.first", "to.second"], [1, 4]
    inputs = dict.fromkeys(("x", "first", "second"), four)
    proto = model(nodes, inputs, names, {}, shapes=dict.fromkeys(names, four))
    x = some()(5, 4)
    y = Model(to_image(lower(proto, states={"first": "to.first", "second": "to.second"}))).run(x)[0]
    earlier = np.concatenate([np.zeros((2, 4), np.float32), x])
    np.testing.assert_allclose(y, x + earlier[1:-1] + earlier[:-2], rtol=1e-6)


def test_errors() -> None:
    for states, why in (({"q": "hn"}, "no input"), ({"h": "q"}, "no output"), ({"h": "hn", "x": "y"}, "no input or")):
        with pytest.raises(ValueError, match=why):
            lower(one_step(), states=states)
    with pytest.raises(UnsupportedError, match="float32 of the same shape"):
        lower(one_step(), states={"h": "y"})


def test_saved(tmp_path: Path) -> None:
    """`save` writes the pairs into the model, the header and the image."""
    done = save(tmp_path / "net", one_step(), states=PAIRS["GRU"])
    assert [state.name for state in lower(done.paths["onnx"]).states] == ["h"]
    text = done.paths["header"].read_text()
    assert "State   h: float (1, 5), then hn; see ep_reset_state()" in text
    x = some(1)(8, 1, N_IN)
    wanted = Model(to_image(lower(one_step(), states=PAIRS["GRU"]))).run(x)[0]
    np.testing.assert_array_equal(Model(done.paths["image"]).run(x)[0], wanted)


DRIVER = """
#define NET_IMPLEMENTATION
#include "net.h"
#include <stdio.h>
static EP_ALIGNED uint8_t arena[NET_INFER_ARENA];
int main(void)
{
    static const float x[] = {%s};
    float y[2];
    ep_t ep;
    if (ep_init(&ep, &net, arena, sizeof arena) != 0 || ep_reset_state(NULL) != EP_ERR_ARG) return 1;
    for (int i = 0; i < 16; i++) {
        if (i == 8 && ep_reset_state(&ep) != 0) return 2;
        if (ep_infer(&ep, x + 3 * (i %% 8), y) != 0) return 3;
        printf("%%.9g %%.9g\\n", (double)y[0], (double)y[1]);
    }
    return 0;
}
"""


def test_header_streams(tmp_path: Path) -> None:
    """In C, from a header, twice: the same as in Python."""
    x = some(1)(8, 1, N_IN)
    built = lower(one_step(), name="net", states=PAIRS["GRU"])
    (tmp_path / "net.h").write_text(to_header(built))
    (tmp_path / "main.c").write_text(DRIVER % ", ".join(f"{v:.9g}f" for v in x.ravel()))
    text = run([program(tmp_path / "main.c", tmp_path / "main", include=tmp_path)])
    wanted = Model(to_image(built)).run(x)[0]
    np.testing.assert_allclose(np.array(text.split(), np.float32).reshape(2, 8, 2), [wanted, wanted], rtol=1e-6)


def test_speech_enhancement() -> None:
    """GTCRN, as its authors stream it: convolution caches and hidden states stay on the device, frame after frame."""
    path = shared("community/gtcrn_simple_gru.onnx")
    assert check(path).status == "ok"
    names = ("conv_cache", "tra_cache", "inter_cache")
    device = Model(to_image(lower(path, states={name: f"{name}_out" for name in names})))
    frames = some(2)(6, 1, 257, 1, 2)
    session = ort.InferenceSession(path)
    inside = {value.name: np.zeros(value.shape, np.float32) for value in session.get_inputs() if value.name in names}
    for frame in frames:
        wanted, *after = session.run(None, {"mix": frame, **inside})
        (y,) = device.run(frame.reshape(1, 1, 257, 1, 2))
        np.testing.assert_allclose(y.reshape(wanted.shape), wanted, atol=2e-5 * np.abs(wanted).max())
        inside = dict(zip(names, after, strict=True))


@pytest.mark.parametrize(
    ("start", "shape"), [((0, 0), (1, 4)), ((0, 2), (1, 3)), ((0, 0), (1, 6)), ((0, 4), (1, 2)), ((0, 1, 0), (1, 2, 3))]
)
def test_assignment_to_a_slice(start: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """`cache[:, 2:5] = new`, which PyTorch writes as a ScatterND of constant indices."""
    grid = np.moveaxis(np.indices(shape), 0, -1) + np.array(start)
    data = [1, 6, 3]
    proto = model(
        [node("ScatterND", ["x", "at", "new"], ["y"])],
        {"x": data, "new": [*shape, *data[len(shape) :]]},
        ["y"],
        {"at": grid},
    )
    assert check(proto).status == "ok"


def test_other_scatters_are_refused() -> None:
    """Two axes cut, or indices in another order."""
    for indices in (np.array([[[[0, 1, 1]]]]), np.array([[0, 3], [0, 1]])):
        new = [*indices.shape[:-1], *[1, 6, 3][indices.shape[-1] :]]
        proto = model(
            [node("ScatterND", ["x", "at", "new"], ["y"])], {"x": [1, 6, 3], "new": new}, ["y"], {"at": indices}
        )
        with pytest.raises(UnsupportedError, match="constant indices of one slice"):
            lower(proto)
