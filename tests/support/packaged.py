"""A model's packages for build tools, and what the programs in them must print."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import edgeprop
from edgeprop import export

Run = Callable[..., str]


@dataclass
class Packaged:
    """A model's packages."""

    result: export.Exported

    @property
    def name(self) -> str:
        return self.result.program.name

    def copy(self, kind: str, to: Path) -> Path:
        """One package, as a user takes it somewhere else."""
        return Path(shutil.copytree(self.result.packages[kind], to / self.name))

    @cached_property
    def label_and_loss(self) -> tuple[str, float]:
        """What the example of the classifier prints, from Python: of an input of zeros, and a step towards label 0."""
        model = edgeprop.Model(self.result.paths["image"])
        x = np.zeros((1, 1, 8, 8), np.float32)
        label = str(model.classes_[model.predict(x)[0]])
        return label, float(model.partial_fit(x, [model.classes_[0]], lr=0.01).loss_)

    def printed(self, arduino: bool = False) -> str:
        """All that the classifier's example prints."""
        label, loss = self.label_and_loss
        shown = f"{loss:.3f}" if arduino else f"{int(np.float32(1000) * np.float32(loss))}/1000"
        return f"label {label}\nloss {shown}\n{self.name}: ok\n"
