"""Images that claim too much: places that are missing, shapes at the limits of the checks, products that wrap. Each is
refused, or runs and learns without a sanitizer's report; what must be refused is."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import pytest

from edgeprop import export, runtime
from edgeprop import trainer as t
from edgeprop._core import ffi, lib
from edgeprop.export.writers.image import to_image
from tests.runtime import test_hostile
from tests.support import compiler, op_images
from tests.support.compiler import SANITIZE
from tests.support.parts import CONST, F32, I8, I32, NARROW, NONE, OK, REFUSED, U8, Parts, pack, rounded, take_apart

MAX, MIN, WINDOW = 2**31 - 1, -(2**31), 1 << 28
OPS = list(runtime.OPS)
LEARNING = [name for name in OPS if runtime.OPS[name].has_grad]
#: outputs that an op can do without
OPTIONAL = {"rnn_f32": (0, 2), "gru_f32": (0, 2), "lstm_f32": (0, 3)}
pytestmark = pytest.mark.xdist_group("hostile images")


def judged(cc: str, folder: Path, images: list[bytes]) -> list[int]:
    """What ep_load() says of each image; those it takes run and learn under sanitizers."""
    compiler.require(cc, *SANITIZE)
    output = compiler.scratch() / f"hostile-{cc.replace(' ', '')}"
    if not output.exists():
        source = test_hostile.PROGRAMS / "hostile.c"
        compiler.program(source, output, "-D_POSIX_C_SOURCE=200809L", cc=cc, build=SANITIZE)
    path = folder / "pack"
    path.write_bytes(pack(images))
    done = subprocess.run([output, path], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"image {lines[-1]}: {done.stderr[-3000:]}"
    assert len(lines) == len(images)
    return [int(line.split()[1]) for line in lines]


#: pointers of 64 bits, and of 32, on which sums of sizes wrap
both_widths = pytest.mark.parametrize("cc", ["gcc", "gcc -m32 -msse2 -mfpmath=sse"])


# ---- Every op, one thing wrong at a time -----------------------------------------------------------------------------


def test_every_op_has_a_row() -> None:
    assert set(op_images.ROWS) == set(OPS)


#: (struct, field): numbers that may be anything, as INT32_MAX and INT32_MIN
FREE = {
    ("ep_pool2d_attr", "count_include_pad"): "any for float32 means yes",
    ("ep_matmul_attr", "transposed"): "any for float32 means yes",
    ("ep_group_norm_attr", "center"): "any means yes",
    ("ep_recurrent_attr", "truncate"): "no step is so far",
}
CHECKED_FOR_CODES = {"average_pool2d_s8", "matmul_s8"}


def wrong_words(kind: str) -> Iterator[tuple[str, Parts]]:
    """Each integer of the attributes replaced by what cannot be."""
    for name, word in runtime.OPS[kind].attr:
        if not word.endswith("i4") or ((runtime.OPS[kind].struct, name) in FREE and kind not in CHECKED_FOR_CODES):
            continue
        for value in (MAX, MIN):
            for k in range(6 if word.startswith("6") else 1):
                parts = op_images.single(kind)
                old = parts.nodes[0].attr[name]
                parts.nodes[0].attr[name] = (*old[:k], value, *old[k + 1 :]) if word.startswith("6") else value
                yield f"{name}[{k}]={value}", parts


def wrong_operands(kind: str) -> Iterator[tuple[str, Parts]]:
    """Each operand one element short, of another type, or without a place."""
    for position, index in enumerate(op_images.single(kind).nodes[0].io):
        parts = op_images.single(kind)
        parts.tensors[index].count -= 1
        if parts.tensors[index].count:
            yield f"operand {position} short", parts
        for dtype in (F32, I8, I32, U8):
            parts = op_images.single(kind)
            tensor = parts.tensors[index]
            either = (
                kind in ("lut_s8", "quantize", "dequantize") and tensor.flags == 0 and {I8, U8} == {dtype, tensor.dtype}
            )
            if dtype == tensor.dtype or either:
                continue
            tensor.dtype = dtype
            yield f"operand {position} of type {dtype}", parts
        parts = op_images.single(kind)
        if parts.tensors[index].flags == 0 and position - parts.nodes[0].n_in not in OPTIONAL.get(kind, ()):
            parts.tensors[index].offset = NONE
            parts.fit()
            yield f"operand {position} without a place", parts


@both_widths
def test_every_refusal_of_every_op(cc: str, tmp_path: Path) -> None:
    good = [op_images.single(kind) for kind in OPS] + [op_images.learning(kind) for kind in LEARNING]
    bad = [(kind, what, parts) for kind in OPS for what, parts in [*wrong_words(kind), *wrong_operands(kind)]]
    results = judged(cc, tmp_path, [parts.emit() for parts in good] + [parts.emit() for _, _, parts in bad])
    names = [*OPS, *(f"{kind}, learning" for kind in LEARNING)]
    assert [name for name, rc in zip(names, results, strict=False) if rc != OK] == []
    accepted = [row[:2] for row, rc in zip(bad, results[len(good) :], strict=True) if rc == OK]
    assert accepted == []
    assert len(bad) > 1500


@both_widths
def test_optional_outputs_may_be_left_out(cc: str, tmp_path: Path) -> None:
    """Where nobody reads them: y and kept of recurrent cells."""
    free, read, others = [], [], []
    for kind, optional in OPTIONAL.items():
        for position in range(len(op_images.operands(kind)[1])):
            parts = op_images.single(kind)
            outputs = parts.nodes[0].io[parts.nodes[0].n_in :]
            parts.tensors[outputs[position]].offset = NONE
            parts.fit()
            parts.outputs = [outputs[position]]
            read.append(deepcopy(parts).emit())
            parts.outputs = [outputs[1 if position != 1 else 0]]
            (free if position in optional else others).append(parts.emit())
    results = judged(cc, tmp_path, free + read + others)
    assert results == [OK] * len(free) + [REFUSED] * (len(read) + len(others))


# ---- Places taken away -----------------------------------------------------------------------------------------------


def taken_away(base: Parts, kind: str, index: int) -> Parts:
    parts = deepcopy(base)
    if kind == "value":
        parts.tensors[index].offset = NONE
    elif kind == "value while learning":
        parts.offsets[index] = NONE
    elif kind == "gradient":
        parts.gradients[index] = NONE
    else:
        parts.logits = index
    parts.fit()
    return parts


def places(base: Parts) -> list[tuple[str, int]]:
    kinds = ["value"]
    if base.sizes["loss"]:
        kinds += ["value while learning", "gradient", "logits"]
    return [(kind, index) for kind in kinds for index in base.activations()]


def nets() -> dict[str, Parts]:
    whole = {make.__name__: take_apart(make()) for make in (test_hostile.mlp, test_hostile.conv, test_hostile.int8)}
    whole |= {f"{kind}, learning": op_images.learning(kind) for kind in LEARNING}
    return whole | {kind: op_images.single(kind) for kind in OPS}


def unread(parts: Parts, index: int) -> bool:
    """True if `index` is an output that its op can do without."""
    return any(
        index in node.io[node.n_in :] and node.io[node.n_in :].index(index) in OPTIONAL.get(node.kind, ())
        for node in parts.nodes
    )


@both_widths
def test_places_taken_away(cc: str, tmp_path: Path) -> None:
    """One by one, of values and of gradients, in both plans; then several at a time."""
    dice = random.Random(0)
    images, must = [], []
    for base in nets().values():
        rows = places(base)
        assert take_apart(base.emit()).emit() == base.emit()
        for kind, index in rows:
            images.append(taken_away(base, kind, index).emit())
            must.append(kind == "value" and not unread(base, index))
        for _ in range(30):
            parts = base
            for kind, index in dice.sample(rows, min(len(rows), dice.randint(2, 4))):
                parts = taken_away(parts, kind, index)
            images.append(parts.emit())
            must.append(False)
    results = judged(cc, tmp_path, images)
    assert set(results) <= {OK, REFUSED}
    assert [i for i, (rc, needed) in enumerate(zip(results, must, strict=True)) if needed and rc != REFUSED] == []
    assert results.count(REFUSED) > len(results) // 2


# ---- What an image claims --------------------------------------------------------------------------------------------


def dense() -> Parts:
    return op_images.learning("dense_f32")


def _more(name: str, by: int) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts.sizes[name] += by

    return change


def _nine_inputs(parts: Parts) -> None:
    node = parts.nodes[-1]
    node.io = node.io[:1] * 7 + node.io
    node.n_in += 7


def _nine_outputs(parts: Parts) -> None:
    node = parts.nodes[-1]
    node.io += [node.io[-1]] * 8


def _shared_weights(parts: Parts) -> None:
    for tensor in parts.tensors:
        tensor.place = tensor.place if tensor.flags == 0 else 0
    parts.data = parts.data[: max(rounded(t.nbytes) for t in parts.tensors if t.flags)]


def _other_count_of_logits(parts: Parts) -> None:
    parts.outputs = [parts.nodes[0].io[-1]]


def _logits_without_place(parts: Parts) -> None:
    parts.offsets[parts.logits] = NONE


def _logits_of_nobody(parts: Parts) -> None:
    parts.logits = parts.inputs[0]


def _huge_value(parts: Parts) -> None:
    parts.tensors.append(deepcopy(parts.tensors[parts.inputs[0]]))
    parts.tensors[-1].count, parts.tensors[-1].offset = 1 << 29, NONE
    parts.offsets.append(NONE)
    parts.gradients.append(NONE)


CLAIMS: dict[str, Callable[[Parts], None]] = {
    "more to infer than lies there": _more("infer_bytes", 16),
    "2 GiB to infer": _more("infer_bytes", 2**31 - 4096),
    "more to learn than lies there": _more("train_bytes", 16),
    "more scratch than an op could want": _more("scratch_bytes", 1 << 20),
    "the same while learning": _more("train_scratch_bytes", 1 << 20),
    "more weights than there are": _more("param_bytes", 4),
    "nine inputs": _nine_inputs,
    "nine outputs": _nine_outputs,
    "weights that share their data": _shared_weights,
    "logits of another size than any output": _other_count_of_logits,
    "logits without a place": _logits_without_place,
    "logits that no node gives": _logits_of_nobody,
    "a value larger than an arena": _huge_value,
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_claims_are_refused(claim: str) -> None:
    parts = dense()
    assert runtime.load_error(parts.emit()) is None
    CLAIMS[claim](parts)
    assert runtime.load_error(parts.emit()) == "EP_ERR_IMAGE"


#: words of a header by their place; the rest of a model is not there, and nothing looks for it yet
WORDS = {"bytes": 8, "tensors": 24, "nodes": 28, "io": 32, "words": 36, "inputs": 40, "outputs": 44, "data": 60, "loss": 64,
         "name": 84, "meta": 88, "states": 92}  # fmt: skip


def claimed(**words: int) -> int:
    """What the first look at a header of these counts says: memory for the tables, or an error."""
    known = {"tensors": 1, "nodes": 1, "io": 200_002, "inputs": 1, "outputs": 1, "bytes": 1 << 24} | words
    header = bytearray(96)
    header[:8] = struct.pack("<4sHH", b"EPM1", 1, runtime.ABI)
    for name, value in known.items():
        struct.pack_into("<I", header, WORDS[name], value)
    return int(lib.ep_load_size(ffi.from_buffer(header), len(header)))


#: the least and the most that a header may claim of each
COUNTS = {
    "tensors": (0, 0xFFFF),
    "nodes": (0, 0xFFFF),
    "inputs": (1, 0xFFFF),
    "outputs": (1, 0xFFFF),
    "states": (0, 0xFFFF),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_of_a_header(name: str) -> None:
    least, most = COUNTS[name]
    for value in (least, least + 1, most):
        assert claimed(**{name: value}) >= 0
    for value in {most + 1, 0xFFFFFFFF} | ({least - 1} if least else set()):
        assert claimed(**{name: value}) == lib.EP_ERR_IMAGE


def test_inputs_outputs_and_states_lie_in_the_list_of_indices() -> None:
    """Two for each state, one for each input and output; none may be missing."""
    for inputs, outputs, states in ((1, 1, 0), (3, 2, 0), (1, 4, 5), (0xFFFF, 0xFFFF, 0xFFFF)):
        ends = {"inputs": inputs, "outputs": outputs, "states": states}
        exact = inputs + outputs + 2 * states
        assert claimed(io=exact, **ends) >= 0
        assert claimed(io=exact - 1, **ends) == lib.EP_ERR_IMAGE


def test_sections_end_where_the_image_does() -> None:
    """Each is rounded up to 16 bytes, and a byte less than all of them is too little."""
    counts = {"tensors": 3, "nodes": 2, "io": 7, "words": 5, "data": 40, "name": 3, "meta": 16}
    for loss in (0, 1):
        sizes = [24 * 3, 20 * 2, 2 * 7, 4 * 5, 8 * 3 * loss, 40, 3]
        end = 96 + sum(-(-size // 16) * 16 for size in sizes) + 16
        assert claimed(bytes=end, loss=loss, **counts) >= 0
        assert claimed(bytes=end - 1, loss=loss, **counts) == lib.EP_ERR_IMAGE


def test_narrow_weights_are_narrow() -> None:
    parts = op_images.single("dense_s8")
    weight = parts.tensors[parts.nodes[0].io[1]]
    weight.flags = CONST | NARROW
    assert runtime.load_error(parts.emit()) is None
    data = bytearray(parts.data)
    data[weight.place + weight.count - 1] = 0x80
    parts.data = bytes(data)
    assert runtime.load_error(parts.emit()) == "EP_ERR_IMAGE"


@pytest.mark.parametrize(("nodes", "error"), [(40, None), (4000, "EP_ERR_IMAGE")])
def test_loading_takes_time_in_proportion_to_size(nodes: int, error: str | None) -> None:
    """Nodes may share an index; thousands of them that share a long one, which each check looks through, may not."""
    length = 20_000
    parts = op_images.single("gather", (1, 1, length, 1, 4), [1, length, length])
    node, output = parts.nodes[0], parts.tensors[parts.outputs[0]]
    for _ in range(nodes - 1):
        parts.tensors.append(deepcopy(output))
        parts.nodes.append(deepcopy(node))
        parts.nodes[-1].io[-1] = len(parts.tensors) - 1
    assert runtime.load_error(parts.emit()) == error


@pytest.mark.parametrize(("nodes", "error"), [(100, None), (200, "EP_ERR_IMAGE")])
def test_all_constants_that_a_check_looks_through_count(nodes: int, error: str | None) -> None:
    """Of a sparse layer where its rows begin, and the columns: either alone would be within what is allowed."""
    length = 20_000
    values = (1, length, 1, length, -op_images.INF, op_images.INF)
    parts = op_images.single("sparse_dense_f32", values, [1, length, length, length + 1, 2 * length, length])
    node, output = parts.nodes[0], parts.tensors[parts.outputs[0]]
    for _ in range(nodes - 1):
        parts.tensors.append(deepcopy(output))
        parts.nodes.append(deepcopy(node))
        parts.nodes[-1].io[-1] = len(parts.tensors) - 1
    assert runtime.load_error(parts.emit()) == error


# ---- Windows at the limits of the checks -----------------------------------------------------------------------------

WINDOWED = [name for name in OPS if "conv" in name or "pool2d" in name]


def axis(dice: random.Random) -> dict[str, int]:
    """Sizes of one axis, near the limits, or likely."""
    out, size, kernel = dice.choice((1, 1, 2, 3, 5, 16)), dice.choice((1, 1, 2, 3, 4, 9)), dice.choice((1, 1, 2, 3, 7))
    far = (1, 1, 2, 3, 4096, 65536, WINDOW, WINDOW - 1, WINDOW // out, WINDOW // kernel, 1 << dice.randint(0, 30), MAX)
    pads = (0, 0, 1, 2, 5, 4095, WINDOW, 1 << dice.randint(0, 30))
    tame = dice.random() < 0.7
    return {
        "in": size,
        "out": out,
        "kernel": kernel,
        "stride": dice.choice(far[:4] if tame else far),
        "dilation": dice.choice(far[:4] if tame else far),
        "pad": dice.choice(pads[:4] if tame else pads),
    }


def windowed(kind: str, dice: random.Random) -> Parts:
    """A node whose counts fit its shapes, with any windows."""
    h, w = axis(dice), axis(dice)
    if kind == "average_pool2d_s8":
        h["dilation"] = w["dilation"] = 1
    channels, groups = dice.choice((1, 2, 3, 16, 64, 1024)), 1
    filters = dice.choice((1, 2, 3, 8))
    if "depthwise" in kind:
        groups, filters = channels, channels * dice.choice((1, 1, 2))
    elif dice.random() < 0.3:
        groups, filters = channels, channels * dice.choice((1, 2))
    taps = h["kernel"] * w["kernel"]
    x, pixels = h["in"] * w["in"] * channels, h["out"] * w["out"]
    geometry = (h["kernel"], w["kernel"], h["stride"], w["stride"], h["dilation"], w["dilation"], h["pad"], w["pad"])
    if "pool2d" in kind:
        values = (h["in"], w["in"], channels, h["out"], w["out"], *geometry, dice.randint(0, 3), h["pad"], w["pad"])
        return op_images.single(kind, values, [x, pixels * channels])
    weights = filters * taps * (1 if "depthwise" in kind else channels // groups)
    limits = op_images.ROWS[kind][0][-2:]
    values = (h["in"], w["in"], channels, h["out"], w["out"], filters, *geometry, groups, *limits)
    more = [filters] * (len(op_images.operands(kind)[0]) - 2)
    make = op_images.learning if runtime.OPS[kind].has_grad and dice.random() < 0.7 else op_images.single
    return make(kind, values, [x, weights, *more, pixels * filters])


@both_widths
def test_windows_at_the_limits(cc: str, tmp_path: Path) -> None:
    dice = random.Random(1)
    images = [windowed(kind, dice).emit() for _ in range(120) for kind in WINDOWED]
    results = judged(cc, tmp_path, images)
    assert set(results) <= {OK, REFUSED}
    for k, kind in enumerate(WINDOWED):
        outcomes = results[k :: len(WINDOWED)]
        assert min(outcomes.count(OK), outcomes.count(REFUSED)) > 3, kind


def test_a_line_of_an_image_that_would_wrap_is_refused() -> None:
    """width * channels of a padded line as 2^32 + 64: each factor alone is within its limit."""
    for kind in ("conv2d_s8", "depthwise_conv2d_s8", "conv2d_f32", "depthwise_conv2d_f32"):
        groups, taps = (1024, 1) if "depthwise" in kind else (1, 1024)
        values = (1, 2, 1024, 1, 2, 1024, 1, 1, 1, (1 << 22) - 1, 1, 1, 0, 0, groups, *op_images.ROWS[kind][0][-2:])
        weights = 1024 * taps
        more = [1024] * (len(op_images.operands(kind)[0]) - 2)
        assert runtime.load_error(op_images.single(kind, values, [2048, weights, *more, 2048]).emit()) == "EP_ERR_IMAGE"
        near = (*values[:9], 1, *values[10:])
        assert runtime.load_error(op_images.single(kind, near, [2048, weights, *more, 2048]).emit()) is None


@pytest.mark.parametrize(
    ("kind", "channels", "dilation", "error"),
    [
        ("max_pool2d_f32", 2048, 36, None),  # as nets that segment have it
        ("max_pool2d_s8", 1 << 15, 1, None),
        ("max_pool2d_s8", 1 << 15, 36, "EP_ERR_IMAGE"),  # its line times its lines passes 2^28
    ],
)
def test_a_padded_image_has_a_limit(kind: str, channels: int, dilation: int, error: str | None) -> None:
    values = (65, 65, channels, 65, 65, 3, 3, 1, 1, *[dilation] * 4, 0, dilation, dilation)
    size = 65 * 65 * channels
    assert runtime.load_error(op_images.single(kind, values, [size, size]).emit()) == error


# ---- Places that overlap ---------------------------------------------------------------------------------------------

#: ops of several inputs, of 9 elements each
SEVERAL: dict[str, tuple[tuple[object, ...], list[int]]] = {
    "add_f32": ((9, 0.0, -op_images.INF, op_images.INF), [9, 9, 9]),
    "matmul_f32": ((1, 3, 3, 3, 0, -op_images.INF, op_images.INF), [9, 9, 9]),
}


def moved(base: Parts, plan: str, index: int, place: int) -> Parts:
    """The same with the value, or the gradient, of a tensor elsewhere in a plan."""
    parts = deepcopy(base)
    if plan == "inference":
        parts.tensors[index].offset = place
    else:
        (parts.offsets if plan == "learning" else parts.gradients)[index] = place
    parts.fit()
    return parts


def place_of(base: Parts, plan: str, index: int) -> int:
    if plan == "inference":
        return int(base.tensors[index].offset)
    return int((base.offsets if plan == "learning" else base.gradients)[index])


@pytest.mark.parametrize("kind", SEVERAL)
@pytest.mark.parametrize("plan", ["inference", "learning", "gradient"])
def test_an_output_that_begins_inside_an_input(kind: str, plan: str) -> None:
    """Any of them: an op that goes through both would read what it has written. At the same place it may lie, or behind."""
    base = op_images.learning(kind, *SEVERAL[kind])
    node = base.nodes[-1]
    output = node.io[-1]
    for index in node.io[: node.n_in]:
        first = place_of(base, plan, index)
        assert runtime.load_error(moved(base, plan, output, first).emit()) is None
        assert runtime.load_error(moved(base, plan, output, first + 16).emit()) == "EP_ERR_IMAGE"
        assert runtime.load_error(moved(base, plan, output, first + 32).emit()) == "EP_ERR_IMAGE"
        others = [place_of(base, plan, i) for i in base.activations() if place_of(base, plan, i) != NONE]
        assert runtime.load_error(moved(base, plan, output, max(others) + 256).emit()) is None


def test_a_step_leaves_states_alone() -> None:
    """They come first, and neither a value nor a gradient of the training plan is laid over them."""
    net = t.Sequential(t.GRU(3, stateful=True, name="cell"), t.Dense(4, name="head"))
    net.build((1, 2), seed=0)
    base = take_apart(to_image(export.lower(net.to_onnx(), trainable="*", loss="softmax_cross_entropy")))
    state = base.states[0]
    for plan in ("learning", "gradient"):
        for index in base.activations():
            if index != state and place_of(base, plan, index) != NONE:
                assert runtime.load_error(moved(base, plan, index, 0).emit()) == "EP_ERR_IMAGE"
    behind = moved(base, "inference", state, base.sizes["train_bytes"])
    behind.offsets[state] = behind.tensors[state].offset
    behind.fit()
    assert runtime.load_error(behind.emit()) == "EP_ERR_IMAGE"
    assert runtime.load_error(base.emit()) is None


@both_widths
def test_more_outputs_than_a_node_can_have(cc: str, tmp_path: Path) -> None:
    """Each of its own, the last without a place: more than a mask of optional ones has bits."""
    images = []
    for count in (9, 33, 70, 252):
        parts = op_images.single("rnn_f32")
        node = parts.nodes[0]
        for _ in range(count - (len(node.io) - node.n_in)):
            parts.tensors.append(deepcopy(parts.tensors[node.io[-1]]))
            node.io.append(len(parts.tensors) - 1)
        parts.tensors[-1].offset = NONE
        images.append(parts.emit())
    assert judged(cc, tmp_path, images) == [REFUSED] * len(images)
