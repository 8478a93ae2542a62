"""One inference, batch 1, beside LiteRT and onnxruntime."""

from __future__ import annotations

from typing import Any

from edgeprop import export

from . import models, peak, peers
from .rows import Row, row
from .timing import Call, Effort, Local, interleaved

DTYPES = ("int8", "f32")
#: whom the goal is set against; of several the fastest
RIVALS = {"int8": ("LiteRT", "onnxruntime"), "f32": ("onnxruntime",)}


def works() -> list[str]:
    """Names of the rows."""
    return [f"{work}_infer" for work in models.BUILDERS]


def compare(work: str, dtype: str, effort: Effort) -> Row:
    """Return the row of a work, `dtype` "int8" or "f32"."""
    net = work.removesuffix("_infer")
    model, source = models.load(net, dtype)
    inputs = peers.random_inputs(model, 1)
    program = export.lower(model)
    ours, spent = peers.ours(program, inputs)
    calls: dict[str, Call] = {"ours": ours, "onnxruntime": peers.onnxruntime(model, inputs)}
    notes = []
    try:
        calls["LiteRT"] = _litert(net, dtype, inputs)
    except (ImportError, FileNotFoundError) as reason:
        notes.append(f"LiteRT skipped: {reason}")
    best = interleaved({name: Local(call) for name, call in calls.items()}, effort)
    more: dict[str, Any] = {"model": source, "notes": notes, "spent_us": spent}
    more.update(peak.distance(peak.inference(program), best["ours"]))
    return row(work, dtype, 1, best, RIVALS[dtype], **more)


def _litert(net: str, dtype: str, inputs: peers.Arrays) -> Call:
    """The reference model as LiteRT takes it; it lies beside the ONNX file that was made of it."""
    file = models.FOLDER / f"{models.REFERENCE[net][dtype == 'int8']}.tflite"
    if not file.is_file():
        raise FileNotFoundError(f"no {file.name} in {file.parent}")
    return peers.litert(file, inputs)
