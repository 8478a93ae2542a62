"""The C header: it reads well, compiles everywhere without a warning, and runs as the image does, bit for bit."""

from __future__ import annotations

import re
import shutil
import subprocess
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprop import runtime
from edgeprop.export.program.plan import infer_arena, restore_arena, train_arena
from edgeprop.export.program.program import Program
from edgeprop.export.writers.c_text import comment, identifier, number, rows, string, wrap
from edgeprop.export.writers.header import to_header
from edgeprop.export.writers.image import to_image
from tests.support import interpreter, programs
from tests.support.compiler import CSRC, HERE, STRICT, image_driver, program, run
from tests.support.plans import apart
from tests.support.programs import Builder

BUILT = [programs.head, programs.mlp, programs.rows, programs.cnn, programs.residual, programs.autoencoder_int8]
COMPILERS = [cc for cc in ("gcc", "clang") if shutil.which(cc)]


def everything() -> Program:
    """One of every op, with names no compiler would like."""
    b = Builder('every "op" */ \\')
    x = b.input((8, 8, 2), "in *//*")
    x = b.conv(x, 4, "conv", trainable=True, lo=0.0)
    x = b.affine(b.depthwise(x, "for"), "affine ??/", trainable=True)
    x = b.unary("leaky_relu_f32", b.unary("clip_f32", x, "int", lo=0.0, hi=6.0), "return", alpha=0.125)
    x = b.add(b.unary("sigmoid_f32", x, "größe"), b.unary("tanh_f32", x, "数字"), "a\nb")
    y = b._tensor("turned", "f32", (4, 8, 8))
    x = b._op("transpose", "x" * 300, [x], y, dims=[1, 1, 1, 4, 8, 8], strides=[0, 0, 0, 1, 32, 4], size=4)
    y = b._tensor("back", "f32", (8, 8, 4))
    x = b._op("transpose", "x" * 300 + "y", [x], y, dims=[1, 1, 1, 8, 8, 4], strides=[0, 0, 0, 8, 1, 64], size=4)
    x = b.pool(b.pool(x, "max"), "mean", "average_pool2d_f32")
    logits = b.dense(b.unary("copy", x, "copy"), 5, "fc", trainable=True)
    b.learn(logits)
    b.output(b.softmax(logits))
    x = b.quantize(logits, "tensors")
    table = b._tensor("table", "i8", (256,), data=np.arange(-128, 128, dtype=np.int8)[::-1].copy())
    y = b.like(x, "looked up")
    b._op("lut_s8", "nodes", [x, table], y, count=5, alpha=0.0, lo=-inf, hi=inf)
    exp = b._tensor("exp", "f32", (256,), data=np.exp((np.arange(256, dtype=np.float32) - 255) * 0.05))
    z = b._tensor("soft", "i8", (5,), scale=1 / 256, zero_point=-128)
    b._op("softmax_s8", "io", [b.add(x, y, "add", lo=-125.0, hi=130.0, kind="add_s8"), exp], z, rows=1, channels=5)
    b.output(b.dequantize(z, "train"))
    b.program.labels = ['"', "*/", "yes", "Yes", "Größe", "はい", "", "\\", "??/", "a\nb", "INT_MAX", "123"]
    b.program.source = "*/ evil \u202e.onnx"
    return b.program


ALL = [*BUILT, everything]


# ---- The text


@pytest.mark.parametrize("build", ALL)
def test_reproducible(build):
    assert to_header(build()) == to_header(build())


def test_first_screen_tells_the_model():
    program = programs.cnn()
    text = to_header(program)
    screen = text[: text.index("*/")]
    assert len(screen.splitlines()) < 50
    for needed in (
        "cnn.onnx",
        program.source_hash,
        "image: float32 (12, 12, 1) height, width, channel",
        "CNN_TRAIN_ARENA",
    ):
        assert needed in screen
    for op in program.ops:
        assert re.search(rf"{op.name} +{op.kind} ", screen)
    assert f"{train_arena(program):,} B" in screen
    assert f"{infer_arena(program):,} B" in screen
    assert re.search(r"fc +dense_f32 +10 +170 +680 +160", screen)


