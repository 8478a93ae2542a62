"""Arrays of a wrong shape: the cure that the error names gives the model the right values, or no cure is named."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeprop
from edgeprop._arrays import cure
from tests.support.image import Net, Tensor, image


def identity(shape: tuple[int, ...]) -> edgeprop.Model:
    """A model that gives back what it takes, (n, *shape)."""
    net, count = Net(name="same"), int(np.prod(shape))
    net.add(Tensor("x", (count,)))
    y = net.unary("clip_f32", "x", "y", count=count, lo=-1e9, hi=1e9)
    axes = tuple(range(len(shape) + 1))
    net.inputs, net.outputs = [("x", (0, *shape), axes)], [(y, (0, *shape), axes)]
    return edgeprop.Model(image(net))


def cured(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`x` after what the error says to do."""
    with pytest.raises(edgeprop.Error) as error:
        identity(shape).run(x)
    assert error.value.code == "EP_ERR_ARG"
    found = re.search(r"give (x[^ ]+(?:, [^ ]+)*)( for a single sample)? \[EP", str(error.value))
    assert found, str(error.value)
    return np.asarray(eval(found[1], {"x": x, "len": len}))


def samples(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype="f4").reshape(shape)


#: what the model takes, (n, ...), and what is done to it before it is handed over
MIX_UPS = {
    "NHWC": (samples(5, 3, 8, 6), lambda x: x.transpose(0, 2, 3, 1)),
    "NHWC, square": (samples(5, 3, 8, 8), lambda x: x.transpose(0, 2, 3, 1)),
    "NHWC, a channel": (samples(5, 1, 8, 6), lambda x: x.transpose(0, 2, 3, 1)),
    "NCHW for a model of NHWC": (samples(5, 8, 8, 3), lambda x: x.transpose(0, 3, 1, 2)),
    "one sample": (samples(1, 3, 8, 6), lambda x: x[0]),
    "one sample, HWC": (samples(1, 3, 8, 6), lambda x: x[0].transpose(1, 2, 0)),
    "time last": (samples(5, 3, 20), lambda x: x.transpose(0, 2, 1)),
    "time last, one sample": (samples(1, 3, 20), lambda x: x[0].T),
    "width first": (samples(5, 1, 8, 6), lambda x: x.transpose(0, 1, 3, 2)),
    "no channel": (samples(5, 1, 8, 6), lambda x: x[:, 0]),
    "no channel, last": (samples(5, 8, 6, 1), lambda x: x[..., 0]),
    "samples are columns": (samples(5, 6), lambda x: x.T),
    "a series in an image": (samples(5, 3, 1, 20), lambda x: x[:, :, 0].transpose(0, 2, 1)),
    "flat": (samples(5, 3, 8, 6), lambda x: x.reshape(5, -1)),
    "not flat": (samples(5, 24), lambda x: x.reshape(5, 4, 6)),
    "an axis too many": (samples(5, 6), lambda x: x[:, :, None]),
    "one sample, flat": (samples(1, 3, 8), lambda x: x.ravel()),
}


@pytest.mark.parametrize(("right", "mix"), MIX_UPS.values(), ids=MIX_UPS)
def test_the_cure_puts_every_value_in_its_place(right: np.ndarray, mix) -> None:
    np.testing.assert_array_equal(cured(mix(right), right.shape[1:]), right)


def test_values_of_several_channels_are_not_said_to_be_in_order() -> None:
    assert "if its values are in the order" in cure((5, 144), (3, 8, 6), "x")


@pytest.mark.parametrize("shape", [(), (5,), (5, 7), (5, 3, 8), (0, 9), (5, 3, 8, 7), (2, 5, 3, 8, 6)])
def test_where_nothing_fits_no_cure_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(edgeprop.Error, match="give samples of that shape"):
        identity((3, 8, 6)).run(np.zeros(shape))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_axes_in_another_order_are_never_reshaped(sizes: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(sizes))))
    shape = tuple(sizes[axis] for axis in order)
    if shape == tuple(sizes):
        return
    said = cure((7, *shape), tuple(sizes), "x")
    x = np.zeros((7, *shape))
    found = re.fullmatch(r"its axes stand in another order: give (x\.transpose\([0-9, ]+\))", said)
    assert found, said
    assert eval(found[1], {"x": x}).shape == (7, *sizes)
