"""Nets of every kind of layer whose backward looks back, as the device gets them: sharing memory changes not a bit, and the
header does what the image does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeprop import trainer as t
from edgeprop.export.lower import lower
from edgeprop.export.program.plan import plan
from edgeprop.export.program.program import Program
from edgeprop.export.program.traits import TRAITS
from edgeprop.export.writers.header import to_header
from edgeprop.export.writers.image import to_image
from tests.support.compiler import HERE, image_driver, program, run
from tests.support.plans import apart

Layers = Callable[[], list[t.Layer]]


#: name: (layers, shape of a sample, what trains). A layer that is frozen stands between two that train.
NETS: dict[str, tuple[Layers, tuple[int, ...], str]] = {
    "rows": (lambda: [t.TimeDense(5, name="a"), t.ReLU(), t.TimeDense(3, name="b")], (7, 4), "*"),
    "row": (lambda: [t.Flatten(), t.Dense(5, name="a"), t.ReLU(), t.Dense(3, name="b")], (7, 4), "*"),
    "wide rows": (lambda: [t.TimeDense(5, name="a"), t.TimeDense(33, name="b"), t.TimeDense(2, name="c")], (3, 65), "*"),
    "frozen gru": (lambda: [t.TimeDense(5, name="a"), t.GRU(6, name="cell"), t.Dense(3, name="b")], (7, 4), "[ab]"),
    "frozen gru, all states": (
        lambda: [t.TimeDense(5, name="a"), t.GRU(6, return_sequences=True, name="cell"), t.TimeDense(3, name="b")],
        (7, 4),
        "[ab]",
    ),
    "frozen lstm": (lambda: [t.TimeDense(5, name="a"), t.LSTM(6, name="cell"), t.Dense(3, name="b")], (7, 4), "[ab]"),
    "frozen lstm, all states": (
        lambda: [t.TimeDense(5, name="a"), t.LSTM(6, return_sequences=True, name="cell"), t.TimeDense(3, name="b")],
        (7, 4),
        "[ab]",
    ),
    "frozen rnn": (lambda: [t.TimeDense(5, name="a"), t.SimpleRNN(6, name="cell"), t.Dense(3, name="b")], (7, 4), "[ab]"),
    "gru": (lambda: [t.TimeDense(5, name="a"), t.GRU(6, name="cell"), t.Dense(3, name="b")], (7, 4), "*"),
    "frozen group norm": (
        lambda: [t.Conv2D(6, 3, padding="same", name="a"), t.GroupNorm(2), t.Flatten(), t.Dense(3, name="b")],
        (2, 6, 5),
        "[ab]",
    ),
    "wide group norm": (
        lambda: [t.GroupNorm(3, name="norm"), t.ReLU(), t.GlobalAveragePool(), t.Flatten(), t.Dense(3, name="b")],
        (129, 2, 2),
        "*",
    ),
    "max pool of many taps": (
        lambda: [t.Conv2D(3, 3, padding="same", name="a"), t.MaxPool2D((13, 11)), t.Flatten(), t.Dense(3, name="b")],
        (2, 26, 11),
        "*",
    ),
    "conv transpose": (
        lambda: [t.Conv2D(3, 3, name="a"), t.ConvTranspose2D(4, 3, stride=2), t.Flatten(), t.Dense(3, name="b")],
        (2, 6, 5),
        "[ab]",
    ),
    "layer norm": (lambda: [t.TimeDense(6, name="a"), t.LayerNorm(), t.GELU(), t.TimeDense(3, name="b")], (5, 4), "*"),
    "gates": (lambda: [t.Dense(6, name="a"), t.SiLU(), t.PReLU(), t.ELU(), t.Dense(3, name="b")], (4,), "*"),
}  # fmt: skip


def built(name: str) -> Program:
    """The program of a net; its weights are drawn."""
    layers, shape, trainable = NETS[name]
    net = t.Sequential(*layers())
    net.build(shape, seed=3)
    result = lower(net.to_onnx(), trainable=trainable, loss="mse")
    assert result.trainable()
    return result


def answers(model: Program, folder: Path) -> list[str]:
    """Outputs, losses and weights after learning, as bits, of the image."""
    path = folder / "model.ep"
    path.write_bytes(to_image(model))
    text = run([image_driver(), "5", "3", path])
    assert "learn 0" in text
    assert "learn -" not in text
    return [line for line in text.splitlines() if not line.startswith(("arena", "fingerprint"))]


@pytest.mark.parametrize("name", NETS)
def test_sharing_memory_changes_nothing(name: str, tmp_path: Path) -> None:
    model = built(name)
    shared = answers(model, tmp_path)
    model.plan = apart(model)
    assert answers(model, tmp_path) == shared


@pytest.mark.parametrize(
    "name", [name for name in NETS if name.endswith("s")] + ["row", "frozen gru", "wide group norm"]
)
def test_the_header_does_what_the_image_does(name: str, tmp_path: Path) -> None:
    """Above all it names the gradient that is right for as many rows as a layer has."""
    model = built(name)
    model.name = "net"
    (tmp_path / "net.h").write_text(to_header(model), encoding="utf-8")
    defines = ('-DHEADER="net.h"', "-DMODEL=net", "-DNET_IMPLEMENTATION")
    driver = program(HERE / "drive.c", tmp_path / "driver", *defines, include=tmp_path)
    text = run([driver, "5", "3"])
    wanted = answers(model, tmp_path)
    assert [line for line in text.splitlines() if not line.startswith(("arena", "fingerprint"))] == wanted


@pytest.mark.parametrize("name", [name for name in NETS if "frozen" in name and "norm" not in name])
def test_what_a_frozen_cell_computed_lives_until_its_backward(name: str) -> None:
    """Input and outputs of the cell, gradients and what a weight's gradient is made of: no two of them in one place."""
    model = built(name)
    p = plan(model)
    index = next(i for i, op in enumerate(model.ops) if TRAITS[op.kind].recurrent)
    cell = model.ops[index]
    needed = {n for n in [*cell.inputs, *cell.outputs] if n in p.train_offsets and model.tensors[n].is_activation}
    assert needed >= {cell.inputs[0], *cell.outputs}
    places = [(p.train_offsets[n], model.tensors[n].nbytes, n) for n in needed]
    gradients = [n for n in cell.outputs if n in p.grad_offsets]
    assert gradients
    places += [(p.grad_offsets[n], model.tensors[n].nbytes, f"d {n}") for n in gradients]
    places.sort()
    for (at, size, one), (next_at, _, other) in itertools.pairwise(places):
        assert at + size <= next_at, (one, other)


def test_numbers_are_drawn() -> None:
    """A net whose answers were all zero would notice nothing."""
    values = [tensor.data for tensor in built("frozen gru").trainable()]
    assert all(np.any(v != 0) for v in values if v is not None and v.ndim > 1)
