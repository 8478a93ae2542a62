"""List the layers: each module has its own in `__all__`, and `register` puts them into `LAYERS` by their names.

Type checkers do not run anything, hence the list of modules below; a test holds it against the folder.
"""

from __future__ import annotations

from . import (
    activations,
    batch_norm,
    conv,
    conv_transpose,
    dense,
    dropout,
    elementwise,
    embedding,
    merge,
    normalization,
    pooling,
    recurrent,
    reduce,
    resample,
    shape,
    sparse_dense,
)
from .activations import *
from .base import LAYERS, Layer
from .batch_norm import *
from .conv import *
from .conv_transpose import *
from .dense import *
from .dropout import *
from .elementwise import *
from .embedding import *
from .merge import *
from .normalization import *
from .pooling import *
from .recurrent import *
from .reduce import *
from .resample import *
from .shape import *
from .sparse_dense import *

__all__ = ["LAYERS", "Layer"]
__all__ += activations.__all__
__all__ += batch_norm.__all__
__all__ += conv.__all__
__all__ += conv_transpose.__all__
__all__ += dense.__all__
__all__ += dropout.__all__
__all__ += elementwise.__all__
__all__ += embedding.__all__
__all__ += merge.__all__
__all__ += normalization.__all__
__all__ += pooling.__all__
__all__ += recurrent.__all__
__all__ += reduce.__all__
__all__ += resample.__all__
__all__ += shape.__all__
__all__ += sparse_dense.__all__
