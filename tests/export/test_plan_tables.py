"""What is known of each op, counted with loops; and what the plan and the tables refuse, one wrong program each."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeprop import runtime
from edgeprop._core import lib
from edgeprop.export.program import packing
from edgeprop.export.program import tables as module
from edgeprop.export.program.layers import table_bytes
from edgeprop.export.program.plan import infer_arena, plan, train_arena
from edgeprop.export.program.program import Program, State
from edgeprop.export.program.tables import tables
from edgeprop.export.program.traits import TRAITS
from tests.support import programs
from tests.support.compiler import CSRC

SIZES = {
    "in_h": 7, "in_w": 5, "in_c": 6, "out_h": 3, "out_w": 2, "out_c": 4, "kernel_h": 3, "kernel_w": 2, "groups": 2,
    "n_in": 7, "n_out": 3, "rows": 5, "batch": 2, "count": 11, "columns": 13, "outer": 3, "out": 5, "inner": 7,
    "taps": 2, "stored": 17, "sequences": 3, "directions": 2, "steps": 5, "n_hidden": 7, "channels": 4,
}  # fmt: skip


def counted(*names: str) -> int:
    """Turns of loops over these sizes."""
    return sum(1 for _ in itertools.product(*(range(SIZES[name]) for name in names)))


def conv() -> int:
    """Every output channel sees the input channels of its group."""
    per_group = SIZES["in_c"] // SIZES["groups"]
    return sum(per_group for _ in range(counted("out_h", "out_w", "out_c", "kernel_h", "kernel_w")))


def transposed() -> int:
    """Every input element goes to the output channels of its group."""
    per_group = SIZES["out_c"] // SIZES["groups"]
    return sum(per_group for _ in range(counted("in_h", "in_w", "in_c", "kernel_h", "kernel_w")))


def cell(gates: int) -> int:
    """Every gate sees the input and the state before."""
    seen = SIZES["n_in"] + SIZES["n_hidden"]
    return sum(gates * seen for _ in range(counted("sequences", "directions", "steps", "n_hidden")))


DENSE = counted("rows", "n_in", "n_out")
MATMUL = counted("batch", "rows", "count", "columns")
MACS: dict[str, int] = {
    **dict.fromkeys(("conv2d_f32", "depthwise_conv2d_f32", "conv2d_s8", "depthwise_conv2d_s8", "conv2d_zero_s8"), conv()),
    "dynamic_conv2d_f32": conv(), "conv_transpose2d_f32": transposed(),
    "dense_f32": DENSE, "dense_s8": DENSE, "dynamic_dense_f32": DENSE, "matmul_f32": MATMUL, "matmul_s8": MATMUL,
    "sparse_dense_f32": counted("rows", "stored"), "resample_f32": counted("outer", "out", "inner", "taps"),
    "rnn_f32": cell(1), "gru_f32": cell(3), "lstm_f32": cell(4),
}  # fmt: skip


@pytest.mark.parametrize("kind", TRAITS)
def test_macs(kind: str) -> None:
    """Multiply-accumulates; ops without weights and products have none."""
    assert TRAITS[kind].macs(SIZES) == MACS.get(kind, 0)


@pytest.mark.parametrize(("kind", "vectors"), [("rnn_f32", 3), ("gru_f32", 4), ("lstm_f32", 5)])
def test_scratch_of_cells(kind: str, vectors: int) -> None:
    """float32 vectors of the state's width; no other op has any."""
    assert TRAITS[kind].scratch(SIZES) == TRAITS[kind].backward_scratch(SIZES) == 4 * vectors * SIZES["n_hidden"]
    others = [row for other, row in TRAITS.items() if other not in ("rnn_f32", "gru_f32", "lstm_f32")]
    assert all(row.scratch(SIZES) == row.backward_scratch(SIZES) == 0 for row in others)


