"""Write an Arduino library, for the IDE, arduino-cli and others: everything in src/, the one folder they search.

Arduino has no compiler flags of a library's own; the sources keep products and sums apart by themselves (contract.h).
"""

from __future__ import annotations

from .example import arduino_example
from .library import Library, within

_HOW = """\
Copy this folder into the sketchbook's `libraries/`, or zip it and choose *Sketch > Include Library > Add .ZIP Library*.
Then open *File > Examples > {name} > {name}*. A 32-bit board is needed: ARM, ESP32, RISC-V."""


def files(library: Library) -> dict[str, str | bytes]:
    """The library in Arduino's format 1.5."""
    name = library.name
    return {
        "library.properties": _properties(library),
        "keywords.txt": _keywords(library),
        f"examples/{name}/{name}.ino": arduino_example(library),
        **within("src", {**library.public, **library.runtime, **library.model}),
        **library.license,
        **library.readme("Arduino", _HOW.format(name=name)),
    }


def _properties(library: Library) -> str:
    fields = {
        "name": library.name,
        "version": library.version,
        "author": "edgeprop",
        "maintainer": "edgeprop",
        "sentence": f"{library.what}.",
        "paragraph": "One arena of memory, no malloc. The header tells layers, sizes and labels.",
        "category": "Data Processing",
        "url": "",
        "architectures": "*",
        "includes": library.header,
        # An archive, of which the linker takes only the ops that the model names.
        "dot_a_linkage": "true",
    }
    return "".join(f"{key}={value}\n" for key, value in fields.items())


def _keywords(library: Library) -> str:
    """For the editor's colours: what a sketch is likely to name."""
    words = {
        "KEYWORD1": ("ep_t", "ep_step", "ep_storage", "ep_model"),
        "KEYWORD2": (
            "ep_init",
            "ep_infer",
            "ep_learn",
            "ep_learn_label",
            "ep_save",
            "ep_restore",
            "ep_reset",
            "ep_error",
        ),
        "LITERAL1": (
            library.name,
            *(f"{library.macro}_{end}" for end in ("INFER_ARENA", "TRAIN_ARENA", "INPUT_COUNT")),
        ),
    }
    return "".join(f"{word}\t{kind}\n" for kind, listed in words.items() for word in listed)
