"""Write a CMake project for add_subdirectory, FetchContent and find_package, before or after installing it."""

from __future__ import annotations

from .example import c_example
from .library import PUBLIC, Library, within

_HOW = """\
One of

```cmake
add_subdirectory({name})
find_package({name} REQUIRED PATHS {name})          # this folder as it is, or where it was installed
FetchContent_Declare({name} SOURCE_DIR ${{CMAKE_CURRENT_SOURCE_DIR}}/{name})
FetchContent_MakeAvailable({name})
```

and then `target_link_libraries(firmware PRIVATE {name}::{name})`. By itself, it builds its example:
`cmake -S . -B build && cmake --build build && build/{name}_example`."""

_CMAKE = """\
# {what}: link {name}::{name}.
cmake_minimum_required(VERSION 3.20)
project({name} VERSION {version} LANGUAGES C)
include(GNUInstallDirs)

# Several networks share one runtime.
if(NOT TARGET edgeprop::edgeprop)
  option(EDGEPROP_NO_TRAIN "Leave out learning" OFF)
  option(EDGEPROP_NO_ERRMSG "Leave out the texts of ep_error()" OFF)
  add_library(edgeprop STATIC
{sources}
  )
  add_library(edgeprop::edgeprop ALIAS edgeprop)
  set_target_properties(edgeprop PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
  target_include_directories(edgeprop PRIVATE src
    PUBLIC $<BUILD_INTERFACE:${{CMAKE_CURRENT_SOURCE_DIR}}/include> $<INSTALL_INTERFACE:${{CMAKE_INSTALL_INCLUDEDIR}}>)
  target_compile_definitions(edgeprop PUBLIC
    $<$<BOOL:${{EDGEPROP_NO_TRAIN}}>:EP_NO_TRAIN> $<$<BOOL:${{EDGEPROP_NO_ERRMSG}}>:EP_NO_ERRMSG>)
  if(MSVC)
    target_compile_options(edgeprop PRIVATE /fp:precise)
  else()
    # The same bits on every board: products and sums are not fused. And a section for each function, so that the
    # linker drops what the network does not name.
    target_compile_options(edgeprop PRIVATE -ffp-contract=off -ffunction-sections -fdata-sections)
    target_link_libraries(edgeprop PUBLIC m)
  endif()
  install(TARGETS edgeprop EXPORT edgeprop-targets ARCHIVE DESTINATION ${{CMAKE_INSTALL_LIBDIR}})
  install(FILES {runtime_headers} DESTINATION ${{CMAKE_INSTALL_INCLUDEDIR}})
  install(EXPORT edgeprop-targets NAMESPACE edgeprop:: DESTINATION ${{CMAKE_INSTALL_LIBDIR}}/cmake/{name})
endif()

add_library({name} STATIC src/{model})
add_library({name}::{name} ALIAS {name})
set_target_properties({name} PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
target_include_directories({name}
  PUBLIC $<BUILD_INTERFACE:${{CMAKE_CURRENT_SOURCE_DIR}}/include> $<INSTALL_INTERFACE:${{CMAKE_INSTALL_INCLUDEDIR}}>)
target_link_libraries({name} PUBLIC edgeprop::edgeprop)

install(TARGETS {name} EXPORT {name}-targets ARCHIVE DESTINATION ${{CMAKE_INSTALL_LIBDIR}})
install(FILES include/{header} DESTINATION ${{CMAKE_INSTALL_INCLUDEDIR}})
install(EXPORT {name}-targets NAMESPACE {name}:: DESTINATION ${{CMAKE_INSTALL_LIBDIR}}/cmake/{name})
install(FILES {name}-config.cmake {name}-config-version.cmake DESTINATION ${{CMAKE_INSTALL_LIBDIR}}/cmake/{name})

if(CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)
  add_executable({name}_example examples/{name}.c)
  set_target_properties({name}_example PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON)
  target_link_libraries({name}_example PRIVATE {name}::{name})
endif()
"""

_CONFIG = """\
# For find_package({name}), where this folder lies as it was written and where it was installed.
if(TARGET {name}::{name})
  return()
endif()
if(EXISTS ${{CMAKE_CURRENT_LIST_DIR}}/CMakeLists.txt)
  add_subdirectory(${{CMAKE_CURRENT_LIST_DIR}} ${{CMAKE_CURRENT_BINARY_DIR}}/{name}-build)
  return()
endif()
if(NOT TARGET edgeprop::edgeprop)
  include(${{CMAKE_CURRENT_LIST_DIR}}/edgeprop-targets.cmake OPTIONAL RESULT_VARIABLE _found)
  if(NOT _found)
    include(CMakeFindDependencyMacro)
    find_dependency(edgeprop)
  endif()
endif()
include(${{CMAKE_CURRENT_LIST_DIR}}/{name}-targets.cmake)
"""

_VERSION = """\
# A later patch of the same minor version does.
set(PACKAGE_VERSION {version})
string(REGEX MATCH "^[0-9]+[.][0-9]+" _wanted "${{PACKAGE_FIND_VERSION}}")
string(REGEX MATCH "^[0-9]+[.][0-9]+" _given ${{PACKAGE_VERSION}})
if(PACKAGE_FIND_VERSION VERSION_LESS_EQUAL PACKAGE_VERSION AND "${{_wanted}}" STREQUAL "${{_given}}")
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
"""


def files(library: Library) -> dict[str, str | bytes]:
    """The project."""
    words = {
        "name": library.name,
        "what": library.what,
        "version": library.version,
        "header": library.header,
        "model": library.model_source,
        "sources": "\n".join(f"    src/{path}" for path in library.runtime_sources),
        "runtime_headers": " ".join(f"include/{name}" for name in PUBLIC),
    }
    return {
        "CMakeLists.txt": _CMAKE.format(**words),
        f"{library.name}-config.cmake": _CONFIG.format(**words),
        f"{library.name}-config-version.cmake": _VERSION.format(**words),
        f"examples/{library.name}.c": c_example(library),
        **within("include", library.public),
        **within("src", {**library.runtime, **library.model}),
        **library.license,
        **library.readme("CMake", _HOW.format(**words)),
    }
