"""The whole road in one call: a model in, ONNX, C header, image and report out."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from .graph.importer import Imported, load
from .graph.sklearn import from_sklearn, is_estimator
from .lower import identifier, lower
from .lower.training import metadata
from .package import package_kinds, staged
from .program.layers import arithmetic, layers, table_bytes
from .program.plan import infer_arena, plan, train_arena
from .program.program import Program
from .quantization.analysis import snr
from .quantization.calibrate import Array
from .quantization.quantize import mark, prepare, quantize

#: endings of the files `save` writes
SUFFIXES = {"onnx": ".onnx", "header": ".h", "image": ".ep", "markdown": ".report.md", "html": ".report.html"}

#: calibration samples that the report's signal-to-noise ratios come from
SNR_SAMPLES = 256


class ExportError(ValueError):
    """A call of `save` that cannot be carried out as it stands."""


@dataclass
class Exported:
    """What `save` wrote.

    Attributes
    ----------
    paths : the files by kind: onnx, header, image, markdown, html
    program : what runs on the device, planned
    model : the ONNX model that was written
    infer_arena, train_arena : bytes of RAM to run it and to let it learn (0: nothing learns)
    flash_bytes : of the model: weights, and the tables around them on a 32-bit target; code comes on top
    snr : dB of each layer's output against float, by name; empty for a float32 model
    packages : folders of the libraries for build tools, by kind
    notes : what of the model was left out, a sentence each
    """

    paths: dict[str, Path]
    program: Program
    model: onnx.ModelProto
    infer_arena: int
    train_arena: int
    flash_bytes: int
    snr: dict[str, float] = field(default_factory=dict)
    packages: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        learns = f", {self.train_arena:,} bytes to learn" if self.train_arena else ""
        costs = f"flash {self.flash_bytes:,} bytes, RAM {self.infer_arena:,} bytes{learns}"
        paths = (*self.paths.values(), *self.packages.values())
        notes = [f"note: {note}" for note in self.notes]
        computes = arithmetic(layers(self.program))
        return "\n".join([f"{self.program.name}: {costs}", f"  {computes}", *(f"  {path}" for path in paths), *notes])


def save(
    path_stem: str | os.PathLike[str],
    model: Any,
    calibration: Array | Mapping[str, Array] | None = None,
    *,
    trainable: str | Sequence[str] | None = None,
    labels: Sequence[Any] | None = None,
    loss: str | None = None,
    name: str | None = None,
    method: str = "minmax",
    quantized: bool = True,
    package: str | Iterable[str] | None = None,
    states: Mapping[str, str] | None = None,
    sparse: str = "auto",
    **options: Any,
) -> Exported:
    """Export a model for the device.

    Parameters
    ----------
    path_stem : of the files: "build/digits" gives build/digits.onnx, .h, .ep, .report.md and .report.html
    model : a network of `edgeprop.trainer` (anything with `to_onnx`), a path, the bytes of an ONNX file, a ModelProto, or
        a fitted estimator of scikit-learn (see `from_sklearn`)
    calibration : (n, ...) typical inputs, a few hundred, in the ONNX layout; a dict by name for several inputs. Without
        them the model is exported as it is: float32, or int8 if it is quantized already
    trainable : layers that learn on the device: names, patterns, "last", "last:2", "bias" (see `find_layers`); what the model's
        metadata says where not given, [] for none
    labels : names of the classes, in the order of the outputs
    loss : what the device minimises; default that of a final Softmax or Sigmoid, with labels `softmax_cross_entropy`
    name : prefix of the C names; default that of the files
    method : how int8 ranges are chosen: "minmax", "percentile", "mse", or "auto", which tries them value by value
    quantized : False exports float32 in spite of a calibration
    package : build tools to write a library for, beside the other files: "arduino", "cmake", "esp-idf", "platformio",
        "zephyr", or several of them; build/digits gives build/arduino/digits/ and so on
    states : of a model that runs on a stream: inputs that are its state, with the output that is the state after a step,
        {"h": "h_next"}; they are kept on the device and are no inputs or outputs there
    sparse : which float32 dense layers store their non-zero weights alone: "auto" (frozen ones of at most a quarter),
        "never", "always" (trainable ones too, whose zeros then stay zero)
    **options : further ones of `quantize`: percentile, per_channel, keep_float, io, equalization, bias_correction

    Returns
    -------
    Exported : paths, program and sizes; prints as a few lines

    Raises
    ------
    ExportError, QuantizeError, CalibrationError, UnsupportedError, PackageError : all ValueErrors that say what to
        change; no file is written then
    """
    _check_options(options)
    stem = _stem(path_stem)
    kinds = package_kinds(package)
    name = _c_name(name, stem)
    imported = _as_onnx(model, stem)
    given = imported.proto
    if trainable is None:
        trainable = metadata(given).get("trainable")
    texts = None if labels is None else _texts(labels, given)
    extras: dict[str, float] = {}
    if calibration is not None and quantized:
        options = {"method": method, "trainable": trainable, "loss": loss, "labels": texts, **options}
        written = _quantized(given, calibration, options)
        normal, _ = prepare(given, calibration, trainable, bool(options.get("equalization")))
        extras = snr(normal, written, _first(calibration, SNR_SAMPLES))
    else:
        written = _as_it_is(given, trainable, loss, texts)
    if states is not None:
        onnx.helper.set_model_props(written, _props(written) | {"edgeprop.states": json.dumps(dict(states))})
    data = written.SerializeToString(deterministic=True)
    program = lower(data, name=name, sparse=sparse)
    program.source = f"{stem.name}.onnx"
    plan(program)
    result = Exported(
        paths={kind: stem.with_name(stem.name + suffix) for kind, suffix in SUFFIXES.items()},
        program=program,
        model=written,
        infer_arena=infer_arena(program),
        train_arena=train_arena(program) if program.trainable() else 0,
        flash_bytes=sum(layer.flash for layer in layers(program)) + table_bytes(program),
        snr=extras,
        notes=imported.notes,
    )
    contents = {kind: write(result) for kind, write in _writers().items()}
    _check_loads(program, contents["image"])
    with staged(stem.parent, program, kinds) as folders:
        _replace_files({result.paths[kind]: text for kind, text in {"onnx": data, **contents}.items()})
        for folder in folders.values():
            folder.put()
    result.packages = {kind: folder.path for kind, folder in folders.items()}
    return result


def _check_loads(program: Program, image: bytes) -> None:
    """What is written, a device takes."""
    from .writers.image import refusal

    refused = refusal(program, image)
    if refused is not None:
        raise ExportError(refused)


def _props(model: onnx.ModelProto) -> dict[str, str]:
    return {prop.key: prop.value for prop in model.metadata_props}


def _writers() -> dict[str, Callable[[Exported], bytes]]:
    """How each file but the ONNX one comes from what was exported."""
    from .writers import header, image, report

    return {
        "header": lambda e: header.to_header(e.program).encode(),
        "image": lambda e: image.to_image(e.program),
        "markdown": lambda e: report.to_markdown(e.program, snr=e.snr).encode(),
        "html": lambda e: report.to_html(e.program, snr=e.snr).encode(),
    }


def _quantized(
    model: onnx.ModelProto, samples: Array | Mapping[str, Array], options: dict[str, Any]
) -> onnx.ModelProto:
    """`quantize`; where onnxruntime cannot run the model, what the device lacks is said instead."""
    try:
        return quantize(model, samples, **options)
    except ValueError:
        raise
    except Exception as error:  # onnxruntime's own
        lower(model)
        raise ExportError(f"onnxruntime does not run the model: {str(error).splitlines()[0]}") from error


def _check_options(options: Iterable[str]) -> None:
    known = [name for name in inspect.signature(quantize).parameters if name not in ("model", "calibration")]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ExportError(f"unknown option {unknown[0]!r}: those of quantize are {', '.join(known)}")


# ---- What was given --------------------------------------------------------------------------------------------------


def _stem(path: str | os.PathLike[str]) -> Path:
    """The path without an ending that `save` adds itself."""
    text = os.fspath(path)
    for suffix in SUFFIXES.values():
        text = text.removesuffix(suffix)
    stem = Path(text)
    if not stem.name:
        raise ExportError(f"{os.fspath(path)!r} names no file: give a stem such as 'build/digits'")
    return stem


def _c_name(name: str | None, stem: Path) -> str:
    """The prefix of the C names."""
    if name is None:
        return identifier(stem.name)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ExportError(f"name={name!r} is no C identifier: use {identifier(name)!r}")
    return name


def _as_onnx(model: Any, stem: Path) -> Imported:
    """The ONNX model that `model` is, names or can become."""
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        if path.exists() and path.resolve() == stem.with_name(stem.name + ".onnx").resolve():
            raise ExportError(f"{path} would be overwritten by its own export: choose another stem or folder")
        return load(path)
    if isinstance(model, onnx.ModelProto | bytes):
        return load(model)
    if is_estimator(model):
        return load(from_sklearn(model))
    if hasattr(model, "to_onnx"):
        try:
            return load(model.to_onnx())
        except TypeError as error:
            what = f"{type(model).__name__}.to_onnx() does not work without arguments ({error})"
            raise ExportError(f"{what}: give the network, not a layer") from error
    raise ExportError(
        f"{type(model).__name__} is no model: give a path, bytes, a ModelProto or a network with to_onnx()"
    )


def _texts(labels: Sequence[Any], model: onnx.ModelProto) -> list[str]:
    """Labels as texts, as many as the model has classes."""
    texts = [labels] if isinstance(labels, str) else [str(label) for label in labels]
    dims = model.graph.output[0].type.tensor_type.shape.dim
    classes = dims[-1].dim_value if dims else 0
    if classes and len(texts) != classes:
        raise ExportError(f"{len(texts)} labels for an output of {classes} values: give one label per class")
    if len(set(texts)) != len(texts):
        raise ExportError(
            f"labels {sorted({t for t in texts if texts.count(t) > 1})} come twice: give each class its own"
        )
    return texts


def _first(samples: Array | Mapping[str, Array], n: int) -> Array | dict[str, Array]:
    """The first n samples."""
    if isinstance(samples, Mapping):
        return {key: array[:n] for key, array in samples.items()}
    return samples[:n]


def _as_it_is(
    model: onnx.ModelProto, trainable: str | Sequence[str] | None, loss: str | None, labels: Sequence[str] | None
) -> onnx.ModelProto:
    """The model itself, with what the device needs to know beside it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return mark(copy, [trainable] if isinstance(trainable, str) else list(trainable or []), loss, labels)


# ---- Files -----------------------------------------------------------------------------------------------------------


def _replace_files(contents: Mapping[Path, bytes]) -> None:
    """Write files so that none is ever there by half: all are written beside their places, then renamed into them."""
    staged = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in contents}
    next(iter(contents)).parent.mkdir(parents=True, exist_ok=True)
    try:
        for path, content in contents.items():
            _write(staged[path], content)
        for path, temporary in staged.items():
            os.replace(temporary, path)
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    """Write a file down to the disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
