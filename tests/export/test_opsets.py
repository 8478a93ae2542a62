"""The same nets written in every opset, old to newest: attributes that became inputs, defaults that changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from edgeprop.export.check import check
from tests.support.small_nets import NETS, Net

OPSETS = sorted({8, 9, 10, 11, 12, 13, 15, 17, 18, 19, 20, 21, 22, 23, 24, 25, onnx.defs.onnx_opset_version()})


def same(proto: onnx.ModelProto) -> None:
    result = check(proto)
    assert result.status == "ok", result.message


@pytest.mark.parametrize("name", NETS)
def test_nets(name: str) -> None:
    for opset in OPSETS:
        same(NETS[name](opset))


def squeezed(net: Net) -> str:
    """Squeeze and Unsqueeze: axes are an input from 13 on."""
    if net.opset < 13:
        return str(net.add("Squeeze", net.add("Unsqueeze", "x", axes=[1, 3]), axes=[1]))
    return str(net.add("Squeeze", net.add("Unsqueeze", "x", net.ints(1, 3)), net.ints(1)))


def reduced(net: Net) -> str:
    """ReduceSum takes axes as input from 13 on, the others from 18 on; -1 is an axis from 11 on."""
    last = -1 if net.opset >= 11 else 2
    h = net.add("ReduceSum", "x", *([net.ints(last)] if net.opset >= 13 else []), keepdims=1,
                **({} if net.opset >= 13 else {"axes": [last]}))  # fmt: skip
    axes = [net.ints(2)] if net.opset >= 18 else []
    given = {} if net.opset >= 18 else {"axes": [2]}
    parts = [net.add(op, "x", *axes, keepdims=1, **given) for op in ("ReduceMax", "ReduceMean", "ReduceMin")]
    return str(net.add("Concat", h, *parts, axis=2))


def dropped(net: Net) -> str:
    """Dropout: the ratio is an input from 12 on."""
    h = net.relu("x")
    options = {"ratio": 0.3} if net.opset < 12 else {}
    ratio = [] if net.opset < 12 else [net.const(0.3)]
    return net.relu(net.add("Dropout", h, *ratio, **options))


def softmax(net: Net) -> str:
    """Before 13, over all axes from `axis` (default 1) on; then over one (default the last)."""
    return str(net.add("Add", net.add("Softmax", "x"), net.add("LogSoftmax", net.relu("x"), axis=2)))


def batch_norm(net: Net) -> str:
    """`spatial` until 9; one output in inference from 14 on."""
    parts = [net.const(net.random.uniform(0.5, 2, 6)) for _ in range(4)]
    return str(net.add("BatchNormalization", net.relu("x"), *parts, epsilon=1e-3))


def layer_norm(net: Net) -> str:
    """An operator of its own from 17 on."""
    scale, bias = net.weight(4), net.weight(4)
    if net.opset >= 17:
        return str(net.add("LayerNormalization", "x", scale, bias, axis=-1))
    axes = {"axes": [2]}
    centred = net.add("Sub", "x", net.add("ReduceMean", "x", **axes))
    variance = net.add("ReduceMean", net.add("Mul", centred, centred), **axes)
    deviation = net.add("Sqrt", net.add("Add", variance, net.const(1e-5)))
    return str(net.add("Add", net.add("Mul", net.add("Div", centred, deviation), scale), bias))


def group_norm(net: Net) -> str:
    """Scale and bias of groups from 18 on, of channels from 21 on."""
    if net.opset < 18:
        return str(net.add("InstanceNormalization", "x", net.weight(6), net.weight(6)))
    n = 6 if net.opset >= 21 else 3
    return str(net.add("GroupNormalization", "x", net.weight(n), net.weight(n), num_groups=3))


def gelu(net: Net) -> str:
    """An operator of its own from 20 on."""
    if net.opset >= 20:
        return str(net.add("Gelu", net.add("Gelu", "x"), approximate="tanh"))
    if net.opset < 9:
        return str(net.add("Tanh", "x"))
    erf = net.add("Erf", net.add("Div", "x", net.const(2**0.5)))
    return str(net.add("Mul", net.add("Mul", "x", net.add("Add", erf, net.const(1))), net.const(0.5)))


def sliced(net: Net) -> str:
    """Slice by inputs, with steps, from 10 on; Split by number from 18 on."""
    if net.opset < 10:
        h = net.add("Slice", "x", axes=[1, 2], starts=[0, -3], ends=[6, 4])
    else:
        h = net.add("Slice", "x", net.ints(5, -3), net.ints(-100, 4), net.ints(1, 2), net.ints(-1, 1))
    options = {"num_outputs": 2} if net.opset >= 18 else {}
    a, b = net.add("Split", h, n=2, axis=1, **options)
    return str(net.add("Sub", a, b))


def filled(net: Net) -> str:
    """Pad of other values and modes: inputs from 11 on, axes from 18, wrap from 19."""
    if net.opset < 11:
        return str(net.add("Pad", net.add("Pad", "x", pads=[0, 0, 1, 0, 0, 2], value=0.5), pads=[0, 1, 0, 0, 2, 0],
                           mode="reflect"))  # fmt: skip
    h = net.add("Pad", "x", net.ints(0, 0, 1, 0, 0, 2), net.const(0.5))
    if net.opset < 18:
        return str(net.add("Pad", h, net.ints(0, 1, 0, 0, 2, 0), mode="reflect"))
    return str(net.add("Pad", h, net.ints(1, 2), "", net.ints(1), mode="wrap" if net.opset >= 19 else "edge"))


def clipped(net: Net) -> str:
    """Bounds are inputs from 11 on, either of which may be absent."""
    if net.opset < 11:
        return str(net.add("Clip", net.add("Clip", "x", max=0.8), min=0.2))
    return str(net.add("Clip", net.add("Clip", "x", "", net.const(0.8)), net.const(0.2)))


def unrolled(net: Net) -> str:
    """Shapes computed in the graph, as PyTorch writes them; Shape takes a range from 15 on, allowzero from 14."""
    shape = net.add("Shape", "x")
    n = net.add("Gather", shape, net.const(0, np.int64), axis=0)
    unsqueezed = net.add("Unsqueeze", n, net.ints(0)) if net.opset >= 13 else net.add("Unsqueeze", n, axes=[0])
    target = net.add("Concat", unsqueezed, net.ints(-1), axis=0)
    return net.gemm(net.add("Reshape", net.relu("x"), target), 24, 3)


def swish(net: Net) -> str:
    """HardSwish from 14 on, Mish from 18; PRelu broadcasts one way."""
    h = net.add("PRelu", "x", net.const(np.full((6, 1), 0.3)))
    for op, since in (("HardSwish", 14), ("Mish", 18)):
        h = net.add(op, h) if net.opset >= since else net.add("Softplus", h)
    return str(h)


def recurrent(net: Net) -> str:
    """LSTM, with `layout` from 14 on."""
    weights = [net.const(net.random.standard_normal(s)) for s in ((1, 20, 4), (1, 20, 5), (1, 40))]
    h = net.add("Transpose", "x", perm=[1, 0, 2])
    y, _, _ = net.add("LSTM", h, *weights, n=3, hidden_size=5)
    return str(net.add("Transpose", y, perm=[2, 0, 1, 3]))


CHANGED: tuple[Callable[[Net], str], ...] = (
    squeezed,
    reduced,
    dropped,
    softmax,
    batch_norm,
    layer_norm,
    group_norm,
    gelu,
    sliced,
    filled,
    clipped,
    unrolled,
    swish,
    recurrent,
)


@pytest.mark.parametrize("body", CHANGED, ids=lambda f: f.__name__)
def test_operators_that_changed(body: Callable[[Net], str]) -> None:
    for opset in OPSETS:
        for batch in ("N", 1, 2):
            if body is group_norm and 18 <= opset < 21 and batch == 2:
                continue  # onnx has withdrawn that version, and infers no shapes of it
            net = Net((6, 4), opset)
            proto = net.model(body(net), batch=batch)
            result = check(proto)
            assert result.status == "ok", f"opset {opset}, batch {batch}: {result.message}"
