"""List the layers: each module has its own in `__all__`, and `register` puts them into `LAYERS` by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .activations import *
from .base import *
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

if not TYPE_CHECKING:  # which takes all that is imported above, and does not run what follows
    __all__ = ["LAYERS", "Layer", "prune", *(layer.__name__ for layer in LAYERS.values())]