def test_quantized_ports_tell_their_scale():
    text = to_header(programs.ds_cnn_int8())
    assert "mfcc: int8 (49, 10, 1) height, width, channel; real value = 0.584699988 * (code - 83)" in text
    assert "#define KWS_INPUT_SCALE 0.584699988f\n#define KWS_INPUT_ZERO_POINT 83\n" in text
    assert "#define KWS_OUTPUT_ZERO_POINT (-5)" in text


def test_macros():
    program = programs.mlp()
    text = to_header(program)
    for line in (
        f"#define MLP_INFER_ARENA {infer_arena(program)}u",
        f"#define MLP_RESTORE_ARENA {restore_arena(program)}u",
        f"#define MLP_TRAIN_ARENA {train_arena(program)}u",
        f"#define MLP_TRAIN_ARENA_MOMENTUM {train_arena(program, optimizer='momentum')}u",
        f"#define MLP_TRAIN_ARENA_ADAM {train_arena(program, optimizer='adam')}u",
        "#define MLP_SUMS_BYTES 9648u",
        "#define MLP_INPUT_COUNT 64u",
        "#define MLP_OUTPUT_COUNT 10u",
    ):
        assert line + "\n" in text
    assert "TRAIN" not in to_header(programs.cnn(trainable=False)).replace("EP_NO_TRAIN", "")


def test_one_matrix_row_per_line():
    program = programs.mlp()
    lines = to_header(program).splitlines()
    start = next(i for i, line in enumerate(lines) if "mlp_fc_weight[320]" in line)
    caption = lines[start - 1]
    assert re.fullmatch(r"/\* fc: weight \(10, 32\) n_out, n_in; \S+ \.\. \S+; learns \*/", caption)
    body = "".join(lines[start + 1 : lines.index("};", start)])
    numbers, *matrix = re.split(r"/\* \d+ \*/", body)
    assert numbers.strip() == ""
    found = [[float(value.rstrip("f")) for value in row.strip(" ,").split(",")] for row in matrix]
    np.testing.assert_array_equal(np.float32(found), program.tensors["fc.weight"].data)


def test_short_matrix_rows_stand_in_one_line():
    program = programs.cnn()
    text = to_header(program)
    body = text[text.index("cnn_conv1_weight[72] = {") :].splitlines()[1:9]
    found = [[int(value) for value in line.strip(" ,").split(",")] for line in body]
    np.testing.assert_array_equal(found, program.tensors["conv1.weight"].data.reshape(8, 9))


@pytest.mark.parametrize("build", ALL)
def test_lines_keep_to_their_width(build):
    long = [line for line in to_header(build()).splitlines() if len(line) > 120]
    assert all("/*" in line or line.startswith(" *") for line in long)


# ---- Pieces


@given(st.floats(width=32))
def test_numbers_read_back(value):
    text = number(value)
    if value != value or value in (inf, -inf):
        assert text in {"NAN", "INFINITY", "-INFINITY"}
        return
    assert re.fullmatch(r"-?\d+(\.\d+)?(e[-+]\d+)?f", text)
    assert "." in text or "e" in text
    read = np.float32(float(text[:-1]))
    assert read == np.float32(value)
    assert np.signbit(read) == np.signbit(np.float32(value))


@given(st.text())
def test_comments_cannot_be_left(text):
    inside = comment(text)
    assert "*/" not in f" {inside} "
    assert "/*" not in inside
    assert "\\" not in inside
    assert "??" not in inside
    assert len(inside.splitlines()) <= 1


@given(st.text())
def test_strings_cannot_be_left(text):
    literal = string(text)
    assert literal.isascii()
    assert re.fullmatch(r'"([ !#-\[\]-~]|\\[0-7]{3})*"', literal)
    assert "?" not in literal
    decoded = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), literal[1:-1].encode())
    assert decoded == text.encode("utf-8", "replace")


@given(st.text())
def test_identifiers(text):
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", identifier(text))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("digits", "digits"),
        ("MobileNet v2 (0.25)", "MobileNet_v2_0_25"),
        ("2nd", "model_2nd"),
        ("", "model"),
        ("数字", "model"),
        ("Größe", "Groe"),
        ("_hidden", "hidden"),
        ("int", "int_model"),
        ("class", "class_model"),
        ("sinf", "sinf_model"),
        ("main", "main_model"),
        ("ep_infer", "ep_infer_model"),
        ("edgeprop", "edgeprop_model"),
        ("state_t", "state_t_model"),
        ("NAN", "NAN_model"),
        ("INT8_MAX", "INT8_MAX_model"),
    ],
)
def test_identifier_examples(text, name):
    assert identifier(text) == name


