"""The networks that run on boards, as the C headers a user gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks import models as networks
from benchmarks.learners import LEARNERS
from edgeprop import export
from edgeprop import trainer as t
from edgeprop.export.writers.c_text import identifier

from .build import BUILD
from .nets import LARGER, NETS, Net

REFERENCE, SEEDED = "MLPerf Tiny", "seeded weights"


@dataclass(frozen=True)
class Model:
    """A header, and what a program must know beside it.

    Attributes
    ----------
    name : the stem of the file
    header : the file
    source : `REFERENCE` or `SEEDED`: where the weights come from
    input_bytes, output_bytes : of one sample
    learns : whether it has weights that learn
    ops : kinds of the ops it is made of
    """

    name: str
    header: Path
    source: str
    input_bytes: int
    output_bytes: int
    learns: bool
    ops: frozenset[str] = frozenset()

    @property
    def symbol(self) -> str:
        """What the model is called in C."""
        return identifier(self.name)

    def defines(self, arena: str) -> tuple[str, ...]:
        """Macros for a program over this model; `arena`: INFER, RESTORE or TRAIN."""
        prefix = self.symbol.upper()
        return (
            *(f'-DHEADER="{self.header.name}"', f"-D{prefix}_IMPLEMENTATION", f"-DMODEL={self.symbol}"),
            *(f"-DARENA={prefix}_{arena}_ARENA", f"-DINPUT={self.input_bytes}", f"-DOUTPUT={self.output_bytes}"),
        )


def _head() -> t.Sequential:
    """A softmax head of 64 values and 10 classes."""
    net = t.Sequential(t.Dense(10))
    net.build((64,), seed=0)
    return net


def _mlp() -> t.Sequential:
    """64-32-10, all of it learning."""
    net = t.Sequential(t.Dense(32), t.ReLU(), t.Dense(10))
    net.build((64,), seed=0)
    return net


def _small() -> t.Sequential:
    """One of each layer of an image network, with sizes that no register's width divides; it fits a micro:bit."""
    block = t.Residual(t.DepthwiseConv2D(3, padding="same"), t.ReLU(), t.Conv2D(5, 1))
    net = t.Sequential(
        *(t.Conv2D(5, 3, padding="same"), t.ReLU(), block, t.ReLU(), t.MaxPool2D(2)),
        *(t.Conv2D(11, 3, stride=2), t.ReLU6(), t.GlobalAveragePool(), t.Flatten(), t.Dense(3)),
    )
    net.build((3, 11, 9), seed=0)
    return net


def _write(stem: Path, model: t.Graph | onnx.ModelProto, source: str, **options: object) -> Model:
    exported = export.save(stem, model, name=stem.name, **options)  # type: ignore[arg-type]
    program = exported.program
    (x,), (y,) = ([program.tensors[port.tensor] for port in ports] for ports in (program.inputs, program.outputs))
    sizes = (tensor.count * (1 if tensor.dtype in ("i8", "u8") else 4) for tensor in (x, y))
    ops = frozenset(op.kind for op in program.ops)
    return Model(stem.name, exported.paths["header"], source, *sizes, bool(program.trainable()), ops)


def _samples(shape: tuple[int, ...], count: int = 16) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)


def _reference(work: str, dtype: str, seeded: bool) -> Callable[[Path], Model]:
    def make(folder: Path) -> Model:
        model, source = networks.seeded(work, dtype) if seeded else networks.load(work, dtype)
        own = folder / ("reference" if source == REFERENCE else "seeded")  # the same name, but not the same header
        return _write(own / f"{work}_{dtype}", model, source)

    return make


def _float(name: str, build: Callable[[], t.Sequential]) -> Callable[[Path], Model]:
    def make(folder: Path) -> Model:
        return _write(folder / name, build(), SEEDED, trainable="*", loss="softmax_cross_entropy")

    return make


def _int8_head(name: str, build: Callable[[], t.Sequential]) -> Callable[[Path], Model]:
    """An int8 network whose last layer is float32 and learns."""

    def make(folder: Path) -> Model:
        net = build()
        options = {"trainable": "last", "loss": "softmax_cross_entropy"}
        return _write(folder / name, net, SEEDED, calibration=_samples(net.in_shapes[0]), **options)

    return make


def _small_net(name: str, net: Net) -> Callable[[Path], Model]:
    def make(folder: Path) -> Model:
        calibration = _samples(net.shape) if net.shape else None
        return _write(folder / name, net.build(), SEEDED, calibration=calibration, **net.options)

    return make


def make(name: str, *, seeded: bool = False) -> Model:
    """Write a model's header into build/boards/models/; of the four of MLPerf Tiny the trained one, where it is at hand.

    `seeded` takes the same shapes with seeded weights instead.
    """
    makers = {
        "head_64_10": _float("head_64_10", _head),
        "mlp_64_32_10": _float("mlp_64_32_10", _mlp),
        "mlp_784_128_10": _float("mlp_784_128_10", LEARNERS["mlp"]),
        "ds_cnn_learning": _float("ds_cnn_learning", LEARNERS["ds_cnn"]),
        "small": _float("small", _small),
        "small_int8": _int8_head("small_int8", _small),
        "ds_cnn_head": _int8_head("ds_cnn_head", networks.BUILDERS["ds_cnn"]),
        **{row: _small_net(row, net) for row, net in (NETS | LARGER).items()},
    }
    if name not in makers:
        work, _, dtype = name.rpartition("_")
        makers[name] = _reference(work, dtype, seeded)
    return makers[name](BUILD / "models")
