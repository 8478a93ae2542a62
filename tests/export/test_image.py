"""The image, byte by byte as docs/format.md says, and read back."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprop import runtime
from edgeprop.export.program.plan import plan
from edgeprop.export.program.program import NONE
from edgeprop.export.writers.image import ImageError, read_image, to_image
from tests.support import programs

BUILT = [programs.head, programs.mlp, programs.cnn, programs.residual, programs.ds_cnn_int8]


def _sections(image: bytes) -> list[bytes]:
    """The eight sections, cut by the document alone."""
    word = lambda at: struct.unpack_from("<I", image, at)[0]  # noqa: E731
    n_tensors, n_nodes, n_io, n_words = (word(at) for at in (24, 28, 32, 36))
    loss, data, name, meta = word(64), word(60), word(84), word(88)
    sizes = [24 * n_tensors, 20 * n_nodes, 2 * n_io, 4 * n_words, 8 * n_tensors if loss else 0, data, name, meta]
    at, found = 96, []
    for size in sizes:
        found.append(image[at : at + size])
        end = -(-(at + size) // 16) * 16
        assert not any(image[at + size : end])
        at = end
    return found


@pytest.mark.parametrize("build", BUILT)
def test_header(build):
    program = build()
    image = to_image(program)
    p = program.plan
    magic, version, abi, size, crc = struct.unpack_from("<4sHHII", image)
    assert (magic, version, abi, size) == (b"EPM1", 1, runtime.ABI, len(image))
    assert crc == zlib.crc32(image[16:])
    counts = struct.unpack_from("<9I", image, 24)
    assert counts[:2] == (len(program.tensors), len(program.ops))
    assert counts[4:6] == (len(program.inputs), len(program.outputs))
    assert counts[6:] == (p.infer_bytes, p.scratch_bytes, p.param_bytes)
    learning = struct.unpack_from("<IIIHHI", image, 64)
    if p.param_bytes:
        logits = list(program.tensors).index(program.logits)
        code = runtime.LOSSES[program.loss]
        assert learning == (code, p.train_bytes, p.train_scratch_bytes, p.first_op, p.end_op, logits)
    else:
        assert learning == (0, 0, 0, 0, 0, 0)
    assert image[92:96] == bytes(4)


@pytest.mark.parametrize("build", BUILT)
def test_tensor_records(build):
    program = build()
    tensors, _, _, _, train, data, _, _ = _sections(to_image(program))
    p = program.plan
    for i, t in enumerate(program.tensors.values()):
        at, count, offset, scale, zero_point, dtype, flags, zero = struct.unpack_from("<IIIfhBBI", tensors, 24 * i)
        assert (count, zero) == (t.count, 0)
        assert dtype == {"f32": 1, "i8": 2, "i32": 3, "u8": 4}[t.dtype]
        if t.is_activation:
            assert (at, flags, offset) == (NONE, 0, p.infer_offsets[t.name])
            assert (scale, zero_point) == (np.float32(t.scale), t.zero_point)
        else:
            assert at % 16 == 0
            assert data[at : at + t.nbytes] == t.data.tobytes()
            narrow = t.dtype == "i8" and -128 not in t.data
            assert flags == (2 if t.trainable else 1) | (4 if narrow else 0)
            assert offset == (p.param_offsets[t.name] if t.trainable else NONE)
        if train:
            n = len(program.tensors)
            assert struct.unpack_from("<I", train, 4 * i)[0] == p.train_offsets.get(t.name, NONE)
            assert struct.unpack_from("<I", train, 4 * (n + i))[0] == p.grad_offsets.get(t.name, NONE)


@pytest.mark.parametrize("build", BUILT)
def test_node_records(build):
    program = build()
    _, nodes, io, words, *_ = _sections(to_image(program))
    names = list(program.tensors)
    for i, op in enumerate(program.ops):
        code, n_in, n_out, grad, mask, n_words, io_at, word_at, zero = struct.unpack_from("<HBBBBHIII", nodes, 20 * i)
        info = runtime.OPS[op.kind]
        assert (code, zero) == (info.code, 0)
        indices = struct.unpack_from(f"<{n_in + n_out}H", io, 2 * io_at)
        assert [names[k] for k in indices] == op.inputs + op.outputs
        assert grad == (op.outputs[0] in program.plan.grad_offsets)
        assert mask == program.plan.accumulate.get(i, 0)
        assert n_words == len(info.attr)
        for k, (field, kind) in enumerate(info.attr):
            (value,) = struct.unpack_from("<" + {"i4": "i", "f4": "f"}[kind], words, 4 * (word_at + k))
            assert value == np.float32(op.attrs[field])


def test_meta_and_name():
    program = programs.cnn()
    program.name, program.labels[0] = "größe", "zéro"
    *_, name, meta = _sections(to_image(program))
    assert name == "größe".encode() + b"\0"
    said = json.loads(meta)
    assert meta.decode() == json.dumps(said, sort_keys=True, separators=(",", ":"))
    assert set(said) == {"inputs", "outputs", "labels", "loss", "nodes", "tensors", "source", "source_hash"}
    assert said["labels"] == program.labels
    assert said["nodes"] == [op.name for op in program.ops]
    port = {
        "name": "image",
        "dtype": "f32",
        "shape": [0, 12, 12, 1],
        "perm": [0, 1, 2, 3],
        "scale": 0.0,
        "zero_point": 0,
    }
    assert said["inputs"] == [port]


@pytest.mark.parametrize("build", BUILT)
def test_read_back(build):
    program = build()
    image = to_image(program)
    again = read_image(image)
    assert to_image(again) == image
    assert again.plan == program.plan
    assert list(again.tensors) == list(program.tensors)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 10), st.booleans())
def test_read_back_random_programs(seed, n_ops, learn):
    program = programs.random_program(np.random.default_rng(seed), n_ops, learn)
    image = to_image(program)
    assert to_image(read_image(image)) == image
    assert to_image(programs.random_program(np.random.default_rng(seed), n_ops, learn)) == image


def test_transpose_has_arrays_in_its_attributes():
    b = programs.Builder()
    x = b.input((3, 2))
    y = b._tensor("y", "f32", (2, 3))
    b._op("transpose", "t", [x], y, dims=[1, 1, 1, 1, 2, 3], strides=[0, 0, 0, 0, 1, 2], size=4)
    b.output(y)
    image = to_image(b.program)
    assert _sections(image)[3] == struct.pack("<13i", 1, 1, 1, 1, 2, 3, 0, 0, 0, 0, 1, 2, 4)
    assert read_image(image).ops[0].attrs == b.program.ops[0].attrs


def test_the_fingerprint_changes_with_weights_and_shapes_but_not_with_names():
    def fingerprint(program):
        return to_image(program)[16:24]

    original = fingerprint(programs.mlp())
    renamed, other, frozen = programs.mlp(), programs.mlp(), programs.mlp()
    renamed.name, renamed.labels, renamed.source = "someone", ["a"], "elsewhere.onnx"
    other.tensors["fc.weight"].data[0, 0] += 1e-3
    for name in ("hidden.weight", "hidden.bias"):
        frozen.tensors[name].trainable = False
    assert fingerprint(renamed) == original
    assert len({original, fingerprint(other), fingerprint(frozen), fingerprint(programs.head())}) == 4


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda image: b"", "not a model image"),
        (lambda image: b"\x7fELF" + image[4:], "not a model image"),
        (lambda image: image[:-1], "has"),
        (lambda image: image[:4] + b"\x09\x00" + image[6:], "format 9"),
        (lambda image: image[:100] + bytes([image[100] ^ 1]) + image[101:], "checksum"),
    ],
)
def test_damaged_images(damage, says):
    with pytest.raises(ImageError, match=says):
        read_image(damage(to_image(programs.head())))


# ---- Programs that cannot be written


def test_missing_and_unknown_attributes():
    program = programs.head()
    del program.ops[0].attrs["rows"]
    program.ops[0].attrs["axis"] = 1
    with pytest.raises(ValueError, match=r"fc.*rows.*axis"):
        to_image(program)


def test_an_attribute_that_does_not_fit():
    program = programs.head()
    program.ops[0].attrs["rows"] = 1 << 40
    with pytest.raises(ValueError, match="rows"):
        to_image(program)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(value):
    program = programs.head()
    program.tensors["fc.bias"].data[3] = value
    with pytest.raises(ValueError, match=r"fc\.bias"):
        to_image(program)


def test_values_of_another_type_than_the_tensor():
    program = programs.head()
    program.tensors["fc.bias"].data = program.tensors["fc.bias"].data.astype(np.float64)
    with pytest.raises(ValueError, match="float64"):
        to_image(program)


def test_a_plan_made_before_is_used():
    program = programs.head()
    plan(program).infer_offsets["x"] = 48
    assert struct.unpack_from("<I", _sections(to_image(program))[0], 8)[0] == 48