def test_wrapped_lists_fit():
    items = [str(i) * (i % 9 + 1) for i in range(200)]
    lines = list(wrap(items))
    assert max(map(len, lines)) <= 120
    assert " ".join(line.strip() for line in lines) == ", ".join(items)


@pytest.mark.parametrize("width", [1, 2, 7, 19, 28, 57, 58, 114, 115, 116])
def test_wrapped_lists_fill_their_lines(width):
    """120 columns are used to the last; the next item would not have fitted."""
    items = ["x" * width] * 40
    lines = list(wrap(items, end=","))
    assert all(line.startswith("    x") and line.endswith(",") for line in lines)
    assert max(map(len, lines[:-1])) + 1 + len(items[0]) + 1 > 120
    assert len({len(line) for line in lines[:-1]}) == 1
    assert max(map(len, lines)) <= max(120, width + 5)


def test_labels_that_a_name_does_not_show_stand_beside_it():
    b = Builder("net")
    b.output(b.dense(b.input((2,)), 3, "fc"))
    b.program.labels = ["yes", "NO", "good bye"]
    lines = [line.strip() for line in to_header(b.program).splitlines() if line.startswith("    NET_LABEL_")]
    assert lines == ["NET_LABEL_YES = 0,", "NET_LABEL_NO = 1,", "NET_LABEL_GOOD_BYE = 2 /* good bye */"]


@pytest.mark.parametrize(("wide", "marks"), [((3, 100), 3), ((1, 100), 0), ((3, 4), 0), ((2, 3, 2), 0), ((100,), 0)])
def test_rows_have_numbers_where_they_are_several_of_several_lines(wide, marks):
    lines = list(rows(np.full(wide, -128, np.int8)))
    assert sum("/*" in line for line in lines) == marks
    assert len([line for line in lines if "/*" not in line]) >= wide[0] or len(wide) == 1


def test_numbers_of_a_column_stand_below_each_other():
    lines = list(rows(np.array([[1, -20], [300, 4]], np.int32)))
    assert lines == ["      1, -20,", "    300,   4"]


def test_rows_of_a_cube_are_those_of_its_last_axis():
    """A depthwise weight: a row per tap; any other: a row per output."""
    assert len(list(rows(np.zeros((3, 2, 5), np.int8)))) == 6
    assert len(list(rows(np.zeros((3, 2, 2, 5), np.int8)))) == 3


def test_rows_of_a_wide_matrix_have_numbers():
    lines = list(rows(np.full((3, 100), -128, np.int8)))
    assert [line.strip() for line in lines if "/*" in line] == ["/* 0 */", "/* 1 */", "/* 2 */"]
    assert max(map(len, lines)) <= 120


# ---- Compiling


@pytest.fixture
def write(tmp_path):
    """Writes the header of a program; returns its path and symbol."""

    def written(model: Program):
        name = identifier(model.name)
        (tmp_path / f"{name}.h").write_text(to_header(model), encoding="utf-8")
        return tmp_path / f"{name}.h", name

    return written


def _compile(compiler, text, folder, suffix, *flags):
    source = folder / f"use{suffix}"
    source.write_text(text)
    run([compiler, *STRICT, *flags, "-I", CSRC, "-I", folder, "-c", source, "-o", folder / "use.o"])


def _shared_out(ways):
    """Every way with one of every op, and the other programs with each way by one of the compilers in turn."""
    count = max(len(COMPILERS), 1)
    return [
        (build, way, compiler)
        for i, build in enumerate(ALL)
        for k, way in enumerate(ways)
        for j, compiler in enumerate(COMPILERS)
        if build is everything or (i + k + j) % count == 0
    ]


@pytest.mark.parametrize(("build", "flags", "compiler"), _shared_out([(), ("-DEP_NO_TRAIN",)]))
def test_definitions_compile_without_a_warning(build, flags, compiler, write, tmp_path):
    path, name = write(build())
    include = f'#include "{path.name}"\n'
    text = f"{include}#define {name.upper()}_IMPLEMENTATION\n{include}{include}"
    extra = "-Wmissing-variable-declarations" if compiler == "clang" else "-Wundef"
    _compile(compiler, text, tmp_path, ".c", "-std=c99", extra, *flags)


