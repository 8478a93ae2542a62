"""Python's headers for any processor.

Only one of them, pyconfig.h, differs between processors: configure wrote down there what it measured on the machine that
Python was built for. Of that, the sizes of C's types are all that an extension for the stable ABI meets, and a compiler
knows them better: here they are named by its own macros, so that they are right for whatever it compiles for, 32 bits or
64. Taking the headers of each processor from a distribution instead would do as well (a test compares), but only where
its package manager can be asked.
"""

from __future__ import annotations

import re
import shutil
import sysconfig
from pathlib import Path

_MACROS = {
    "ALIGNOF_LONG": "__SIZEOF_LONG__",
    "ALIGNOF_SIZE_T": "__SIZEOF_SIZE_T__",
    "SIZEOF_DOUBLE": "__SIZEOF_DOUBLE__",
    "SIZEOF_FLOAT": "__SIZEOF_FLOAT__",
    "SIZEOF_INT": "__SIZEOF_INT__",
    "SIZEOF_LONG": "__SIZEOF_LONG__",
    "SIZEOF_LONG_DOUBLE": "__SIZEOF_LONG_DOUBLE__",
    "SIZEOF_LONG_LONG": "__SIZEOF_LONG_LONG__",
    "SIZEOF_SHORT": "__SIZEOF_SHORT__",
    "SIZEOF_SIZE_T": "__SIZEOF_SIZE_T__",
    "SIZEOF_UINTPTR_T": "__SIZEOF_POINTER__",
    "SIZEOF_VOID_P": "__SIZEOF_POINTER__",
    "SIZEOF_WCHAR_T": "__SIZEOF_WCHAR_T__",
}
#: the same on every Linux
_FIXED = {"SIZEOF__BOOL", "SIZEOF_PID_T"}

_CHECK = """
#ifdef SIZEOF_VOID_P
_Static_assert(SIZEOF_VOID_P == sizeof(void *) && SIZEOF_SIZE_T == sizeof(__SIZE_TYPE__), "pyconfig.h: pointers");
_Static_assert(SIZEOF_LONG == sizeof(long) && SIZEOF_WCHAR_T == sizeof(__WCHAR_TYPE__), "pyconfig.h: integers");
#endif
"""


def portable(text: str) -> str:
    """A pyconfig.h whose sizes are the compiler's. What no macro tells is left out: using it fails to compile."""

    def define(match: re.Match[str]) -> str:
        name = match[1]
        if name in _FIXED:
            return match[0]
        return f"#define {name} {_MACROS[name]}" if name in _MACROS else f"/* {name} is not known here */"

    text = re.sub(r"^#define ((?:SIZEOF|ALIGNOF)_\w+) \d+$", define, text, flags=re.MULTILINE)
    text = re.sub(
        r"^#define (HAVE_GCC_ASM_FOR_\w+|HAVE_GCC_UINT128_T) 1$", r"/* #undef \1 */", text, flags=re.MULTILINE
    )
    return text + _CHECK


def write(folder: Path) -> Path:
    """Copy the running Python's headers to `folder`, and make them fit every processor."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sysconfig.get_path("include"), folder)
    # Where Debian installed it, the copied pyconfig.h only points to the one of the processor: replace, do not edit.
    (folder / "pyconfig.h").write_text(portable(Path(sysconfig.get_config_h_filename()).read_text()))
    return folder
