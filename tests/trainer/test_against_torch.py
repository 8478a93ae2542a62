"""Layers and their gradients are those of PyTorch, in float64; skipped where that is not installed (`make test-foreign`)."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprop import trainer as t

torch = pytest.importorskip("torch")
F = torch.nn.functional

IMAGE, LINE, VECTOR = (4, 7, 6), (4, 9), (5,)


def _weights(p):
    return p["weight"], p.get("bias")


def _channels(v, rank):
    """A value per channel, beside (N, C, ...) of `rank` axes."""
    return v.reshape(1, -1, *[1] * (rank - 2))


#: name: layer, shape of a sample, the same in PyTorch of x and of the parameters by our names
ROWS = {
    "dense": (lambda: t.Dense(3), VECTOR, lambda x, p: F.linear(x, *_weights(p))),
    "conv": (
        lambda: t.Conv2D(6, (3, 2), stride=(2, 1), dilation=(1, 2), padding=(1, 2)),
        IMAGE,
        lambda x, p: F.conv2d(x, *_weights(p), stride=(2, 1), dilation=(1, 2), padding=(1, 2)),
    ),
    "conv, groups": (
        lambda: t.Conv2D(6, 3, groups=2, padding=1, bias=False),
        IMAGE,
        lambda x, p: F.conv2d(x, *_weights(p), padding=1, groups=2),
    ),
    "conv, one line": (
        lambda: t.Conv1D(3, 3, dilation=2, stride=2),
        LINE,
        lambda x, p: F.conv1d(x, *_weights(p), stride=2, dilation=2),
    ),
    "depthwise": (
        lambda: t.DepthwiseConv2D(3, stride=2, multiplier=2, padding=1),
        IMAGE,
        lambda x, p: F.conv2d(x, p["weight"].reshape(8, 1, 3, 3), p["bias"], stride=2, padding=1, groups=4),
    ),
    "transposed conv": (
        lambda: t.ConvTranspose2D(3, 3, stride=2, padding=1, output_padding=1),
        IMAGE,
        lambda x, p: F.conv_transpose2d(x, *_weights(p), stride=2, padding=1, output_padding=1),
    ),
    "max pool": (lambda: t.MaxPool2D(3, stride=2, padding=1), IMAGE, lambda x, p: F.max_pool2d(x, 3, 2, 1)),
    "average pool": (
        lambda: t.AveragePool2D(3, stride=2, padding=1),
        IMAGE,
        lambda x, p: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    ),
    "average pool, padding counts": (
        lambda: t.AveragePool2D(3, stride=2, padding=1, count_include_pad=True),
        IMAGE,
        lambda x, p: F.avg_pool2d(x, 3, 2, 1, count_include_pad=True),
    ),
    "layer norm": (lambda: t.LayerNorm(), LINE, lambda x, p: F.layer_norm(x, (9,), *_scale(p))),
    "group norm": (lambda: t.GroupNorm(2), IMAGE, lambda x, p: F.group_norm(x, 2, *_scale(p))),
    "instance norm": (
        lambda: t.InstanceNorm(),
        IMAGE,
        lambda x, p: F.instance_norm(x, weight=_scale(p)[0], bias=_scale(p)[1]),
    ),
    "batch norm": (
        lambda: t.BatchNorm(),
        IMAGE,
        lambda x, p: F.batch_norm(x, None, None, *_scale(p), training=True),
    ),
    "relu": (lambda: t.ReLU(), IMAGE, lambda x, p: F.relu(x)),
    "relu6": (lambda: t.ReLU6(), IMAGE, lambda x, p: F.relu6(x)),
    "leaky relu": (lambda: t.LeakyReLU(0.2), IMAGE, lambda x, p: F.leaky_relu(x, 0.2)),
    "prelu": (lambda: t.PReLU(), IMAGE, lambda x, p: F.prelu(x, next(iter(p.values())).reshape(-1))),
    "elu": (lambda: t.ELU(0.7), IMAGE, lambda x, p: F.elu(x, 0.7)),
    "selu": (lambda: t.SELU(), IMAGE, lambda x, p: F.selu(x)),
    "gelu": (lambda: t.GELU(), IMAGE, lambda x, p: F.gelu(x)),
    "gelu, tanh": (lambda: t.GELU("tanh"), IMAGE, lambda x, p: F.gelu(x, approximate="tanh")),
    "silu": (lambda: t.SiLU(), IMAGE, lambda x, p: F.silu(x)),
    "sigmoid": (lambda: t.Sigmoid(), IMAGE, lambda x, p: torch.sigmoid(x)),
    "tanh": (lambda: t.Tanh(), IMAGE, lambda x, p: torch.tanh(x)),
    "hard sigmoid": (
        lambda: t.HardSigmoid(),
        IMAGE,
        lambda x, p: (x / 6 + 0.5).clamp(0, 1),
    ),  # its own has 1/6 in float32
    "hard swish": (lambda: t.HardSwish(), IMAGE, lambda x, p: F.hardswish(x)),
    "softplus": (lambda: t.Softplus(), IMAGE, lambda x, p: F.softplus(x)),
    "softmax": (lambda: t.Softmax(1), IMAGE, lambda x, p: F.softmax(x, 1)),
    "log softmax": (lambda: t.LogSoftmax(1), IMAGE, lambda x, p: F.log_softmax(x, 1)),
    "resize, nearest": (lambda: t.Resize(2), IMAGE, lambda x, p: F.interpolate(x, scale_factor=2)),
    "resize, linear": (
        lambda: t.Resize(2, "linear"),
        IMAGE,
        lambda x, p: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
    ),
    "mean": (lambda: t.ReduceMean(2), IMAGE, lambda x, p: x.mean(2)),
    "largest": (lambda: t.ReduceMax(2), IMAGE, lambda x, p: x.amax(2)),
}


def _scale(p):
    """Scale and shift, whatever they are called."""
    scale, shift = p.values()
    return scale, shift


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_forward_and_gradients(row):
    make, shape, theirs = row
    rng = np.random.default_rng(0)
    net = t.Sequential(make()).astype(np.float64)
    net.build(shape, seed=1)
    layer = net[0]
    for value in layer.params.values():
        value += rng.normal(0, 0.3, value.shape)
    x = rng.normal(0, 2, (3, *shape))
    their_x = torch.tensor(x, requires_grad=True)
    their_params = {key: torch.tensor(value, requires_grad=True) for key, value in layer.params.items()}
    wanted = theirs(their_x, their_params)
    dy = rng.normal(size=tuple(wanted.shape))
    wanted.backward(torch.tensor(dy))
    np.testing.assert_allclose(net.forward(x, training=True), wanted.detach().numpy(), rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(net.backward(dy), their_x.grad.numpy(), rtol=1e-9, atol=1e-10)
    for key, value in their_params.items():
        np.testing.assert_allclose(layer.grads[key], value.grad.numpy(), rtol=1e-9, atol=1e-10, err_msg=key)
