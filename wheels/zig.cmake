# CMake's toolchain file for all wheels: EDGEPROP_ZIG is the compiler, EDGEPROP_ZIG_TARGET and EDGEPROP_ZIG_CPU come
# from targets.py.
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES EDGEPROP_ZIG EDGEPROP_ZIG_TARGET EDGEPROP_ZIG_CPU)

set(CMAKE_SYSTEM_NAME Linux)
string(REGEX REPLACE "-.*" "" CMAKE_SYSTEM_PROCESSOR "${EDGEPROP_ZIG_TARGET}")
set(CMAKE_C_COMPILER "${EDGEPROP_ZIG}" cc)

# zig adds traps for undefined behaviour where it thinks of a build as one for debugging: never in what users get.
# -O3 and -dynamic are for the programs by which CMake looks at the compiler: without, zig compiles for them a library of
# its own for debugging, and a whole static musl.
set(CMAKE_C_FLAGS_INIT "-target ${EDGEPROP_ZIG_TARGET} -mcpu=${EDGEPROP_ZIG_CPU} -fno-sanitize=all -O3 -dynamic")
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  string(APPEND CMAKE_C_FLAGS_INIT " -include ${CMAKE_CURRENT_LIST_DIR}/x86.h")
endif()
# The linker leaves out the symbols: this machine's strip knows its own processor only.
set(CMAKE_EXE_LINKER_FLAGS_INIT "-s")
set(CMAKE_MODULE_LINKER_FLAGS_INIT "-s")

# Nothing of this machine's libraries and headers fits.
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
