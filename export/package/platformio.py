"""Write a PlatformIO library with library.json, and an example project that uses it from where it lies."""

from __future__ import annotations

import json

from .example import arduino_example, c_example
from .library import Library, within

_HOW = """\
Copy this folder into a project's `lib/`, or name it in `platformio.ini`: `lib_deps = symlink:///path/to/{name}`.
`pio run -d examples/{name} -e native -t exec` builds the example for this PC, `-e board` for a board."""

_INI = """\
; The same network on this PC and on a board. For another board change `platform` and `board`.
[env]
lib_deps = symlink://../..

[env:native]
platform = native
build_src_filter = +<native.c>

[env:board]
platform = ststm32
board = nucleo_f446re
framework = arduino
build_src_filter = +<board.cpp>
monitor_speed = 115200
"""


def files(library: Library) -> dict[str, str | bytes]:
    """The library and its example."""
    example = f"examples/{library.name}"
    return {
        "library.json": _manifest(library),
        f"{example}/platformio.ini": _INI,
        f"{example}/src/native.c": c_example(library),
        f"{example}/src/board.cpp": arduino_example(library, "#include <Arduino.h>"),
        **within("include", library.public),
        **within("src", {**library.runtime, **library.model}),
        **library.license,
        **library.readme("PlatformIO", _HOW.format(name=library.name)),
    }


def _manifest(library: Library) -> str:
    manifest = {
        "name": library.name,
        "version": library.version,
        "description": f"{library.what}.",
        "keywords": ["neural network", "machine learning", "on-device training", "edgeprop"],
        "license": "Apache-2.0",
        "frameworks": "*",
        "platforms": "*",
        "headers": library.header,
        "examples": [
            {
                "name": library.name,
                "base": f"examples/{library.name}",
                "files": ["platformio.ini", "src/native.c", "src/board.cpp"],
            }
        ],
        "build": {"flags": ["-ffp-contract=off", "-lm"], "includeDir": "include", "srcDir": "src", "libArchive": True},
    }
    return json.dumps(manifest, indent=2) + "\n"