LANGUAGES = [("-std=c89", ".c"), ("-std=c11", ".c"), ("-std=c++98", ".cpp"), ("-std=c++17", ".cpp")]


@pytest.mark.parametrize(("build", "language", "compiler"), _shared_out(LANGUAGES))
def test_declarations_compile_as_old_c_and_as_cpp(build, language, compiler, write, tmp_path):
    language, suffix = language
    path, name = write(build())
    macro = name.upper()
    use = (
        f"int f(unsigned long);\nint f(unsigned long size) {{ return {name}.n_nodes && size > {macro}_INFER_ARENA; }}\n"
    )
    compiler = {"gcc": "g++", "clang": "clang++"}[compiler] if suffix == ".cpp" else compiler
    _compile(compiler, f'#include "{path.name}"\n{use}', tmp_path, suffix, language)


def test_another_abi_does_not_compile(write, tmp_path):
    path, _ = write(programs.head())
    path.write_text(path.read_text().replace(f"EP_ABI != {runtime.ABI}", "EP_ABI != 4711"))
    with pytest.raises(AssertionError, match="Regenerate this file"):
        _compile("cc", f'#include "{path.name}"\n', tmp_path, ".c", "-std=c99")


def test_definitions_in_cpp_are_refused_in_words(write, tmp_path):
    path, name = write(programs.head())
    with pytest.raises(AssertionError, match="in a C file"):
        _compile("g++", f'#define {name.upper()}_IMPLEMENTATION\n#include "{path.name}"\n', tmp_path, ".cpp")


def test_labels_are_what_they_were(write, tmp_path):
    model = everything()
    path, name = write(model)
    source = tmp_path / "labels.c"
    source.write_text(
        f'#include <stdio.h>\n#define {name.upper()}_IMPLEMENTATION\n#include "{path.name}"\n'
        f'int main(void) {{ for (int i = 0; i < {name.upper()}_LABELS; i++) printf("%s%c", {name}_label_names[i], 0); '
        f'printf("%s%c%d", {name}.name, 0, {name.upper()}_LABEL_YES_2); return 0; }}\n'
    )
    text = subprocess.run(
        [program(source, tmp_path / "labels", include=tmp_path)], capture_output=True, check=True
    ).stdout
    assert text.decode().split("\0") == [*model.labels, model.name, "3"]


