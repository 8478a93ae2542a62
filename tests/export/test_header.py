"""The generated header: compiled as shipped, read as a person would, and given names that would break it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeprop
from edgeprop import runtime
from edgeprop.export.header import to_header
from edgeprop.export.image import to_image
from edgeprop.export.program import Program
from tests.support import programs

WARNINGS = "-Wall -Wextra -Wpedantic -Wconversion -Wdouble-promotion -Wshadow -Werror".split()  # noqa: SIM905
MAKERS = [programs.head, programs.mlp, programs.cnn, programs.residual, programs.ds_cnn_int8]


def prefix_of(header: str) -> str:
    found = re.search(r"^extern const ep_model (\w+);$", header, re.M)
    assert found
    return found[1]


def compile_(source: str, folder: Path, *command: str, suffix: str = ".c") -> None:
    """Compile, not link, with every warning an error."""
    path = folder / f"main{suffix}"
    path.write_text(source)
    warnings = WARNINGS[:3] if suffix == ".cc" else WARNINGS
    done = subprocess.run(
        [
            *command,
            *warnings,
            f"-I{folder}",
            f"-I{edgeprop.include_dir()}",
            "-c",
            str(path),
            "-o",
            str(folder / "main.o"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[:2000]


def write(program: Program, folder: Path) -> str:
    """Write m.h; return the text of a file that holds its definitions."""
    header = to_header(program)
    (folder / "m.h").write_text(header)
    return f'#define {prefix_of(header).upper()}_IMPLEMENTATION\n#include "m.h"\n'


@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize("make", MAKERS)
def test_compiles_without_a_warning(make: Any, cc: str, tmp_path: Path) -> None:
    if shutil.which(cc) is None:
        pytest.skip(f"{cc} is not installed")
    source = write(make(), tmp_path)
    compile_(source, tmp_path, cc, "-std=c99")
    compile_(source, tmp_path, cc, "-std=c99", "-DEP_NO_TRAIN")


def test_declarations_are_plain_c_and_cpp(tmp_path: Path) -> None:
    write(programs.mlp(), tmp_path)
    name = prefix_of((tmp_path / "m.h").read_text())
    use = f'#include "m.h"\nextern const ep_model *it;\nconst ep_model *it = &{name};\n'
    stand_in = f"#include <stdint.h>\ntypedef struct ep_model ep_model;\n#define EP_ABI {runtime.ABI}\n"
    (tmp_path / "edgeprop.h").write_text(stand_in)
    compile_(use, tmp_path, "gcc", "-std=c89", "-Wno-long-long")
    (tmp_path / "edgeprop.h").unlink()
    if shutil.which("g++"):
        compile_(use, tmp_path, "g++", "-std=c++11", suffix=".cc")


def test_another_abi_does_not_compile(tmp_path: Path) -> None:
    source = write(programs.mlp(), tmp_path)
    (tmp_path / "m.h").write_text((tmp_path / "m.h").read_text().replace(f"EP_ABI != {runtime.ABI}", "EP_ABI != 999"))
    with pytest.raises(AssertionError, match="Regenerate"):
        compile_(source, tmp_path, "gcc", "-std=c99")


MAIN = """
#include <stdio.h>
static EP_ALIGNED uint8_t arena[%(macro)s_TRAIN_ARENA];
int main(void)
{
    static float x[%(macro)s_INPUT_COUNT], y[%(macro)s_OUTPUT_COUNT];
    const ep_step step = {.lr = 0.05f};
    ep_t ep;
    float loss;
    int32_t label;
    if (ep_init(&ep, &%(prefix)s, arena, sizeof arena) != EP_OK) return 1;
    for (label = 0; fread(x, sizeof x, 1, stdin) == 1; label = (label + 1) %% 3) {
        if (ep_infer(&ep, x, y) != EP_OK) return 2;
        for (int k = 0; k < %(macro)s_OUTPUT_COUNT; k++) printf("%%a ", (double)y[k]);
        if (ep_learn(&ep, x, &label, &step, &loss) != EP_OK) return 3;
        printf("%%a\\n", (double)loss);
    }
    return 0;
}
"""


@pytest.mark.parametrize("make", [programs.head, programs.mlp, programs.cnn, programs.residual])
def test_header_and_image_give_the_same_bits(make: Any, tmp_path: Path) -> None:
    """The header compiled into a program of its own, and the image in Python: outputs and losses while learning."""
    program = make()
    source = write(program, tmp_path)
    prefix = prefix_of(to_header(program))
    (tmp_path / "main.c").write_text(source + MAIN % {"prefix": prefix, "macro": prefix.upper()})
    sources = [str(tmp_path / "main.c"), *map(str, edgeprop.c_sources())]
    flags = ["-std=c99", "-O2", "-ffp-contract=off", f"-I{tmp_path}", f"-I{edgeprop.include_dir()}"]
    subprocess.run(["cc", *flags, *sources, "-lm", "-o", str(tmp_path / "main")], check=True)

    model = edgeprop.Model(to_image(program))
    tensor = program.tensors[program.inputs[0].tensor]
    x = np.random.default_rng(0).normal(size=(5, tensor.count)).astype(np.float32)
    printed = subprocess.run([tmp_path / "main"], input=x.tobytes(), capture_output=True, check=True).stdout.decode()
    for i, line in enumerate(printed.splitlines()):
        sample = x[i].reshape(1, *tensor.shape).transpose(np.argsort(program.inputs[0].perm))
        got = np.array([float.fromhex(word) for word in line.split()], np.float32)
        np.testing.assert_array_equal(got[:-1], model.run(sample)[0].ravel())
        model.partial_fit(sample, np.array([i % 3]), lr=0.05)
        assert got[-1] == np.float32(model.loss_)


def test_same_program_same_bytes() -> None:
    assert to_header(programs.cnn()) == to_header(programs.cnn())


def test_first_screen_tells_the_model() -> None:
    """Source, ports, layers with type, shape and cost, RAM: all within 40 lines."""
    program = programs.cnn()
    program.source, program.source_hash, program.labels = "cnn.onnx", "ab" * 32, ["cat", "dog", "owl"]
    header = to_header(program)
    screen = "\n".join(header.splitlines()[:40])
    for op in program.ops:
        assert op.name[:40] in screen
        assert op.kind in screen
    for word in ("cnn.onnx", "ab" * 32, "Input", "Output", "RAM for inference", "RAM for learning", "MACs"):
        assert word in screen
    assert re.search(r"_LABEL_OWL = 2\b", header)
    assert all(len(line) <= 130 for line in header.splitlines())


HOSTILE = ["a*/b", "/* x", 'q"uo\\te', "??/\nx", "int", "9lives", "ünï", "*" * 50 + "/", "", "a b", "\u202eevil"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_cannot_break_out(name: str, tmp_path: Path) -> None:
    """A model, layers, tensors and labels whose names end comments, strings or lines."""
    program = programs.mlp()
    program.name, program.source, program.labels = name, name, [name, name + "x", "z"]
    for op in program.ops:
        op.name = name
    compile_(write(program, tmp_path), tmp_path, "gcc", "-std=c99")
