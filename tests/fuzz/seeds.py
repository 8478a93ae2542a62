"""Makes the corpus anew: images of small nets of every op, without names and metadata, which C does not read, and of these
what adds coverage. `make fuzz-seeds`, after a change of the image's layout or a new op."""

from __future__ import annotations

import itertools
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeprop import export, runtime
from edgeprop import trainer as t
from edgeprop.export.program.plan import plan
from edgeprop.export.writers.image import to_image
from tests.fuzz import build
from tests.support import random_graphs
from tests.support.graphs import model, node
from tests.support.small_nets import NETS

Array = np.ndarray[Any, np.dtype[Any]]

MOST = 6144  # bytes of an image
HEADER, TENSOR, NODE = 96, 24, 20

CROSS_ENTROPY = "softmax_cross_entropy"


def align(size: int) -> int:
    return -(-size // 16) * 16


def stripped(image: bytes) -> bytes:
    """The image without its name and metadata."""
    tensors, nodes, io, words = struct.unpack_from("<4I", image, 24)
    data, loss = struct.unpack_from("<2I", image, 60)
    end = HEADER + align(TENSOR * tensors) + align(NODE * nodes) + align(2 * io) + align(4 * words)
    end += (align(8 * tensors) if loss else 0) + align(data)
    head = bytearray(image[:end])
    struct.pack_into("<2I", head, 84, 0, 0)
    struct.pack_into("<I", head, 8, end)
    struct.pack_into("<I", head, 12, zlib.crc32(head[16:]))
    return bytes(head)


def ops_of(image: bytes) -> set[tuple[str, bool]]:
    """Ops of an image, each with whether it has a backward there."""
    tensors, nodes = struct.unpack_from("<2I", image, 24)
    rows = [image[at : at + NODE] for at in range(HEADER + align(TENSOR * tensors), len(image), NODE)][:nodes]
    names = {op.code: name for name, op in runtime.OPS.items()}
    return {(names[struct.unpack_from("<H", row)[0]], bool(row[4])) for row in rows}


# ---- Nets ------------------------------------------------------------------------------------------------------------


def _lowered(proto: onnx.ModelProto, **options: Any) -> bytes:
    program = export.lower(proto, name="seed", **options)
    plan(program)
    return to_image(program)


def _samples(proto: onnx.ModelProto, count: int = 8) -> Array:
    dims = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    return np.random.default_rng(0).normal(size=(count, *dims)).astype(np.float32)


def _both(proto: onnx.ModelProto, loss: str = "mse", head: str = "last") -> Iterator[Callable[[], bytes]]:
    """As it is, trained whole, in int8, and in int8 with a head that learns."""
    yield lambda: _lowered(proto)
    yield lambda: _lowered(proto, trainable="*", loss=loss)
    yield lambda: _lowered(export.quantize(proto, _samples(proto)))
    yield lambda: _lowered(export.quantize(proto, _samples(proto), trainable=head, loss=loss))


def _trained(layers: list[Any], shape: tuple[int, ...], loss: str = CROSS_ENTROPY) -> Iterator[Callable[[], bytes]]:
    net = t.Sequential(*layers)
    net.build(shape, seed=0)
    yield from _both(net.to_onnx(), loss, "head")


def _head(units: int = 3) -> Any:
    return t.Dense(units, name="head")


def _layers() -> Iterator[Callable[[], bytes]]:
    """Nets of the trainer."""
    yield from _trained([t.Dense(4), t.ReLU(), _head()], (5,))
    yield from _trained([t.Dense(4), t.Tanh(), _head(2)], (4,), "mse")
    yield from _trained([t.Dense(4), t.LeakyReLU(), _head()], (4,), "hinge")
    yield from _trained([t.Dense(4), t.Sigmoid(), _head(2)], (4,), "sigmoid_cross_entropy")
    image = [t.Conv2D(3, 3, padding="same"), t.ReLU(), t.MaxPool2D(2), t.Conv2D(2, 2), t.Flatten(), _head()]
    yield from _trained(image, (2, 6, 6))
    narrow = [t.DepthwiseConv2D(3, padding="same"), t.ReLU6(), t.Conv2D(4, 1), t.BatchNorm(), t.GlobalAveragePool()]
    yield from _trained([*narrow, t.Flatten(), _head()], (3, 5, 5))
    residual = t.Residual(t.Conv2D(3, 3, padding="same"), t.ReLU())
    yield from _trained([t.Conv2D(3, 1), residual, t.AveragePool2D(2), t.Flatten(), _head()], (2, 4, 4))
    yield from _trained([t.ConvTranspose2D(2, 3, stride=2), t.ReLU(), t.Flatten(), _head()], (2, 3, 3))
    yield from _trained([t.Conv2D(2, 3), t.Resize(2, mode="linear"), t.Flatten(), _head()], (1, 5, 5))
    yield from _trained([t.Conv1D(3, 3), t.ReLU(), t.MaxPool1D(2), t.Flatten(), _head()], (2, 10))
    yield from _trained([t.Embedding(7, 4), t.Flatten(), _head()], (3,))
    norms = [t.Conv2D(4, 2), t.GroupNorm(2), t.Conv2D(2, 1), t.InstanceNorm(), t.Flatten(), t.LayerNorm()]
    yield from _trained([*norms, _head()], (2, 4, 4))
    curves = [t.ELU(), t.SiLU(), t.HardSwish(), t.GELU(), t.Softplus(), t.PReLU(), t.HardSigmoid()]
    for curve in curves:
        yield from _trained([t.Dense(3), curve, _head()], (3,))


def _wide() -> Iterator[Callable[[], bytes]]:
    """One pixel of many channels, padded: where the least of strides and pads makes a line too long."""
    for kind in (t.Conv2D, t.DepthwiseConv2D):
        layer = kind(2, 3, padding="same") if kind is t.Conv2D else kind(3, padding="same")
        yield from _trained([layer, t.Flatten(), _head(2)], (32, 1, 1))


def _recurrent() -> Iterator[Callable[[], bytes]]:
    """Sequences, both directions, cut short, and streams."""
    for layer in (t.SimpleRNN, t.GRU, t.LSTM):
        yield from _trained([layer(3), _head()], (4, 2))
        both = layer(2, bidirectional=True, return_sequences=True)
        yield from _trained([both, t.Flatten(), _head()], (3, 2))
        yield from _trained([layer(2, truncate=2, return_sequences=True), t.Flatten(), _head()], (4, 2))
        stream = t.Sequential(layer(3, stateful=True), _head())
        stream.build((1, 2), seed=0)
        for trainable in ("head", "*"):
            yield lambda s=stream, w=trainable: _lowered(s.to_onnx(), trainable=w, loss=CROSS_ENTROPY)
    yield from _trained([t.GRU(3, linear_before_reset=False), _head()], (4, 2))


def _chosen() -> Iterator[Callable[[], bytes]]:
    """What the exporter writes only where it is told to, or where a graph asks for it."""
    rng = np.random.default_rng(0)
    few = (rng.normal(size=(6, 12)) * (rng.random((6, 12)) < 0.2)).astype(np.float32)
    layers = [node("Gemm", ["x", "a"], ["h"], transB=1, name="a"), node("Sign", ["x"], ["s"])]
    layers += [
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "b"], ["g"], transB=1),
        node("Concat", ["g", "s"], ["y"], axis=1),
    ]
    sparse = model(layers, {"x": ["N", 12]}, ["y"], {"a": few, "b": rng.normal(size=(3, 6)).astype(np.float32)})
    yield lambda: _lowered(sparse, sparse="always")
    yield lambda: _lowered(sparse, sparse="always", trainable="*", loss="mse")
    yield lambda: _lowered(_unsigned_weights())
    for op, opset, options in (("Sign", 17, {}), ("Mish", 18, {}), ("Gelu", 20, {"approximate": "tanh"})):
        chain = [node("Gemm", ["x", "c"], ["h"], transB=1, name="a"), node(op, ["h"], ["r"], **options)]
        weights = {"c": rng.normal(size=(6, 4)).astype(np.float32), "b": rng.normal(size=(3, 6)).astype(np.float32)}
        proto = model([*chain, node("Gemm", ["r", "b"], ["y"], transB=1)], {"x": ["N", 4]}, ["y"], weights, opset)
        yield lambda p=proto: _lowered(p, trainable="*", loss="mse")
    yield from _dynamic()
    pair = [node("Concat", ["a", "b"], ["c"], axis=1), node("Relu", ["c"], ["y"]), node("Add", ["a", "b"], ["z"])]
    yield lambda: _lowered(model(pair, {"a": ["N", 3], "b": ["N", 3]}, ["y", "z"], {}))


