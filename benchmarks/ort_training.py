"""ORT-training 1.19.2, the last release: it lives in an environment of its own, for it needs NumPy 1 and onnx 1.16.

`make bench` makes that environment; a worker process in it takes its steps when told to, so that turns alternate.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .learning import Step, Task

PYTHON = Path(__file__).parents[1] / "build" / "ort-training-venv" / "bin" / "python"
WORKER = Path(__file__).with_name("ort_training_worker.py")


class Remote:
    """A worker process that learns; ends with this object. Messages are lines of JSON."""

    def __init__(self, python: Path, folder: tempfile.TemporaryDirectory[str]) -> None:
        self.folder = folder  # lives as long as the worker needs it
        self.log = Path(folder.name) / "log.txt"  # the library tells much
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [python, WORKER, folder.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.ask()

    def ask(self, request: Any = None) -> Any:
        """Send a request, if any, and return the answer."""
        pipes = self.process
        assert pipes.stdin is not None
        assert pipes.stdout is not None
        if request is not None:
            pipes.stdin.write(json.dumps(request) + "\n")
            pipes.stdin.flush()
        answer = pipes.stdout.readline()
        if not answer:
            raise RuntimeError(f"the ORT-training worker ended with {pipes.wait()}:\n{self.log.read_text()[-2000:]}")
        return json.loads(answer)

    def step(self) -> float:
        """Take one step and return the loss before it."""
        return float(self.ask("step"))

    def turn(self, times: int) -> float:
        """See `timing.Contestant`."""
        return float(self.ask(times))

    def __del__(self) -> None:
        pipes = self.process
        if pipes.stdin is not None and pipes.stdout is not None:
            pipes.stdin.close()
            pipes.wait()
            pipes.stdout.close()


def learner(task: Task) -> tuple[Step, Remote]:
    """A step of SGD.

    Raises
    ------
    ImportError : there is no environment with onnxruntime-training
    """
    from .learning import RATE

    if not PYTHON.exists():
        raise ImportError(f"no {PYTHON.relative_to(PYTHON.parents[3])}; `make bench` makes it where a wheel fits")
    folder = tempfile.TemporaryDirectory()
    (Path(folder.name) / "model.onnx").write_bytes(task.net.to_onnx().SerializeToString())
    np.savez(Path(folder.name) / "samples.npz", x=task.x, y=task.y)
    weights = [p.name for p in task.net.parameters()]
    learns = [name for name in weights if name.rsplit(".", 1)[0] in task.trainable]
    settings = {"rate": RATE, "learns": learns, "frozen": [name for name in weights if name not in learns]}
    (Path(folder.name) / "settings.json").write_text(json.dumps(settings))
    remote = Remote(PYTHON, folder)
    return remote.step, remote
