"""Raise failures of the runtime as Python exceptions."""

from __future__ import annotations

from ._core import ffi, lib
from .runtime import ERRORS

__all__ = ["Error", "check"]

_CODES = {name: code for code, name in ERRORS.items()}


class Error(Exception):
    """What is wrong, and the cure.

    Attributes
    ----------
    code : the C name of the error, such as "EP_ERR_LABEL"
    rc : its number in C, negative
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.rc = _CODES[code]

    def __reduce__(self) -> tuple[type[Error], tuple[str, str]]:
        return type(self), (self.code, str(self.args[0]).removesuffix(f" [{self.code}]"))


def check(rc: int, what: str = "") -> int:
    """Returns `rc`, or raises what it stands for if it is negative.

    Parameters
    ----------
    rc : what a C function returned
    what : what was being done, set before the runtime's own text

    Raises
    ------
    Error : rc < 0
    """
    if rc >= 0:
        return rc
    text = ffi.string(lib.ep_error(rc)).decode()
    raise Error(ERRORS[rc], f"{what}: {text}" if what else text)