def _unsigned_weights() -> onnx.ModelProto:
    """A convolution whose weights have a zero point."""
    weights = np.random.default_rng(0).integers(0, 256, (3, 2, 3, 3)).astype(np.uint8)
    constants = {"s": np.float32(0.05), "z": np.uint8(100), "w": weights, "t": np.float32(0.3)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("QLinearConv", ["q", "s", "z", "w", "s", "z", "t", "z"], ["c"], pads=[1, 1, 1, 1]),
        node("DequantizeLinear", ["c", "t", "z"], ["y"]),
    ]
    return model(nodes, {"x": ["N", 2, 4, 4]}, ["y"], constants)


def _dynamic() -> Iterator[Callable[[], bytes]]:
    """Weights in int8, activations quantized as they come."""
    from onnxruntime.quantization import quantize_dynamic

    rng = np.random.default_rng(1)
    dense = [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])]
    conv = [node("Conv", ["x", "k", "b"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])]
    for nodes, shape, names in (
        (dense, [1, 2, 6], {"w": (6, 4)}),
        (conv, [1, 2, 4, 4], {"k": (3, 2, 3, 3), "b": (3,)}),
    ):
        constants = {name: rng.normal(size=size).astype(np.float32) for name, size in names.items()}

        def make(nodes: Any = nodes, shape: Any = shape, constants: Any = constants) -> bytes:
            with tempfile.TemporaryDirectory() as folder:
                source, target = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
                onnx.save(model(nodes, {"x": shape}, ["y"], constants), source)
                quantize_dynamic(source, target)
                return _lowered(onnx.load(target))

        yield make


