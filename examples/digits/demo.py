"""Handwritten digits from end to end: train, quantize, export, compile, and keep learning on the device.

    python examples/digits/demo.py --out build/demo

Everything is real: scikit-learn's 1,797 scanned digits of 8 x 8 pixels, a convolutional net trained here with NumPy,
and a C program built around the generated header, which plays the device. Needs `pip install edgeprop[demo]` and a C
compiler.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for `python -m examples.digits.demo`
import board
import pictures
from shifted_world import shifted

import edgeprop
from edgeprop import export
from edgeprop import trainer as t
from edgeprop.export.graph import reference
from edgeprop.export.writers.image import to_image

Array = np.ndarray[Any, np.dtype[Any]]

PER_CLASS = 10  # labelled digits of its own that the device gets, and originals it keeps for rehearsal
PASSES, RATE = 40, 0.03  # what served shifted validation digits best


class Digits(NamedTuple):
    """Images (n, 1, 8, 8) float32, 0 for paper to 1 for ink, and their classes (n,)."""

    x: Array
    y: Array

    def few(self, per_class: int) -> Digits:
        """The first so many of each class."""
        chosen = np.concatenate([np.flatnonzero(self.y == digit)[:per_class] for digit in range(10)])
        return Digits(self.x[chosen], self.y[chosen])


def main(out: Path) -> dict[str, Any]:
    """Run the demo, write everything to `out` and return the summary."""
    out.mkdir(parents=True, exist_ok=True)

    # 1. Data. The test digits are looked at once training is over; the user's digits are in none of the others.
    train, validation, user, test = split_digits()

    # 2. Train a small net on the desktop.
    began = time.perf_counter()
    net, history = train_net(train, validation)
    train_seconds = time.perf_counter() - began
    float_accuracy = accuracy(net.predict(test.x).argmax(1), test.y)

    # 3. Export it: int8 but for the head, which stays float32 and goes on learning.
    exported = export.save(out / "digits", net, calibration=train.x[:256], trainable="head", labels=range(10))
    for kind, name in (("markdown", "report.md"), ("html", "report.html")):
        exported.paths[kind].replace(out / name)

    # 4. Compile the header into a device, and see that C, Python and onnxruntime agree on every test digit.
    device = board.build(out)
    model = edgeprop.Model(out / "digits.ep")
    int8_accuracy = compare_answers(device, model, exported.model, test)
    mismatches = count_mismatches(model, exported, test) + count_int8_mismatches(net, train, test)

    # 5. The world changes: the camera is mounted askew, strokes run, the light is poor.
    shifted_test, shifted_user = Digits(shifted(test.x), test.y), Digits(shifted(user.x), user.y)
    before, _ = device.predict(shifted_test.x)
    shifted_accuracy = accuracy(before, test.y)

    # 6. The device adapts: ten labelled digits of each class from the new world, and ten it kept from the old one, so
    #    that it does not forget (rehearsal). It writes what it learned to its flash; the net in its program stays.
    lesson = shuffled_passes(shifted_user.few(PER_CLASS), train.few(PER_CLASS))
    device.head = out / "device.head"
    device.head.unlink(missing_ok=True)
    began = time.perf_counter()
    losses = device.learn(lesson.x, lesson.y, RATE)
    adapt_seconds = time.perf_counter() - began
    model.partial_fit(lesson.x, lesson.y, lr=RATE)
    after, logits = device.predict(shifted_test.x)
    require_equal("adapted C and Python", logits, model.decision_function(shifted_test.x))
    adapted_accuracy = accuracy(after, test.y)
    originals_accuracy = accuracy(device.predict(test.x)[0], test.y)

    # 7. What came of it.
    pictures.draw(
        out / "digits.png",
        originals=test.few(1).x,
        shifted=shifted(test.few(1).x),
        history=history,
        losses=losses.reshape(PASSES, -1).mean(1),
        truth=test.y,
        before=before,
        after=after,
    )
    summary = {
        "float_accuracy": float_accuracy,
        "int8_accuracy": int8_accuracy,
        "shifted_accuracy": shifted_accuracy,
        "adapted_accuracy": adapted_accuracy,
        "int8_mismatches": mismatches,
        "flash_bytes": exported.flash_bytes,
        "infer_arena_bytes": exported.infer_arena,
        "train_arena_bytes": exported.train_arena,
        "runtime_code_bytes": board.runtime_code_bytes(out),
        "train_seconds": round(train_seconds, 2),
        "adapt_seconds": round(adapt_seconds, 3),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(table(summary, originals_accuracy, len(test.y), len(lesson.y) // PASSES))
    print(f"\nIn {out}: digits.onnx, digits.h, digits.ep, report.md, report.html, digits.png, summary.json, device")
    return summary


# ---- The steps -------------------------------------------------------------------------------------------------------


def split_digits() -> tuple[Digits, Digits, Digits, Digits]:
    """1,047 digits to train on, 150 to validate, 150 of the device's user, 450 to test, alike in their classes."""
    bundle = load_digits()
    x, y = (bundle.images[:, None] / 16).astype(np.float32), bundle.target
    rest, test = train_test_split(np.arange(len(y)), test_size=450, stratify=y, random_state=0)
    rest, user = train_test_split(rest, test_size=150, stratify=y[rest], random_state=0)
    train, validation = train_test_split(rest, test_size=150, stratify=y[rest], random_state=0)
    parts = [Digits(x[part], y[part]) for part in (train, validation, user, test)]
    return parts[0], parts[1], parts[2], parts[3]


