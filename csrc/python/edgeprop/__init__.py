"""Run a small neural network on the device, and let it learn there. Needs numpy and cffi only.

>>> import edgeprop
>>> model = edgeprop.Model("digits.ep")
>>> model.predict(x)                          # (n,) class indices
>>> model.partial_fit(x_user, y_user, lr=0.01)
>>> model.save("me.head")

On the desktop, `edgeprop.trainer` trains networks with NumPy and `edgeprop.export` turns ONNX models into images.
"""

from . import runtime
from .errors import Error
from .model import Model
from .runtime import VERSION as __version__
from .sources import c_sources, include_dir

__all__ = ["Error", "Model", "__version__", "c_sources", "include_dir", "runtime"]
