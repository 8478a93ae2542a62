"""The process that learns with ORT-training. Needs only what its environment has; see `ort_training.py`.

    python ort_training_worker.py FOLDER

FOLDER holds model.onnx, samples.npz and settings.json. Says `true` when ready; a line "step" takes a step and answers the
loss, a number times that many and answers seconds a step.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import types
from pathlib import Path


def import_training():
    """Import `onnxruntime.training` without its __init__, which wants PyTorch for parts that are not used here."""
    import onnxruntime

    package = types.ModuleType("onnxruntime.training")
    package.__path__ = [str(Path(onnxruntime.__file__).parent / "training")]
    sys.modules[package.__name__] = package
    from onnxruntime.training import api, artifacts

    return onnxruntime, api, artifacts


def learner(folder: Path):
    """Return a function that takes one step, and returns the loss before it as an OrtValue."""
    ort, api, artifacts = import_training()
    import numpy as np
    import onnx

    settings = json.loads((folder / "settings.json").read_text())
    artifacts.generate_artifacts(
        onnx.load(folder / "model.onnx"),
        requires_grad=settings["learns"],
        frozen_params=settings["frozen"],
        loss=artifacts.LossType.CrossEntropyLoss,
        optimizer=artifacts.OptimType.SGD,
        artifact_directory=folder,
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    state = api.CheckpointState.load_checkpoint(folder / "checkpoint")
    module = api.Module(folder / "training_model.onnx", state, session_options=options)
    optimizer = api.Optimizer(folder / "optimizer_model.onnx", module)
    optimizer.set_learning_rate(settings["rate"])
    samples = np.load(folder / "samples.npz")
    inputs = [ort.OrtValue.ortvalue_from_numpy(samples[key]) for key in ("x", "y")]

    def step():
        loss = module(*inputs)
        optimizer.step()
        module.lazy_reset_grad()
        return loss

    return step


def turn(step, times: int) -> float:
    """Return seconds of processor time a step, after one that is not timed."""
    step()
    start = time.process_time()
    for _ in range(times):
        step()
    return (time.process_time() - start) / times


def main() -> None:
    """Answer requests until there are no more."""
    logging.disable(logging.INFO)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    step = learner(Path(sys.argv[1]))
    print(json.dumps(True), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = float(step().numpy()) if request == "step" else turn(step, request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