def train_net(train: Digits, validation: Digits) -> tuple[t.Sequential, t.History]:
    """A net of two convolutions, small enough for any microcontroller."""
    net = t.Sequential(
        t.Conv2D(16, 3, padding="same"),
        t.ReLU(),
        t.MaxPool2D(2),
        t.Conv2D(48, 3, padding="same"),
        t.ReLU(),
        t.MaxPool2D(2),
        t.Flatten(),
        t.Dropout(0.3),
        t.Dense(10, name="head"),
        name="digits",
    )
    optimizer = t.Adam(t.CosineDecay(5e-3, epochs=40))
    history = t.fit(net, train.x, train.y, optimizer=optimizer, epochs=40, validation=validation, seed=1)
    return net, history


def compare_answers(device: board.Board, model: edgeprop.Model, onnx_model: Any, test: Digits) -> float:
    """Accuracy of the exported model; C, Python and onnxruntime must give the same answers."""
    classes, logits = device.predict(test.x)
    require_equal("C and Python", logits, model.decision_function(test.x))
    expected = reference.run(onnx_model, {"input": test.x})["output"]
    if np.abs(logits - expected).max() > 1e-5 * np.abs(expected).max():
        raise SystemExit("demo: C and onnxruntime differ")
    return accuracy(classes, test.y)


def require_equal(what: str, a: Array, b: Array) -> None:
    """Stop if two float32 results differ by more than rounding: kernels for vectors may sum a batch in another order."""
    if not np.allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max()):
        raise SystemExit(f"demo: {what} differ in {np.count_nonzero(a != b)} of {a.size} values")


def count_mismatches(model: edgeprop.Model, exported: export.Exported, test: Digits) -> int:
    """Elements of the int8 tensor that feeds the head which are not what onnxruntime computes."""
    name = next(op.inputs[0] for op in exported.program.ops if op.kind == "dequantize")
    ours = model.trace(test.x)[name]  # NHWC
    theirs = reference.intermediates(reference.fuse(exported.model), {"input": test.x}, [name])[name]  # NCHW
    return int(np.count_nonzero(ours != theirs.transpose(0, 2, 3, 1)))


def count_int8_mismatches(net: t.Sequential, train: Digits, test: Digits) -> int:
    """The same for all outputs of the net in int8 from end to end."""
    whole = export.quantize(net.to_onnx(), train.x[:256], io="int8")
    model = edgeprop.Model(to_image(export.lower(whole, name="digits_int8")))
    port = model.inputs[0]
    codes = np.clip(np.rint(test.x / np.float32(port.scale)) + port.zero_point, -128, 127).astype(np.int8)
    return int(np.count_nonzero(model.run(codes)[0] != reference.run(whole, {port.name: codes})["output"]))


def shuffled_passes(new: Digits, kept: Digits) -> Digits:
    """Both sets together PASSES times over, each time in another order."""
    x, y = np.concatenate([new.x, kept.x]), np.concatenate([new.y, kept.y])
    rng = np.random.default_rng(0)
    order = np.concatenate([rng.permutation(len(y)) for _ in range(PASSES)])
    return Digits(x[order], y[order])


def accuracy(predicted: Array, truth: Array) -> float:
    """Share of right answers, to four digits."""
    return round(float(np.mean(predicted == truth)), 4)


def table(summary: dict[str, Any], originals: float, n_test: int, n_lesson: int) -> str:
    """What the demo prints."""
    s = summary
    won = (s["adapted_accuracy"] - s["shifted_accuracy"]) / max(s["int8_accuracy"] - s["shifted_accuracy"], 1e-9)
    rows = [
        (f"Accuracy on {n_test} test digits", ""),
        ("  float32, on the desktop", f"{s['float_accuracy']:.1%}"),
        ("  int8, on the device", f"{s['int8_accuracy']:.1%}"),
        ("  int8, world shifted", f"{s['shifted_accuracy']:.1%}"),
        (f"  after adapting with {n_lesson // 2} new and {n_lesson // 2} kept digits", f"{s['adapted_accuracy']:.1%}"),
        ("    share of the loss won back", f"{won:.0%}"),
        ("    and on the original digits", f"{originals:.1%}"),
        ("C against onnxruntime, int8 values that differ", f"{s['int8_mismatches']}"),
        ("Flash: the model, weights and tables", f"{s['flash_bytes']:,} B"),
        ("Flash: code of the runtime, this PC, -Os", f"{s['runtime_code_bytes']:,} B"),
        ("RAM to infer", f"{s['infer_arena_bytes']:,} B"),
        ("RAM to learn", f"{s['train_arena_bytes']:,} B"),
        ("Training on the desktop", f"{s['train_seconds']:.1f} s"),
        (f"Adapting in C, {n_lesson * PASSES:,} steps", f"{s['adapt_seconds']:.2f} s"),
    ]
    return "\n".join(f"{left:<58}{right:>10}".rstrip() for left, right in rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", "--output", type=Path, default=Path("build/demo"), metavar="DIR", help="[build/demo]")
    main(parser.parse_args().out)
