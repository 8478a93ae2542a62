"""Write an ESP-IDF component, and an example project around it."""

from __future__ import annotations

from .example import c_example
from .library import Library, within

_HOW = """\
Copy this folder into a project's `components/` and write `#include "{header}"`. The folder's name is the component's.
`idf.py -C examples/{name} set-target esp32s3 build` builds the example."""

_CMAKE = """\
# {what}.
idf_component_register(
  SRCS
    src/{model}
{sources}
  INCLUDE_DIRS include
  PRIV_INCLUDE_DIRS src)

# The same bits on every board: products and sums are not fused.
target_compile_options(${{COMPONENT_LIB}} PRIVATE -ffp-contract=off)
"""

_MANIFEST = """\
version: "{version}"
description: {what}
license: Apache-2.0
dependencies:
  idf: ">=4.4"
examples:
  - path: examples/{name}
"""

_EXAMPLE_CMAKE = """\
cmake_minimum_required(VERSION 3.16)

# The component lies two folders up.
set(EXTRA_COMPONENT_DIRS ${{CMAKE_CURRENT_LIST_DIR}}/../..)
include($ENV{{IDF_PATH}}/tools/cmake/project.cmake)
project({name}_example)
"""

_MAIN_CMAKE = """\
idf_component_register(SRCS main.c)
"""


def files(library: Library) -> dict[str, str | bytes]:
    """The component and its example."""
    example = f"examples/{library.name}"
    words = {
        "name": library.name,
        "what": library.what,
        "version": library.version,
        "header": library.header,
        "model": library.model_source,
        "sources": "\n".join(f"    src/{path}" for path in library.runtime_sources),
    }
    return {
        "CMakeLists.txt": _CMAKE.format(**words),
        "idf_component.yml": _MANIFEST.format(**words),
        f"{example}/CMakeLists.txt": _EXAMPLE_CMAKE.format(**words),
        f"{example}/main/CMakeLists.txt": _MAIN_CMAKE,
        f"{example}/main/main.c": c_example(library, main="void app_main(void)"),
        **within("include", library.public),
        **within("src", {**library.runtime, **library.model}),
        **library.license,
        **library.readme("ESP-IDF", _HOW.format(**words)),
    }
