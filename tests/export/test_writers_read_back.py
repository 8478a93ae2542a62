"""The header read back as text, by nothing that wrote it: every constant, every row and every size is the program's."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from edgeprop.export.program.plan import infer_arena, restore_arena, sums_bytes, train_arena
from edgeprop.export.program.program import Program
from edgeprop.export.program.tables import NONE, tables
from edgeprop.export.writers.header import to_header
from tests.export.test_header import everything
from tests.export.test_plan_nets import built
from tests.support import programs

Array = np.ndarray[Any, np.dtype[Any]]
C_TYPES = {"float": np.float32, "int8_t": np.int8, "int32_t": np.int32, "uint8_t": np.uint8}
DTYPES = {"EP_F32": "f32", "EP_S8": "i8", "EP_I8": "i8", "EP_I32": "i32", "EP_U8": "u8"}

BUILDS = {
    "head": programs.head,
    "cnn": programs.cnn,
    "residual": programs.residual,
    "autoencoder_int8": programs.autoencoder_int8,
    "everything": everything,
    "wide rows": lambda: built("wide rows"),
    "frozen lstm": lambda: built("frozen lstm"),
    "wide group norm": lambda: built("wide group norm"),
}


def numbers(text: str, dtype: Any) -> Array:
    """Values of an initializer, as a C compiler reads them."""
    items = [item.strip() for item in text.replace("\n", " ").split(",") if item.strip()]
    if np.dtype(dtype) == np.float32:
        return np.array(
            [float(item.removesuffix("f").replace("INFINITY", "inf")) for item in items], np.float64
        ).astype(np.float32)
    assert all(np.iinfo(dtype).min <= int(item) <= np.iinfo(dtype).max for item in items)
    return np.array([int(item) for item in items], dtype)


class Read:
    """A header in pieces."""

    def __init__(self, program: Program) -> None:
        self.text = to_header(program)
        self.code = re.sub(r"/\*.*?\*/", "", self.text, flags=re.S)

    def block(self, pattern: str) -> str:
        """What stands between the braces of a definition."""
        match = re.search(pattern + r"(?:\[\d+\])? = \{\n(.*?)\n\};", self.code, re.S)
        assert match, pattern
        return match[1]

    def structs(self, what: str) -> list[dict[str, str]]:
        """Rows of a table: fields and their texts."""
        return [
            dict(re.findall(r"\.(\w+) = ([^,}]+)", row)) for row in re.findall(r"\{(\..*?)\}", self.block(what), re.S)
        ]

    def macros(self) -> dict[str, str]:
        return dict(
            re.findall(r"^#define \w+?_((?:INPUT|OUTPUT|INFER|RESTORE|TRAIN|SUMS|PARAM)\w*) (\S+)$", self.text, re.M)
        )


@pytest.mark.parametrize("name", BUILDS)
def test_every_constant_is_there(name: str) -> None:
    """Bit for bit, under the symbol that its row names, and with the range that its comment tells."""
    program = BUILDS[name]()
    read = Read(program)
    arrays = {
        symbol: (kind, int(count), body)
        for kind, symbol, count, body in re.findall(
            r"static EP_ALIGNED const (\w+) (\w+)\[(\d+)\] = \{\n(.*?)\n\};", read.code, re.S
        )
    }
    rows = read.structs(r"ep_tensor \w+_tensors")
    constants = 0
    for row, tensor in zip(rows, program.tensors.values(), strict=True):
        assert ("data" in row) == (tensor.data is not None)
        if tensor.data is None:
            continue
        kind, count, body = arrays[row["data"]]
        found = numbers(body, C_TYPES[kind])
        assert count == len(found) == tensor.count
        assert found.tobytes() == np.ascontiguousarray(tensor.data).astype(C_TYPES[kind]).tobytes()
        told = re.search(
            r"; (\S+) \.\. (\S+?)(; learns)? \*/\nstatic EP_ALIGNED const \w+ " + row["data"] + r"\[", read.text
        )
        assert told
        wanted = [f"{v:.4g}" if tensor.dtype == "f32" else str(v) for v in (tensor.data.min(), tensor.data.max())]
        assert [told[1], told[2]] == wanted
        assert bool(told[3]) == tensor.trainable
        constants += 1
    assert constants == len(arrays) > 0


@pytest.mark.parametrize("name", BUILDS)
def test_every_row_of_the_tensors(name: str) -> None:
    program = BUILDS[name]()
    read, known = Read(program), tables(program)
    for row, wanted, tensor in zip(
        read.structs(r"ep_tensor \w+_tensors"), known.tensors, program.tensors.values(), strict=True
    ):
        assert int(row["count"]) == tensor.count
        assert row["offset"].strip() == ("EP_NONE" if wanted.offset == NONE else str(wanted.offset))
        assert np.float32(float(row.get("scale", "0").removesuffix("f"))) == np.float32(tensor.scale)
        assert int(row.get("zero_point", "0")) == (tensor.zero_point if tensor.scale else 0)
        assert DTYPES[row["dtype"]] == tensor.dtype
        learns, constant = "EP_PARAM" in row.get("flags", ""), "EP_CONST" in row.get("flags", "")
        assert (learns, constant) == (tensor.trainable, tensor.data is not None and not tensor.trainable)


@pytest.mark.parametrize("name", BUILDS)
def test_every_node(name: str) -> None:
    """What it runs on, how often it adds up, and its attributes."""
    program = BUILDS[name]()
    read, known, names = Read(program), tables(program), list(program.tensors)
    io = [int(item) for item in read.block(r"uint16_t \w+_io").replace("\n", " ").split(",") if item.strip()]
    for row, op, wanted in zip(read.structs(r"ep_node \w+_nodes"), program.ops, known.nodes, strict=True):
        assert row["op"] == f"&ep_{op.kind}"
        assert ("grad" in row) == any(n in known.plan.grad_offsets for n in op.outputs)
        at, n_in, n_out = int(row["io"].split("+")[1]), int(row["n_in"]), int(row["n_out"])
        assert [names[i] for i in io[at : at + n_in]] == op.inputs
        assert [names[i] for i in io[at + n_in : at + n_in + n_out]] == op.outputs
        assert int(row.get("accumulate", "0")) == wanted.accumulate
        fields = dict(re.findall(r"\.(\w+) = (\{[^}]*\}|[^,]+)", read.block(rf"ep_\w+_attr {row['attr'][1:]}")))
        assert set(fields) == set(op.attrs)
        for field, text in fields.items():
            kind = wanted.words[field].dtype
            values = numbers(text.strip("{}"), np.float32 if kind.kind == "f" else np.int32)
            np.testing.assert_array_equal(values, np.atleast_1d(np.asarray(op.attrs[field], kind)))


@pytest.mark.parametrize("name", BUILDS)
def test_every_size(name: str) -> None:
    """Of arenas, of inputs and outputs, of the plan; places while learning; the fingerprint of the image."""
    program = BUILDS[name]()
    read, known, macros = Read(program), tables(program), Read(program).macros()
    assert macros["INFER_ARENA"] == f"{infer_arena(program)}u"
    learns = bool(program.trainable())
    assert ("TRAIN_ARENA" in macros) == learns
    if learns:
        assert macros["RESTORE_ARENA"] == f"{restore_arena(program)}u"
        assert macros["TRAIN_ARENA"] == f"{train_arena(program)}u"
        assert macros["TRAIN_ARENA_MOMENTUM"] == f"{train_arena(program, optimizer='momentum')}u"
        assert macros["TRAIN_ARENA_ADAM"] == f"{train_arena(program, optimizer='adam')}u"
        assert macros["SUMS_BYTES"] == f"{sums_bytes(program)}u"
        assert macros["PARAM_COUNT"] == f"{sum(t.count for t in program.trainable())}u"
        for part in ("train_offset", "grad_offset"):
            found = [item.strip() for item in read.block(rf"uint32_t \w+_{part}").replace("\n", " ").split(",")]
            offsets = getattr(known.plan, f"{part}s")
            assert found == [str(offsets.get(n, "EP_NONE")) for n in program.tensors]
    for what, ports in (("INPUT", program.inputs), ("OUTPUT", program.outputs)):
        for i, port in enumerate(ports):
            tensor, prefix = program.tensors[port.tensor], what + (f"_{i}" if len(ports) > 1 else "")
            assert macros[f"{prefix}_COUNT"] == f"{tensor.count}u"
            assert (f"{prefix}_SCALE" in macros) == bool(tensor.scale)
            if tensor.scale:
                assert np.float32(float(macros[f"{prefix}_SCALE"].removesuffix("f"))) == np.float32(tensor.scale)
                assert int(macros[f"{prefix}_ZERO_POINT"].strip("()")) == tensor.zero_point
    model = dict(re.findall(r"\.(\w+) = (\{[^}]*\}|[^,]+),", read.block(r"\nconst ep_model \w+")))
    names = list(program.tensors)
    sizes = {"n_tensors": len(names), "n_nodes": len(program.ops), "n_inputs": len(program.inputs)}
    sizes |= {"n_outputs": len(program.outputs), "infer_bytes": known.plan.infer_bytes}
    sizes |= {"scratch_bytes": known.plan.scratch_bytes, "param_bytes": known.plan.param_bytes}
    assert {key: int(model[key]) for key in sizes} == sizes
    one, other = (int(v.strip().rstrip("u"), 16) for v in model["fingerprint"].strip("{}").split(","))
    assert (one, other) == known.fingerprint()


@pytest.mark.parametrize("name", ["cnn", "residual", "everything"])
def test_the_first_screen_counts_right(name: str) -> None:
    """Its total is the sum of its rows, and what learns is told of what learns alone."""
    program = BUILDS[name]()
    screen = to_header(program).partition("#ifndef")[0]
    table = [line[3:].rstrip() for line in screen.splitlines()]
    first = next(i for i, line in enumerate(table) if line.startswith("layer "))
    last = next(i for i, line in enumerate(table) if line.startswith("total "))
    rows = [re.split(r"\s{2,}", line) for line in table[first + 1 : last + 1]]

    def count(text: str) -> int:
        return int(text.replace(",", ""))

    total = rows.pop()
    tables_row = rows.pop()
    assert count(total[-2]) == count(tables_row[-1]) + sum(count(row[-2]) for row in rows)
    assert count(total[-1]) == sum(count(row[-1]) for row in rows)
    learned = sum(count(row[3]) for row in rows if len(row) == 6)
    assert learned == sum(t.count for t in program.trainable())
    assert f"Learns  {learned:,} weights, by {program.loss}" in screen
