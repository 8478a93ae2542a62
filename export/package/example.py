"""Write the example of a package: one inference and, where the model learns, one step. In C, and as an Arduino sketch."""

from __future__ import annotations

from collections.abc import Iterator

from ... import runtime
from ..writers.c_text import comment
from .library import Library

_C_TYPES = {"f32": "float", "i8": "int8_t", "i32": "int32_t", "u8": "uint8_t"}
_RATE = "0.01f"


def c_example(library: Library, main: str = "int main(void)") -> bytes:
    """A C program that prints. Floats are printed as thousandths: the printf of many boards knows no %f."""
    name = library.name
    lines = [
        f"/* {name}: one answer{', and one lesson' if library.learns else ''}. */",
        f'#include "{library.header}"',
        "",
        "#include <stdio.h>",
        "",
        *_memory(library),
        "static int run(void)",
        "{",
        "    ep_t ep;",
        f"    int rc = ep_init(&ep, &{name}, arena, sizeof arena);",
        *_infer(library),
        "    if (rc != EP_OK) {",
        "        return rc;",
        "    }",
        *_tell(library, _C_TELL),
        *(_lesson(library, _C_TELL) if library.learns else ["    return rc;"]),
        "}",
        "",
        main,
        "{",
        "    const int rc = run();",
        f'    printf("{name}: %s\\n", rc == EP_OK ? "ok" : ep_error(rc));',
        *(["    return rc != EP_OK;"] if main.startswith("int") else []),
        "}",
    ]
    return ("\n".join(lines) + "\n").encode()


def arduino_example(library: Library, includes: str = "") -> bytes:
    """A sketch that prints to the serial monitor."""
    name = library.name
    lines = [
        f"/* {name}: one answer{', and one lesson' if library.learns else ''}, on the serial monitor. */",
        *([includes] if includes else []),
        f"#include <{library.header}>",
        "",
        *_memory(library),
        "static int run(void)",
        "{",
        "    static ep_t ep;",
        f"    int rc = ep_init(&ep, &{name}, arena, sizeof arena);",
        *_infer(library),
        "    if (rc != EP_OK) {",
        "        return rc;",
        "    }",
        *_tell(library, _ARDUINO_TELL),
        *(_lesson(library, _ARDUINO_TELL) if library.learns else ["    return rc;"]),
        "}",
        "",
        "void setup()",
        "{",
        "    Serial.begin(115200);",
        "    while (!Serial && millis() < 5000) {",
        "    }",
        "    const int rc = run();",
        f'    Serial.print("{name}: ");',
        '    Serial.println(rc == EP_OK ? "ok" : ep_error(rc));',
        "}",
        "",
        "void loop()",
        "{",
        "}",
    ]
    return ("\n".join(lines) + "\n").encode()


# ---- Pieces that C and C++ share -------------------------------------------------------------------------------------

_C_TELL = {
    "label": '    printf("label %s\\n", {label});',
    "value": '    printf("output {index}: %ld{unit}\\n", (long)({value}));',
    "loss": '    printf("loss %ld/1000\\n", (long)(1000 * loss));',
}
_ARDUINO_TELL = {
    "label": '    Serial.print("label ");\n    Serial.println({label});',
    "value": '    Serial.print("output {index}: ");\n    Serial.print((long)({value}));\n    Serial.println("{unit}");',
    "loss": '    Serial.print("loss ");\n    Serial.println(loss, 3);',
}


def _single(library: Library) -> bool:
    """True if one call of ep_infer does."""
    return len(library.program.inputs) == 1 and len(library.program.outputs) == 1


def _type(library: Library, tensor: str) -> str:
    return _C_TYPES[library.program.tensors[tensor].dtype]


def _memory(library: Library) -> Iterator[str]:
    macro, program = library.macro, library.program
    yield "/* All the memory that the network needs. */"
    infer = f"static EP_ALIGNED uint8_t arena[{macro}_INFER_ARENA];"
    if library.learns:
        yield "#ifndef EP_NO_TRAIN"
        yield f"static EP_ALIGNED uint8_t arena[{macro}_TRAIN_ARENA];"
        yield from ("#else", infer, "#endif")
    else:
        yield infer
    yield ""
    if _single(library):
        source, target = program.inputs[0], program.outputs[0]
        yield f"static {_type(library, source.tensor)} input[{macro}_INPUT_COUNT]; /* your sensor's values go here */"
        yield f"static {_type(library, target.tensor)} output[{macro}_OUTPUT_COUNT];"
        yield ""


def _infer(library: Library) -> Iterator[str]:
    program, macro = library.program, library.macro
    if _single(library):
        yield "    if (rc == EP_OK) {"
        yield "        rc = ep_infer(&ep, input, output);"
        yield "    }"
        return
    yield "    if (rc != EP_OK) {"
    yield "        return rc;"
    yield "    }"
    for i, port in enumerate(program.inputs):
        ctype, count = _type(library, port.tensor), f"{macro}_INPUT{f'_{i}' if len(program.inputs) > 1 else ''}_COUNT"
        yield f"    {ctype} *input_{i} = ({ctype} *)ep_input(&ep, {i}); /* {comment(port.name)} */"
        yield f"    for (uint32_t k = 0; k < {count}; k++) {{"
        yield f"        input_{i}[k] = 0; /* your sensor's values go here */"
        yield "    }"
    yield "    rc = ep_run(&ep, 1);"


def _tell(library: Library, words: dict[str, str]) -> Iterator[str]:
    program, macro = library.program, library.macro
    if _single(library) and program.labels and program.tensors[program.outputs[0].tensor].count == len(program.labels):
        yield "    uint32_t best = 0;"
        yield f"    for (uint32_t k = 1; k < {macro}_OUTPUT_COUNT; k++) {{"
        yield "        best = output[k] > output[best] ? k : best;"
        yield "    }"
        yield words["label"].format(label=f"{library.name}_label_names[best]")
        return
    for i, port in enumerate(program.outputs):
        is_float = program.tensors[port.tensor].dtype == "f32"
        if _single(library):
            value = "output[0]"
        else:
            yield f"    const {_type(library, port.tensor)} *output_{i} ="
            yield f"        (const {_type(library, port.tensor)} *)ep_output(&ep, {i}); /* {comment(port.name)} */"
            value = f"output_{i}[0]"
        shown = f"1000 * {value}" if is_float else value
        yield words["value"].format(index=i, value=shown, unit="/1000" if is_float else "")


def _lesson(library: Library, words: dict[str, str]) -> Iterator[str]:
    """What EP_NO_TRAIN leaves out."""
    program = library.program
    logits = program.tensors[program.logits or ""].count
    yield ""
    yield "#ifndef EP_NO_TRAIN"
    yield "    /* One step on one sample; keep what was learned with ep_save(). */"
    if program.loss in runtime.LABEL_LOSSES:
        yield "    const int32_t label = 0; /* the right class */"
    else:
        yield f"    static const float target[{logits}] = {{0}}; /* the right values */"
    yield "    static ep_step step; /* all zero: plain SGD */"
    yield "    float loss = 0;"
    yield f"    step.lr = {_RATE};"
    if program.loss in runtime.LABEL_LOSSES:
        yield "    rc = ep_learn_label(&ep, input, label, &step, &loss);"
    else:
        yield "    rc = ep_learn(&ep, input, target, &step, &loss);"
    yield words["loss"]
    yield "#endif"
    yield "    return rc;"
