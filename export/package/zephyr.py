"""Write a Zephyr module with Kconfig, and a sample that twister can run."""

from __future__ import annotations

from .example import c_example
from .library import Library, within

_HOW = """\
Name this folder in the west manifest, or on the command line:
`west build -b qemu_cortex_m3 samples/{name} -t run -- -DZEPHYR_EXTRA_MODULES=$PWD`. In your own application put
`CONFIG_EDGEPROP_{macro}=y` into `prj.conf`, and `CONFIG_FPU=y` on a core that has one."""

_MODULE = """\
name: edgeprop_{name}
build:
  cmake: .
  kconfig: Kconfig
samples:
  - samples
"""

_KCONFIG = """\
# {what}.

menuconfig EDGEPROP_{macro}
\tbool "The neural network {name}"
\tselect REQUIRES_FULL_LIBC
\thelp
\t  {what}.

if EDGEPROP_{macro}

config EDGEPROP_NO_TRAIN
\tbool "Leave out learning"
\thelp
\t  Saves flash where the network only answers.

config EDGEPROP_NO_ERRMSG
\tbool "Leave out the texts of ep_error()"
\thelp
\t  Saves flash; errors are then numbers only.

endif # EDGEPROP_{macro}
"""

_CMAKE = """\
# {what}.
if(CONFIG_EDGEPROP_{macro})
  # Several networks share one runtime.
  if(NOT TARGET edgeprop)
    zephyr_library_named(edgeprop)
    zephyr_library_sources(
{sources}
    )
    zephyr_library_include_directories(src)
    # The same bits on every board: products and sums are not fused.
    zephyr_library_compile_options(-ffp-contract=off)
    zephyr_compile_definitions_ifdef(CONFIG_EDGEPROP_NO_TRAIN EP_NO_TRAIN)
    zephyr_compile_definitions_ifdef(CONFIG_EDGEPROP_NO_ERRMSG EP_NO_ERRMSG)
  endif()

  zephyr_include_directories(include)
  zephyr_library_named(edgeprop_{name})
  zephyr_library_sources(src/{model})
endif()
"""

_SAMPLE_CMAKE = """\
cmake_minimum_required(VERSION 3.20)
find_package(Zephyr REQUIRED HINTS $ENV{{ZEPHYR_BASE}})
project({name}_sample LANGUAGES C)

target_sources(app PRIVATE src/main.c)
"""

_PRJ = """\
CONFIG_EDGEPROP_{macro}=y
CONFIG_MAIN_STACK_SIZE=4096
"""

_SAMPLE = """\
sample:
  name: edgeprop {name}
  description: One answer of the network {name}.
common:
  tags: edgeprop
  integration_platforms:
    - qemu_cortex_m3
  harness: console
  harness_config:
    type: one_line
    regex:
      - "{name}: ok"
tests:
  sample.edgeprop.{name}: {{}}
"""


def files(library: Library) -> dict[str, str | bytes]:
    """The module and its sample."""
    sample = f"samples/{library.name}"
    words = {
        "name": library.name,
        "macro": library.macro,
        "what": library.what,
        "model": library.model_source,
        "sources": "\n".join(f"      src/{path}" for path in library.runtime_sources),
    }
    return {
        "zephyr/module.yml": _MODULE.format(**words),
        "Kconfig": _KCONFIG.format(**words),
        "CMakeLists.txt": _CMAKE.format(**words),
        f"{sample}/CMakeLists.txt": _SAMPLE_CMAKE.format(**words),
        f"{sample}/prj.conf": _PRJ.format(**words),
        f"{sample}/sample.yaml": _SAMPLE.format(**words),
        f"{sample}/src/main.c": c_example(library),
        **within("include", library.public),
        **within("src", {**library.runtime, **library.model}),
        **library.license,
        **library.readme("Zephyr", _HOW.format(**words)),
    }
