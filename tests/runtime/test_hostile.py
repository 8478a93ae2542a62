"""What must never go wrong on a device: tampered images, a power cut in a save, a bit that flips, a step that diverges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeprop
from edgeprop import export
from edgeprop import trainer as t
from edgeprop.export.writers.image import to_image
from tests.support import compiler
from tests.support.compiler import SANITIZE, run

PROGRAMS = Path(__file__).parents[1] / "c"
TURNS = 10_000


def build(program: str, cc: str) -> Path:
    """A program of tests/c that sanitizers watch."""
    compiler.require(cc, *SANITIZE)
    source, output = PROGRAMS / f"{program}.c", compiler.scratch() / f"{program}-{cc}"
    return compiler.program(source, output, "-D_POSIX_C_SOURCE=200809L", cc=cc, build=SANITIZE)


def mlp() -> bytes:
    net = t.Sequential(t.Dense(6), t.ReLU(), t.Dense(4, name="head"))
    net.build((8,), seed=0)
    return to_image(export.lower(net.to_onnx(), name="mlp", trainable="*", loss="softmax_cross_entropy"))


def conv() -> bytes:
    net = t.Sequential(
        t.Conv2D(3, 3, padding="same"),
        t.Residual(t.DepthwiseConv2D(3, padding="same"), t.ReLU()),
        t.MaxPool2D(2),
        t.AveragePool2D(2),
        t.Flatten(),
        t.Dense(4),
    )
    net.build((2, 6, 6), seed=0)
    return to_image(export.lower(net.to_onnx(), name="conv", trainable="*", loss="mse"))


def int8() -> bytes:
    net = t.Sequential(
        t.Conv2D(4, 3, padding="same"),
        t.Residual(t.Conv2D(4, 3, padding="same"), t.ReLU()),
        t.Sigmoid(),
        t.MaxPool2D(2),
        t.AveragePool2D(2),
        t.GlobalAveragePool(),
        t.Flatten(),
        t.Dense(4, name="head"),
    )
    net.build((2, 8, 8), seed=0)
    samples = np.random.default_rng(0).normal(size=(32, 2, 8, 8)).astype(np.float32)
    model = export.quantize(net.to_onnx(), samples, trainable="head", loss="softmax_cross_entropy")
    return to_image(export.lower(model, name="int8"))


@pytest.mark.parametrize("cc", ["gcc", pytest.param("clang", marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", [mlp, conv, int8])
def test_tampered_images(make: Any, cc: str, tmp_path: Path) -> None:
    """Ten thousand of them: refused or harmless, as the address and undefined-behaviour sanitizers see it."""
    program = build("hostile", cc)
    (tmp_path / "model.ep").write_bytes(make())
    accepted = int(run([program, tmp_path / "model.ep", str(TURNS), "1"]))
    assert 0 < accepted < TURNS  # weights may change freely, structure may not


def test_every_cut_of_an_image_is_refused() -> None:
    data = mlp()
    for size in range(len(data)):
        with pytest.raises(edgeprop.Error):
            edgeprop.Model(data[:size])


def flash(stride: int, folder: Path) -> list[int]:
    """What tests/c/power_cut.c lived through: cuts, second cuts, worn words, flipped bits."""
    program = build("power_cut", "cc")
    (folder / "model.ep").write_bytes(mlp())
    return [int(count) for count in run([program, folder / "model.ep", str(stride)]).split()]


def test_flash_at_its_worst(tmp_path: Path) -> None:
    """Whatever a cut, wear and rot leave behind, and whatever the flash's unit of writing: the old head or the new one."""
    cuts, again, worn, rot = flash(499, tmp_path)
    assert cuts > 7 * 4 * 3 * 700  # units, what a cut leaves, rounds, bytes of a save
    assert again > 20_000
    assert worn > 3 * 3 * 700
    assert rot > 2 * 8 * 700


@pytest.mark.slow
def test_second_cuts_after_many_more(tmp_path: Path) -> None:
    assert flash(23, tmp_path)[1] > 400_000


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_step_that_diverges_is_refused_whole(optimizer: str, batch_size: int) -> None:
    """Inputs whose gradient overflows: an error, and not a bit of any weight has changed."""
    model = edgeprop.Model(mlp())
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 8)).astype(np.float32), rng.integers(0, 4, 8)
    model.partial_fit(x, y, optimizer=optimizer, batch_size=batch_size)
    before = {name: value.copy() for name, value in model.parameters().items()}
    with pytest.raises(edgeprop.Error) as caught:
        model.partial_fit(np.full((4, 8), 3e38, np.float32), y[:4], optimizer=optimizer, batch_size=batch_size)
    assert caught.value.code == "EP_ERR_DIVERGED"
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(value, before[name])
    model.partial_fit(x, y, optimizer=optimizer, batch_size=batch_size)  # and learning goes on


def test_every_flipped_bit_of_a_head_is_noticed(tmp_path: Path) -> None:
    model = edgeprop.Model(mlp())
    path = tmp_path / "me.head"
    model.save(path)
    record = bytearray(path.read_bytes())
    for bit in range(8 * len(record)):
        record[bit // 8] ^= 1 << bit % 8
        path.write_bytes(record)
        record[bit // 8] ^= 1 << bit % 8
        with pytest.raises(edgeprop.Error):
            model.restore(path)
