"""Export an ONNX model, or a network of `edgeprop.trainer`, to files for the device.

>>> from edgeprop import export
>>> export.save("build/digits", net, calibration=x[:256], trainable="head", labels=range(10))

Needs the packages of ``pip install edgeprop[export]``. They are imported when a function is first used, so that
`edgeprop.export.cli` works without them as far as it can.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Exported, save
    from .check import check
    from .errors import ExportError, QuantizeError, UnsupportedError
    from .graph.sklearn import from_sklearn
    from .lower import lower, supported_operators
    from .package import PackageError
    from .program.plan import plan
    from .quantization.analysis import snr
    from .quantization.calibrate import CalibrationError, calibrate
    from .quantization.quantize import quantize
    from .quantization.selection import find_layers

#: where each public name lives
_HOMES = {
    "CalibrationError": "quantization.calibrate",
    "ExportError": "errors",
    "Exported": "api",
    "PackageError": "package",
    "QuantizeError": "errors",
    "UnsupportedError": "errors",
    "calibrate": "quantization.calibrate",
    "check": "check",
    "find_layers": "quantization.selection",
    "from_sklearn": "graph.sklearn",
    "lower": "lower",
    "plan": "program.plan",
    "quantize": "quantization.quantize",
    "save": "api",
    "snr": "quantization.analysis",
    "supported_operators": "lower",
}

__all__ = [
    "CalibrationError",
    "ExportError",
    "Exported",
    "PackageError",
    "QuantizeError",
    "UnsupportedError",
    "calibrate",
    "check",
    "find_layers",
    "from_sklearn",
    "lower",
    "plan",
    "quantize",
    "save",
    "snr",
    "supported_operators",
]


class _Package(ModuleType):
    """A package whose functions win over its modules of the same name, in whatever order they are imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in _HOMES:
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
        except ImportError as error:
            if (error.name or "").partition(".")[0] == __name__.partition(".")[0]:
                raise
            raise ImportError(f"export needs {error.name}: pip install edgeprop[export]", name=error.name) from error
        value = getattr(module, name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *_HOMES})


sys.modules[__name__].__class__ = _Package