def _small() -> Iterator[Callable[[], bytes]]:
    for make in NETS.values():
        yield from _both(make(17))


def _random(count: int = 120) -> Iterator[Callable[[], bytes]]:
    for seed in range(count):
        yield lambda s=seed: _lowered(random_graphs.draw(s).model)
        yield lambda s=seed: _lowered(random_graphs.draw_trained(s).model, trainable="*", loss="mse")


def images_of(*makers: Iterator[Callable[[], bytes]]) -> Iterator[bytes]:
    """Their images; a net that has no such form (no int8, nothing to train) gives none."""
    skipped = 0
    for make in itertools.chain(*makers):
        try:
            image = stripped(make())
        except (export.ExportError, random_graphs.Unfit, ValueError) as error:
            skipped += 1
            print(f"left out: {type(error).__name__}: {str(error)[:110]}", file=sys.stderr)
            continue
        if len(image) <= MOST:
            yield image
    print(f"{skipped} left out", file=sys.stderr)


# ---- The corpus ------------------------------------------------------------------------------------------------------


def _merge(fuzzer: Path, *folders: Path) -> None:
    """Of what the other folders hold, what adds coverage to the first; the smallest first."""
    subprocess.run([fuzzer, "-merge=1", "-max_len=16384", *folders], check=True, capture_output=True)


def _for_ops(images: list[bytes], folder: Path) -> None:
    """An image for each op, with a backward and without, that the folder's images do not have."""
    have = {op for path in folder.iterdir() for op in ops_of(path.read_bytes())}
    for image in sorted(images, key=len):
        if ops_of(image) - have:
            have |= ops_of(image)
            _keep(image, folder)


def _keep(data: bytes, folder: Path) -> None:
    (folder / f"{zlib.crc32(data):08x}").write_bytes(data)


def _images(fuzzer: Path, target: Path, room: int) -> None:
    """The wide ones, the smallest image of each op, and what adds most to them, as long as there is room (bytes)."""
    for image in images_of(_wide()):
        _keep(image, target)
    images = list(images_of(_layers(), _recurrent(), _chosen(), _small(), _random()))
    _for_ops(images, target)
    with tempfile.TemporaryDirectory() as scratch:
        everything, chosen = Path(scratch) / "all", Path(scratch) / "chosen"
        everything.mkdir(), chosen.mkdir()
        for image in images:
            _keep(image, everything)
        _merge(fuzzer, chosen, everything)
        for path in sorted(chosen.iterdir(), key=lambda path: path.stat().st_size):
            if sum(kept.stat().st_size for kept in target.iterdir()) + path.stat().st_size <= room:
                _keep(path.read_bytes(), target)


def _records(target: Path) -> None:
    """Storages with no record, with one and with two, of the record fuzzer's own net, for several units of writing."""
    weights = np.arange(28, dtype="<f4").tobytes()

    def record(sequence: int, fingerprint: int = 0x12345678, values: bytes = weights) -> bytes:
        rest = struct.pack("<6I", sequence, fingerprint, 0x9ABCDEF0, len(values), 0, 0) + values
        return b"EPH1" + struct.pack("<I", zlib.crc32(rest)) + rest

    for exponent, (first, second) in enumerate(
        [
            (b"", b""),
            (record(1), b""),
            (record(1), record(2)),
            (record(0xFFFFFFFF), record(0)),
            (record(5), record(4, fingerprint=7)),
            (record(3, values=np.full(28, np.nan, "<f4").tobytes()), record(2)),
            (record(1, values=weights[:-4]), record(2, values=weights[:-8])),
        ]
    ):
        unit = 1 << exponent
        slot = -(-144 // unit) * unit
        head = bytes([exponent, 0, 3 * exponent, exponent])
        _keep(head + first.ljust(slot, b"\xff") + second.ljust(slot, b"\xff"), target)


def main() -> None:
    for name in build.TARGETS:
        shutil.rmtree(build.CORPUS / name, ignore_errors=True)
        (build.CORPUS / name).mkdir(parents=True)
    _records(build.CORPUS / "record")
    with tempfile.TemporaryDirectory() as folder:
        _images(build.fuzzer("image", "asan", Path(folder) / "image"), build.CORPUS / "image", room=140_000)


if __name__ == "__main__":
    main()
