"""The C runtime as cffi shows it; see _core.cdef.h."""

from typing import Any

ffi: Any
lib: Any
