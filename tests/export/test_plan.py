"""The planner against a replay of every byte, against brute force, and against the sizes it has to meet."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprop.export.lower import lower
from edgeprop.export.program import plan as plans
from edgeprop.export.program.packing import Span, live_bound, pack
from edgeprop.export.program.plan import (
    infer_arena,
    live_bytes,
    lower_bounds,
    plan,
    restore_arena,
    sums_bytes,
    train_arena,
)
from edgeprop.export.program.program import Plan, Program
from edgeprop.export.program.traits import TRAITS, Traits
from tests.support import programs
from tests.support.graphs import model, node
from tests.support.replay import Clobbered, replay_inference, replay_training

BUILT = [programs.head, programs.mlp, programs.cnn, programs.residual]


@pytest.mark.parametrize("build", BUILT)
def test_replay_of_hand_built_programs(build):
    program = build()
    result = plan(program)
    assert program.plan is result
    replay_inference(program, result)
    replay_training(program, result)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 14), st.booleans())
def test_replay_of_random_programs(seed, n_ops, learn):
    program = programs.random_program(np.random.default_rng(seed), n_ops, learn)
    result = plan(program)
    replay_inference(program, result)
    if learn:
        replay_training(program, result)
    else:
        assert result.train_bytes == 0
        assert not result.grad_offsets


@pytest.mark.parametrize("offsets", ["infer_offsets", "train_offsets", "grad_offsets"])
def test_the_replay_notices_any_two_live_values_in_one_place(offsets):
    """Moving one value onto another that lives at the same time must be caught, or the replay proves nothing."""
    program = programs.residual()
    good = plan(program)
    found = 0
    table = getattr(good, offsets)
    for a, b in itertools.permutations(table, 2):
        if table[a] == table[b]:
            continue
        bad = Plan(**{**vars(good), offsets: {**table, a: table[b]}})
        found += _breaks(program, bad)
    assert found > len(table) * 2


@pytest.mark.parametrize(
    "row", ["dense_f32", "affine_f32", "tanh_f32", "sigmoid_f32", "leaky_relu_f32", "max_pool2d_f32"]
)
def test_the_replay_notices_a_wrong_row_of_the_table(row, monkeypatch):
    """Told that this op works in place and that no gradient reads x or y, the planner makes plans that break."""
    needs_nothing = Traits(TRAITS[row].attr, in_place=(0,), weights=TRAITS[row].weights)
    monkeypatch.setitem(TRAITS, row, needs_nothing)
    random = np.random.default_rng(0)
    tried = [build() for build in BUILT] + [programs.random_program(random, 8, True) for _ in range(150)]
    assert any(_breaks(program) for program in tried)


def _breaks(program: Program, result: Plan | None = None) -> bool:
    result = result or plan(program)
    try:
        replay_inference(program, result)
        replay_training(program, result)
    except Clobbered:
        return True
    return False


# ---- Packing


def _brute_force(blocks):
    """Least bytes over all orders, each block as low as it gets."""

    def first_fit(order):
        placed = []
        for block in order:
            for at in sorted([0, *(p + 16 * s.size for p, s in placed)]):
                meets = [(p, s) for p, s in placed if s.start <= block.end and block.start <= s.end]
                if all(at + 16 * block.size <= p or at >= p + 16 * s.size for p, s in meets):
                    placed.append((at, block))
                    break
        return max(p + 16 * s.size for p, s in placed)

    return min(first_fit(order) for order in itertools.permutations(blocks))


spans = st.builds(
    lambda start, length, size: Span(start, start + length, size),
    st.integers(0, 6),
    st.integers(0, 4),
    st.integers(1, 5),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(spans, min_size=1, max_size=6))
def test_small_packings_are_optimal(small):
    best = _brute_force(small)
    packing = pack([(Span(s.start, s.end, 16 * s.size),) for s in small])
    assert packing.bytes == best
    assert packing.optimal
    assert packing.bound <= packing.bytes


def test_packing_that_greedy_orders_miss():
    """A case where the bound cannot be met, and one where only an unusual order meets it."""
    sizes = [(0, 1, 2), (1, 2, 1), (2, 3, 2), (0, 0, 1), (3, 4, 1), (4, 5, 3), (5, 5, 1)]
    blocks = [(Span(a, b, 16 * size),) for a, b, size in sizes]
    packing = pack(blocks)
    assert packing.optimal
    assert packing.bytes >= live_bound(blocks)


def test_branch_and_bound_takes_no_more_than_it_may():
    """One block looked at, or none."""
    random = np.random.default_rng(1)
    for _ in range(1000):
        drawn = zip(random.integers(0, 16, 40), random.integers(0, 5, 40), random.integers(1, 6, 40), strict=True)
        blocks = [(Span(int(start), int(start + n), 16 * int(size)),) for start, n, size in drawn]
        if not pack(blocks, 0).optimal:
            break
    assert [pack(blocks, effort).effort for effort in (0, 1)] == [0, 1]


def test_what_branch_and_bound_takes_is_limited(monkeypatch):
    """Also where a graph is packed again and again without one of the blocks that share a place."""
    limit, taken = 20_000, []

    def counted(blocks, effort=limit):
        packing = pack(blocks, effort)
        taken.append(packing.effort)
        return packing

    monkeypatch.setattr(plans, "pack", counted)
    monkeypatch.setattr(plans, "EFFORT", limit)
    plan(lower(_steps_of_a_cell(5)))
    assert len(taken) > 5
    assert limit <= sum(taken) <= 2 * limit + 1000


def _steps_of_a_cell(steps: int) -> onnx.ModelProto:
    """An LSTM cell written out, step after step: many small values, whose least arena is not found soon."""
    nodes, h, c = [], "h0", "c0"
    for t in range(steps):
        n = lambda name, t=t: f"{name}.{t}"  # noqa: E731
        nodes += [
            node("Gather", ["x", f"t{t}"], [n("x")], axis=1),
            node("Gemm", [n("x"), "w"], [n("a")]),
            node("Gemm", [h, "r"], [n("b")]) if t else node("Mul", [n("a"), "one"], [n("b")]),
            node("Add", [n("a"), n("b")], [n("g")]),
            node("Split", [n("g")], [n("i"), n("f"), n("k"), n("o")], axis=1),
            *(node("Sigmoid", [n(gate)], [n(f"{gate}s")]) for gate in "ifo"),
            node("Tanh", [n("k")], [n("kt")]),
            node("Mul", [n("is"), n("kt")], [n("m")]),
            node("Mul", [n("fs"), c if t else n("is")], [n("old")]),
            node("Add", [n("old"), n("m")], [n("c")]),
            node("Tanh", [n("c")], [n("ct")]),
            node("Mul", [n("os"), n("ct")], [n("h")]),
        ]
        h, c = n("h"), n("c")
    nodes.append(node("Gemm", [h, "head"], ["y"]))
    random = np.random.default_rng(0)
    shapes = {"w": (3, 32), "r": (8, 32), "head": (8, 2), "one": ()}
    constants = {name: np.asarray(random.standard_normal(shape), np.float32) for name, shape in shapes.items()}
    constants |= {f"t{t}": np.array(t) for t in range(steps)}
    return model(nodes, {"x": ["N", steps, 3]}, ["y"], constants)


def test_nothing_to_pack():
    assert pack([]).bytes == 0


def test_the_same_program_gets_the_same_plan():
    random = programs.random_program(np.random.default_rng(5), 14, True)
    again = programs.random_program(np.random.default_rng(5), 14, True)
    assert plan(random) == plan(again)


# ---- Sizes


@pytest.mark.parametrize(
    ("build", "goal"),
    [
        (programs.autoencoder_int8, 768),
        (programs.ds_cnn_int8, 16_000),
        (programs.resnet8_int8, 49_152),
        (programs.vww_int8, 55_296),
    ],
)
def test_inference_arenas_meet_the_live_bound(build, goal):
    program = build()
    assert infer_arena(program) <= goal
    assert lower_bounds(program)[0] == program.plan.infer_bytes == max(live_bytes(program))


def test_bytes_that_live_while_each_op_runs():
    """Input and output of each dense layer, rounded up to 16; the Softmax works in place."""
    assert live_bytes(programs.mlp()) == [256 + 128, 128 + 48, 48]


def test_training_arenas_fit_the_budget():
    assert train_arena(programs.head()) <= 3072
    assert train_arena(programs.mlp()) <= 10_752


def test_arena_sizes_follow_the_layout_in_the_header():
    program = programs.head()
    p = plan(program)
    assert p.param_bytes == 2600
    assert (p.infer_bytes, p.train_bytes, p.scratch_bytes, p.train_scratch_bytes) == (304, 304, 0, 0)
    assert infer_arena(program) == 304
    assert infer_arena(program, batch=8) == 8 * 304
    assert restore_arena(program) == 2608 + 304
    assert train_arena(program) == 2608 + 304
    assert train_arena(program, optimizer="momentum") == 2608 + 304 + 2608
    assert train_arena(program, 4, "adam", sums=True) == 2608 + 4 * 304 + 2608 + 2 * 2608
    assert sums_bytes(program) == 2608


# ---- What training keeps


def _trained(program: Program, *layers: str) -> Program:
    for tensor in program.tensors.values():
        tensor.trainable = tensor.name.rpartition(".")[0] in layers
    plan(program)
    return program


def test_frozen_layers_in_front_cost_nothing():
    program = _trained(programs.residual(), "fc")
    p = program.plan
    assert p.train_bytes == p.infer_bytes
    assert set(p.grad_offsets) == {program.logits}
    assert (p.first_op, p.end_op) == (len(program.ops) - 2, len(program.ops) - 1)


def test_gradients_only_between_trainable_weights_and_logits():
    p = plan(programs.residual())
    assert "x" not in p.grad_offsets
    assert "stem_out" not in p.grad_offsets
    assert {"a_out", "b_out", "norm_out", "sum_out", "fc_out"} <= set(p.grad_offsets)
    assert "softmax_out" not in p.train_offsets
    assert p.first_op == 1


def test_the_second_writer_of_a_gradient_adds():
    program = programs.residual()
    p = plan(program)
    names = {program.ops[i].name: mask for i, mask in p.accumulate.items()}
    assert names == {"b": 1}  # the Add writes a's gradient first, the depthwise convolution adds to it


def test_both_inputs_of_an_add_the_same():
    b = programs.Builder()
    x = b.dense(b.input((4,)), 4, "fc", trainable=True)
    y = b.add(x, x, "twice")
    b.output(y)
    b.learn(y, "mse")
    p = plan(b.program)
    assert p.accumulate == {1: 0b10}
    assert p.grad_offsets[x] != p.grad_offsets[y]
    replay_training(b.program, p)


def test_a_bias_alone_keeps_no_activation():
    program = programs.mlp()
    full = plan(program).train_bytes
    for tensor in program.tensors.values():
        tensor.trainable = tensor.name.endswith("bias")
    assert plan(program).train_bytes < full
    replay_training(program, program.plan)


def test_logits_in_place():
    p = plan(programs.head())
    assert p.grad_offsets["fc_out"] == p.train_offsets["fc_out"]


def test_parameters_are_packed_in_tensor_order():
    program = programs.residual()
    p = plan(program)
    at = 0
    for tensor in program.trainable():
        assert p.param_offsets[tensor.name] == at
        at += tensor.nbytes
    assert p.param_bytes == at


# ---- What cannot be planned


def test_no_loss():
    program = programs.head()
    program.loss = None
    with pytest.raises(ValueError, match="no loss"):
        plan(program)


def test_unknown_loss():
    program = programs.head()
    program.loss = "guesswork"
    with pytest.raises(ValueError, match="guesswork"):
        plan(program)


def test_a_weight_behind_the_logits():
    b = programs.Builder()
    logits = b.dense(b.input((4,)), 4, "fc", trainable=True)
    b.output(b.dense(logits, 4, "behind", trainable=True))
    b.learn(logits, "mse")
    with pytest.raises(ValueError, match="behind"):
        plan(b.program)


def test_a_weight_of_two_layers():
    b = programs.Builder()
    x = b.dense(b.input((4,)), 4, "a", trainable=True)
    y = b.dense(x, 4, "b", trainable=True)
    b.output(y)
    b.learn(y, "mse")
    b.program.ops[1].inputs[1] = "a.weight"
    del b.program.tensors["b.weight"]
    with pytest.raises(ValueError, match="both 'b' and 'a'"):
        plan(b.program)


def test_no_backward_on_the_way():
    b = programs.Builder()
    x = b.dense(b.input((4,)), 4, "fc", trainable=True)
    y = b.dequantize(b.quantize(x, "q"), "dq")
    b.output(y)
    b.learn(y, "mse")
    with pytest.raises(ValueError, match="no backward"):
        plan(b.program)


def test_ops_out_of_order():
    program = programs.mlp()
    program.ops.reverse()
    with pytest.raises(ValueError, match="before"):
        plan(program)


def test_unknown_op():
    program = programs.mlp()
    program.ops[0].kind = "convolve"
    with pytest.raises(ValueError, match="convolve"):
        plan(program)


def test_unknown_optimizer():
    with pytest.raises(ValueError, match="adagrad"):
        train_arena(programs.head(), optimizer="adagrad")