def test_what_the_backward_reads_of_a_clamp() -> None:
    """y where there is a limit on either side."""
    row = TRAITS["dense_f32"]
    for lo, hi, wanted in ((-np.inf, np.inf, False), (0.0, np.inf, True), (-np.inf, 6.0, True), (0.0, 6.0, True)):
        op = programs.head().ops[0]
        op.attrs |= {"lo": lo, "hi": hi}
        assert row.reads_y(op) == wanted


# ---- What is refused -------------------------------------------------------------------------------------------------

Change = Callable[[Program], Any]


def _lacks(program: Program) -> None:
    del program.ops[0].attrs["rows"]


def _unknown(program: Program) -> None:
    program.ops[0].attrs["axis"] = 1


def _logits_of_nobody(program: Program) -> None:
    program.logits = "x"


def _no_logits(program: Program) -> None:
    program.logits = None


def _int8_logits(program: Program) -> None:
    program.tensors[str(program.logits)].dtype = "i8"


def _output_of_nothing(program: Program) -> None:
    program.outputs[0].tensor = "fc.bias"


def _unknown_output(program: Program) -> None:
    program.outputs[0].tensor = "nobody"


def _twice(program: Program) -> None:
    program.ops.append(program.ops[0])


def _not_computed(program: Program) -> None:
    other = program.tensors["x"]
    program.tensors["alone"] = type(other)("alone", "f32", (3,))


def _no_outputs(program: Program) -> None:
    program.outputs = []


def _trains_another_input(program: Program) -> None:
    program.tensors["fc.weight"].dtype = "i8"


def _far_zero_point(program: Program) -> None:
    program.tensors["x"].zero_point = 1 << 15


def _far_negative_zero_point(program: Program) -> None:
    program.tensors["x"].zero_point = -(1 << 15) - 1


def _empty(program: Program) -> None:
    program.tensors["x"].shape = (0,)


def _few_values(program: Program) -> None:
    weight = program.tensors["fc.weight"]
    assert weight.data is not None
    weight.data = weight.data[:-1]


REFUSED: list[tuple[Change, str]] = [
    (_lacks, "lacks"),
    (_unknown, "does not know"),
    (_logits_of_nobody, "no op computes the logits"),
    (_no_logits, "no loss or no logits"),
    (_int8_logits, "the loss needs float32"),
    (_output_of_nothing, "no value that the program computes"),
    (_unknown_output, "no value that the program computes"),
    (_twice, "is there already"),
    (_not_computed, "nothing computes 'alone'"),
    (_no_outputs, "no ops, no inputs or no outputs"),
    (_trains_another_input, "cannot be trained"),
    (_far_zero_point, "zero point"),
    (_far_negative_zero_point, "zero point"),
    (_empty, "0 elements"),
    (_few_values, "but its values are"),
]


@pytest.mark.parametrize(("change", "says"), REFUSED, ids=lambda v: getattr(v, "__name__", None))
def test_refused(change: Change, says: str) -> None:
    program = programs.head()
    change(program)
    with pytest.raises(ValueError, match=says):
        tables(program)


@pytest.mark.parametrize("zero_point", [-(1 << 15), (1 << 15) - 1])
def test_zero_points_at_the_ends(zero_point: int) -> None:
    program = programs.head()
    program.tensors["x"].zero_point = zero_point
    assert tables(program).tensors[0].zero_point == zero_point


@pytest.mark.parametrize("batch", [0, -1])
def test_no_arena_for_no_sample(batch: int) -> None:
    with pytest.raises(ValueError, match=f"a batch of {batch} samples"):
        infer_arena(programs.head(), batch)
    assert infer_arena(programs.head(), 1) > 0


def test_no_arena_to_learn_without_weights() -> None:
    program = programs.head()
    for tensor in program.tensors.values():
        tensor.trainable = False
    with pytest.raises(ValueError, match="no trainable weights"):
        train_arena(program)


COUNTS = {
    "tensors": 0xFFFF, "nodes": 0xFFFF, "inputs": 0xFFFF, "outputs": 0xFFFF, "states": 0xFFFF, "data_bytes": 0x7FFFFFFF,
}  # fmt: skip