HOSTILE = ["a*/b", "/* x", 'q"uo\\te', "??/\nx", "int", "9lives", "ünï", "*" * 50 + "/", "", "a b", "\u202eevil"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_cannot_break_out(name, write, tmp_path):
    """A model, layers and labels whose names end comments, strings or lines."""
    model = programs.mlp()
    model.name, model.source, model.labels = name, name, [name, name + "x", "z"]
    for op in model.ops:
        op.name = name
    path, symbol = write(model)
    _compile("cc", f'#define {symbol.upper()}_IMPLEMENTATION\n#include "{path.name}"\n', tmp_path, ".c", "-std=c99")


def test_only_a_layer_of_one_row_takes_the_gradient_of_one_row():
    text = to_header(programs.rows())
    gradients = re.findall(r"\.grad = EP_GRAD\((\w+)\)", text)
    assert gradients == ["dense_row_f32", "dense_f32", "dense_row_f32"]


@pytest.mark.parametrize(
    ("loss", "outputs", "lines"),
    [
        ("softmax_cross_entropy", 3, ["LEARN_LABELS 3 /* ep_learn_label() takes a label, 0 .. 2 */"]),
        ("hinge", 3, ["LEARN_LABELS 3 /* ep_learn_label() takes a label, 0 .. 2 */"]),
        ("sigmoid_cross_entropy", 3, ["LEARN_VALUES 3 /* ep_learn() takes 3 floats, 0 .. 1 */"]),
        (
            "sigmoid_cross_entropy",
            1,
            [
                "LEARN_LABELS 2 /* ep_learn_label() takes a label, 0 or 1 */",
                "LEARN_VALUES 1 /* ep_learn() takes a float, 0 .. 1 */",
            ],
        ),
        ("mse", 1, ["LEARN_VALUES 1 /* ep_learn() takes a float, any that are finite */"]),
    ],
)
def test_it_tells_which_targets_it_takes(loss, outputs, lines):
    b = Builder("taught")
    logits = b.dense(b.input((2,)), outputs, "fc", trainable=True)
    b.output(logits)
    b.learn(logits, loss)
    text = to_header(b.program)
    assert re.findall(r"#define TAUGHT_(LEARN_.*)", text) == lines
    assert all(line.split("/* ")[1][:-3] in text[: text.index("*/")] for line in lines)


# ---- Running


def _run_image(model: Program, tmp_path, seed=1, steps=3) -> str:
    path = tmp_path / "model.ep"
    path.write_bytes(to_image(model))
    return run([image_driver(), str(seed), str(steps), path])


@pytest.mark.parametrize("build", ALL)
def test_header_and_image_give_the_same_bits(build, write, tmp_path):
    model = build()
    path, name = write(model)
    defines = (f'-DHEADER="{path.name}"', f"-DMODEL={name}", f"-D{name.upper()}_IMPLEMENTATION")
    driver = program(HERE / "drive.c", tmp_path / "with_header", *defines, include=tmp_path)
    text = run([driver, "7", "4"])
    assert text == _run_image(model, tmp_path, 7, 4)
    assert text.count("learn 0\n") == (24 if model.plan.param_bytes else 0)


@pytest.mark.parametrize("build", ALL)
def test_without_training_inference_is_the_same(build, write, tmp_path):
    path, name = write(build())
    defines = (f'-DHEADER="{path.name}"', f"-DMODEL={name}", f"-D{name.upper()}_IMPLEMENTATION")
    switches = ["-DEP_NO_TRAIN"]
    driver = program(HERE / "drive.c", tmp_path / "with_header", *defines, switches=switches, include=tmp_path)
    outputs = [line for line in run([driver, "7", "4"]).splitlines() if line.startswith("y ")]
    assert outputs == [line for line in _run_image(build(), tmp_path, 7).splitlines() if line.startswith("y ")]


@pytest.mark.parametrize("build", ALL)
def test_arena_sizes_are_those_of_the_runtime(build, tmp_path):
    model = build()
    lines = dict(re.findall(r"arena (\d): (\d+ \d+)", _run_image(model, tmp_path, steps=0)))
    assert lines["0"] == f"{infer_arena(model)} {infer_arena(model, 5)}"
    if model.plan.param_bytes:
        assert lines["1"] == f"{restore_arena(model)} {restore_arena(model, 5)}"
        assert lines["2"] == f"{train_arena(model)} {train_arena(model, 5, 'adam')}"
        assert lines["4"] == f"{train_arena(model, sums=True)} {train_arena(model, 5, 'adam', sums=True)}"
    else:
        assert set(list(lines.values())[1:]) == {"0 0"}


def test_answers_are_those_of_the_interpreter(tmp_path):
    """C from the image against NumPy from the Program, on the samples that the driver makes."""
    model = programs.residual()
    state = 5

    def sample():
        nonlocal state
        values = []
        for _ in range(128):
            state = (state * 1664525 + 1013904223) % 2**32
            values.append(np.float32((state >> 8) % 2001 - 1000) * np.float32(1e-3))
        return np.array(values, np.float32).reshape(1, 8, 8, 2)

    outputs = re.findall(r"^y (\w+)$", _run_image(model, tmp_path, seed=5), re.M)
    for found in outputs:
        expected = interpreter.run(model, {"x": sample()})["softmax_out"]
        np.testing.assert_allclose(np.frombuffer(bytes.fromhex(found), "<f4"), expected[0], rtol=1e-5, atol=1e-6)


def _answers(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(("arena", "fingerprint"))]


@pytest.mark.parametrize("build", [programs.head, programs.mlp, programs.cnn, programs.residual, everything])
def test_sharing_memory_changes_nothing(build, tmp_path):
    model = build()
    shared = _run_image(model, tmp_path)
    model.plan = apart(model)
    assert _answers(_run_image(model, tmp_path)) == _answers(shared)


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_sharing_memory_changes_nothing_in_random_programs(first, tmp_path):
    """The same, on graphs with branches: the planner's table must be true of the C ops."""
    for seed in range(first, first + 20):
        model = programs.random_program(np.random.default_rng(seed), 3 + seed % 10, True)
        shared = _run_image(model, tmp_path, seed)
        model.plan = apart(model)
        assert _answers(_run_image(model, tmp_path, seed)) == _answers(shared), f"seed {seed}"
        assert "learn -" not in shared.replace("learn -10", "")