@pytest.mark.parametrize("what", COUNTS)
def test_counts(what: str) -> None:
    """As many as the runtime's structs can count pass, and one more does not."""
    rows = tables(programs.head())
    old = getattr(rows, what)
    for most, good in ((COUNTS[what], True), (COUNTS[what] + 1, False)):
        value = most if what == "data_bytes" else [*old, (0, 0)][:1] * most
        many = replace(rows, **{what: value})
        if good:
            module._check_counts(many)
        else:
            with pytest.raises(ValueError, match=f"{most:,} .*at most {COUNTS[what]:,}"):
                module._check_counts(many)


@pytest.mark.parametrize("what", ["infer_bytes", "train_bytes"])
def test_bytes_of_activations(what: str) -> None:
    rows = tables(programs.head())
    setattr(rows.plan, what, 0x7FFFFFFF)
    module._check_counts(rows)
    setattr(rows.plan, what, 0x80000000)
    with pytest.raises(ValueError, match="bytes of activations"):
        module._check_counts(rows)


def test_inputs_of_an_op() -> None:
    rows = tables(programs.head())
    rows.nodes[0].op.inputs[:] = ["x"] * 255
    module._check_counts(rows)
    rows.nodes[0].op.inputs.append("x")
    with pytest.raises(ValueError, match="256 inputs of an op"):
        module._check_counts(rows)


# ---- Rows ------------------------------------------------------------------------------------------------------------


def test_codes_of_weights_without_their_end_are_narrow() -> None:
    """-128 is what some kernels cannot take: the flag says that there is none."""
    for least, flags in ((-128, module.CONST), (-127, module.CONST | module.NARROW)):
        program = programs.autoencoder_int8()
        weight = next(t for t in program.tensors.values() if t.dtype == "i8" and t.data is not None)
        assert weight.data is not None
        weight.data = np.maximum(weight.data, -127)
        weight.data.reshape(-1)[0] = least
        row = next(r for r in tables(program).tensors if r.tensor is weight)
        assert row.flags == flags


def test_rows_point_at_what_they_name() -> None:
    """Places of data, 16 bytes apart at least; words and indices of ops one behind the other; offsets of the plan."""
    program = programs.residual()
    rows, names = tables(program), list(program.tensors)
    at = 0
    for row, tensor in zip(rows.tensors, program.tensors.values(), strict=True):
        assert (row.count, row.scale, row.zero_point) == (tensor.count, np.float32(tensor.scale), tensor.zero_point)
        if tensor.is_activation:
            assert (row.data_at, row.flags) == (module.NONE, 0)
            assert row.offset == rows.plan.infer_offsets.get(tensor.name, module.NONE)
        else:
            assert (row.data_at, row.data_at % 16) == (at, 0)
            assert row.offset == rows.plan.param_offsets.get(tensor.name, module.NONE)
            assert row.flags & module.PARAM == (module.PARAM if tensor.trainable else 0)
            at += -(-tensor.nbytes // 16) * 16
    assert rows.data_bytes == at
    for node, op in zip(rows.nodes, program.ops, strict=True):
        assert [names[i] for i in node.io] == [*op.inputs, *op.outputs]
        assert node.code == runtime.OPS[op.kind].code
        assert node.has_grad == any(name in rows.plan.grad_offsets for name in op.outputs)
        for field, value in op.attrs.items():
            np.testing.assert_array_equal(node.words[field], np.asarray(value, node.words[field].dtype))
    assert rows.train is not None
    assert names[rows.train.logits] == program.logits
    for name, place, gradient in zip(names, rows.train.offset, rows.train.grad_offset, strict=True):
        assert place == rows.plan.train_offsets.get(name, module.NONE)
        assert gradient == rows.plan.grad_offsets.get(name, module.NONE)


def test_states_come_first_in_both_plans() -> None:
    """Nothing else may lie where a state lies, in either plan."""
    b = programs.Builder()
    x, h = b.input((4,)), b._tensor("h", "f32", (4,))
    y = b.add(b.dense(x, 4, "fc", trainable=True), h, "sum")
    b.output(b.dense(y, 3, "head", trainable=True))
    b.learn("head_out", "mse")
    b.program.states.append(State("h", "h_next", "h", y))
    p = plan(b.program)
    for places, end in ((p.infer_offsets, p.infer_bytes), (p.train_offsets, p.train_bytes)):
        assert places["h"] == 0
        assert all(16 <= at < end for name, at in places.items() if name != "h")


#: by attribute struct: inputs over which every such op may write, since it reads an element before it writes its result
OVER = {"ep_elementwise_attr": (0,), "ep_unary_attr": (0,), "ep_binary_attr": (0, 1), "ep_softmax_attr": (0,),
        "ep_affine_attr": (0,), "ep_group_norm_attr": (0,)}  # fmt: skip


@pytest.mark.parametrize("kind", TRAITS)
def test_ops_that_need_no_memory_for_their_output(kind: str) -> None:
    """What works element by element, or row by row, writes over what it reads: a chain of such costs one buffer."""
    wanted = {"add_f32": (0, 1), "add_s8": (0, 1), "dequantize": ()}.get(kind, OVER.get(TRAITS[kind].attr, ()))
    assert TRAITS[kind].in_place == wanted


def test_structs_are_the_runtime_s() -> None:
    assert {kind: row.attr for kind, row in TRAITS.items()} == {k: info.struct for k, info in runtime.OPS.items()}


@pytest.mark.parametrize(
    ("kind", "kept", "outputs"), [("rnn_f32", 1, (0, 2)), ("gru_f32", 4, (0, 2)), ("lstm_f32", 5, (0, 3))]
)
def test_what_cells_keep(kind: str, kept: int, outputs: tuple[int, ...]) -> None:
    """The gates of each step, and of an LSTM the cell's state too, of a GRU what comes from the state for the new one; the
    states at the end are always written, the sequence and what is kept where somebody reads them."""
    assert TRAITS[kind].recurrent
    assert TRAITS[kind].kept == kept
    assert TRAITS[kind].optional_outputs == outputs


def test_what_is_no_cell_keeps_nothing() -> None:
    others = [row for kind, row in TRAITS.items() if kind not in ("rnn_f32", "gru_f32", "lstm_f32")]
    assert not any(row.recurrent or row.optional_outputs for row in others)


def test_flash_of_the_tables() -> None:
    """Of a 32-bit board, as its compiler has the structs; counted by hand for a dense layer that learns, and for one that
    does not."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    sizes = {"ep_tensor": 20, "ep_node": 20, "ep_model": 64, "ep_train": 28}
    text = '#include "edgeprop.h"\n' + "".join(
        f"char {n}_[sizeof({n}) == {size} ? 1 : -1];\n" for n, size in sizes.items()
    )
    command = ["gcc", "-m32", "-ffreestanding", "-std=c99", "-fsyntax-only", "-I", str(CSRC), "-x", "c", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if "unrecognized" in done.stderr:
        pytest.skip("gcc is for another processor")
    assert done.returncode == 0, done.stderr
    program = programs.head()
    tensors, io = len(program.tensors), sum(len(op.inputs) + len(op.outputs) for op in program.ops) + 2
    attributes = sum(rows.words.nbytes for rows in tables(program).nodes)
    fixed = 20 * tensors + 20 * len(program.ops) + 2 * io + attributes + 64 + len("head") + 1
    assert table_bytes(program) == fixed + 28 + 2 * 4 * tensors
    for tensor in program.tensors.values():
        tensor.trainable = False
    program.plan = None
    assert table_bytes(program) == fixed


def test_numbers_are_the_runtime_s() -> None:
    """Flags and types as the headers have them, and the alignment."""
    assert (module.CONST, module.PARAM, module.NARROW) == (lib.EP_CONST, lib.EP_PARAM, 4)
    assert module.DTYPE_CODES == {"f32": lib.EP_F32, "i8": lib.EP_I8, "i32": lib.EP_I32, "u8": lib.EP_U8}
    assert module.NONE == lib.EP_NONE
    assert packing.ALIGN == runtime.ALIGN == 16
