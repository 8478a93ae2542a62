"""Export a model in one call: a model in, ONNX, C header, image and report out."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from .errors import ExportError, NotTakenError
from .files import File, PlaceError, folders_for, replace, sync_folder
from .graph.importer import Imported, load
from .graph.sklearn import from_sklearn, is_estimator
from .labels import class_names
from .lower import lower
from .lower.training import check_loss_output
from .marks import metadata
from .package import package_folders, package_kinds, staged
from .package.folder import Folder
from .program.layers import arithmetic, layers, table_bytes
from .program.plan import infer_arena, plan, train_arena
from .program.program import Program
from .quantization.accuracy import OutputAccuracy
from .quantization.calibrate import Array, fill_states
from .quantization.quantize import Asked, mark, quantize
from .quantization.told import Told, as_it_is, quantize_and_tell
from .writers import naming

#: endings of the files `save` writes
SUFFIXES = {"onnx": ".onnx", "header": ".h", "image": ".ep", "markdown": ".report.md", "html": ".report.html"}


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
    accuracy : of each output, what int8 costs it on the calibration samples: snr_db, worst_tenth_db, columns_db,
        agreement (`OutputAccuracy`); empty where nothing was quantized here
    packages : folders of the libraries for build tools, by kind
    ruined : a sentence for each output whose answers int8 changes, with the cure; empty where they hold
    notes : what is to be said of the model, a sentence each: first of all what is ruined, then what was left out of it
        and which options had no effect
    """

    paths: dict[str, Path]
    program: Program
    model: onnx.ModelProto
    infer_arena: int
    train_arena: int
    flash_bytes: int
    snr: dict[str, float] = field(default_factory=dict)
    accuracy: dict[str, OutputAccuracy] = field(default_factory=dict)
    ruined: list[str] = field(default_factory=list)
    packages: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        learns = f", {self.train_arena:,} bytes to learn" if self.train_arena else ""
        costs = f"flash {self.flash_bytes:,} bytes, RAM {self.infer_arena:,} bytes{learns}"
        paths = (*self.paths.values(), *self.packages.values())
        first = [f"note: {note}" for note in self.ruined]
        notes = [f"note: {note}" for note in self.notes if note not in self.ruined]
        computes = [arithmetic(layers(self.program)), *(f"output {k!r}: {v}" for k, v in self.accuracy.items())]
        lines = [*(f"  {line}" for line in computes), *(f"  {path}" for path in paths)]
        return "\n".join([*first, f"{self.program.name}: {costs}", *lines, *notes])


def save(
    path_stem: str | os.PathLike[str],
    model: Any,
    calibration: Array | Mapping[str, Array] | None = None,
    *,
    trainable: str | Sequence[str] | None = None,
    labels: Sequence[Any] | Mapping[Any, Any] | None = None,
    loss: str | None = None,
    name: str | None = None,
    method: str = "minmax",
    quantized: bool = True,
    package: str | Iterable[str] | None = None,
    states: Mapping[str, str] | None = None,
    sparse: str = "auto",
    loss_output: str | None = None,
    **options: Any,
) -> Exported:
    """Export a model for the device.

    Parameters
    ----------
    path_stem : of the files: "build/digits" gives build/digits.onnx, .h, .ep, .report.md and .report.html
    model : a network of `edgeprop.trainer` (anything with `to_onnx`), a path, the bytes of an ONNX file, a ModelProto, or
        a fitted estimator of scikit-learn (see `from_sklearn`). Weights may stand in regular files in the folder of the
        path, or, where that is a link, of the file it points at; links that lead out of these are not followed
    calibration : (n, ...) typical inputs, a few hundred, in the ONNX layout; a dict by name for several inputs. Without
        them the model is exported as it is: float32, or int8 if it is quantized already
    trainable : layers that learn on the device: names, patterns, "last", "last:2", "bias" (see `find_layers`); what the model's
        metadata says where not given, [] for none
    labels : names of the classes, in the order of the outputs, or a dict between names and indices; of one output that
        tells two classes apart both, that of a no first
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
    loss_output : of several outputs, the one that the loss looks at and labels name; it comes first on the device. Default:
        the first that depends on what trains
    **options : further ones of `quantize`: percentile, per_channel, keep_float, io, equalization, bias_correction,
        scale_inputs

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
    place = _place(name, stem, kinds)
    imported = _as_onnx(model)
    _check_sources(place.paths.values(), imported.files)
    given = imported.proto
    if trainable is None:
        trainable = metadata(given).get("trainable")
    trains = bool(trainable)
    loss_output = loss_output or metadata(given).get("loss_output")
    if loss_output is not None:
        _check_loss_output(loss_output, given)
    texts = None if labels is None else class_names(labels, given, loss, loss_output, trains)
    if texts is None and (said := metadata(given).get("labels")):
        class_names(said, given, loss, loss_output, trains)
    if loss_output is not None:
        onnx.helper.set_model_props(given, _props(given) | {"edgeprop.loss_output": loss_output})
    told: Told | None = None
    if calibration is not None and quantized:
        calibration = fill_states(given, calibration, metadata(given).get("states", {}) if states is None else states)
        told = _quantized(given, calibration, Asked(method=method, trainable=trainable, **options), loss, texts)
        written, notes = told.found.model, [*told.ruined, *imported.notes, *told.notes]
    else:
        written = _as_it_is(given, trainable, loss, texts)
        notes = [*imported.notes, *as_it_is(given, {"method": method, **options}, calibration is not None)]
    if states is not None:
        onnx.helper.set_model_props(written, _props(written) | {"edgeprop.states": json.dumps(dict(states))})
    data = written.SerializeToString(deterministic=True)
    program = lower(data, name=place.name, sparse=sparse)
    program.source = f"{stem.name}.onnx"
    plan(program)
    result = Exported(
        paths=place.paths,
        program=program,
        model=written,
        infer_arena=infer_arena(program),
        train_arena=train_arena(program) if program.trainable() else 0,
        flash_bytes=sum(layer.flash for layer in layers(program)) + table_bytes(program),
        snr=told.snr if told else {},
        accuracy=told.accuracy if told else {},
        ruined=told.ruined if told else [],
        notes=[
            *notes,
            *place.notes,
            *naming.label_notes(program.labels),
            *program.notes,
            *_first_note(program, given),
            *_sparse_note(program, sparse),
        ],
    )
    contents = {kind: write(result) for kind, write in _writers().items()}
    _check_loads(program, contents["image"])
    files = {result.paths[kind]: text for kind, text in {"onnx": data, **contents}.items()}
    around = {stem.parent, *(folder.path.parent for folder in place.folders.values())}
    with folders_for(around), staged(place.folders, program):
        _replace_files(files, place.folders.values())
    result.packages = {kind: folder.path for kind, folder in place.folders.items()}
    return result


def _check_loss_output(name: str, model: onnx.ModelProto) -> None:
    """See that the model has the output that the loss is to look at, before long work."""
    try:
        check_loss_output(name, [value.name for value in model.graph.output])
    except ValueError as error:
        raise ExportError(str(error)) from None


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
        "header": lambda e: header.to_header(e.program, e.paths["header"].name).encode(),
        "image": lambda e: image.to_image(e.program),
        "markdown": lambda e: report.to_markdown(e.program, snr=e.snr, told=e).encode(),
        "html": lambda e: report.to_html(e.program, snr=e.snr, told=e).encode(),
    }


def _quantized(
    model: onnx.ModelProto,
    samples: Array | Mapping[str, Array],
    asked: Asked,
    loss: str | None,
    labels: Sequence[str] | None,
) -> Told:
    """The model quantized and judged; where onnxruntime cannot run it, what the device lacks is said instead."""
    try:
        return quantize_and_tell(model, samples, asked, loss, labels)
    except NotTakenError:
        lower(model)
        raise


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
    if stem.name in ("", "..") or text.endswith(("/", os.sep)):
        raise ExportError(f"{os.fspath(path)!r} names no file: give a stem such as 'build/digits'")
    return stem


def _as_onnx(model: Any) -> Imported:
    """The ONNX model that `model` is, names or can become."""
    if isinstance(model, str | os.PathLike):
        return load(model)
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


def _first_note(program: Program, model: onnx.ModelProto) -> list[str]:
    """A sentence where the output of the loss comes before others that stood before it."""
    first = program.outputs[0].name
    if first == next((v.name for v in model.graph.output if v.name in {p.name for p in program.outputs}), first):
        return []
    return [f"output '{first}' comes first on the device, for the loss looks at it"]


def _sparse_note(program: Program, sparse: str) -> list[str]:
    """A sentence where layers were to be sparse and none is."""
    if sparse != "always" or any(op.kind == "sparse_dense_f32" for op in program.ops):
        return []
    return ["sparse='always' (--sparse always) had no effect: no float32 dense layer has zeros among its weights"]


def _as_it_is(
    model: onnx.ModelProto, trainable: str | Sequence[str] | None, loss: str | None, labels: Sequence[str] | None
) -> onnx.ModelProto:
    """The model itself, with what the device needs to know beside it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return mark(copy, [trainable] if isinstance(trainable, str) else list(trainable or []), loss, labels)


# ---- Files -----------------------------------------------------------------------------------------------------------


@dataclass
class _Place:
    """What an export is called and where it goes: prefix of the C names, files, packages, notes on what was renamed."""

    name: str
    paths: dict[str, Path]
    folders: dict[str, Folder]
    notes: list[str]


def _place(name: str | None, stem: Path, kinds: Sequence[str]) -> _Place:
    """See, before anything is computed, that all can be written and that no other model's place is taken."""
    try:
        found, header, notes = naming.names(name, stem.name, bool(kinds))
        paths = {kind: stem.with_name(stem.name + suffix) for kind, suffix in SUFFIXES.items()}
        paths["header"] = stem.with_name(header)
        for path in paths.values():
            File(path).check()
        notes += naming.check_neighbours(paths["header"], found)
        return _Place(found, paths, package_folders(stem.parent, found, f"{stem.name}.onnx", kinds), notes)
    except (PlaceError, naming.NameTaken) as error:
        raise ExportError(str(error)) from None


def _check_sources(targets: Iterable[Path], sources: Iterable[Path]) -> None:
    """No file, once links are followed, is to be written twice, or is what the model was read from."""
    taken = {os.path.realpath(source): source for source in sources}
    written: dict[str, Path] = {}
    for target in targets:
        real = os.path.realpath(target)
        if real in taken:
            raise ExportError(f"{taken[real]} would be overwritten by its own export: choose another stem or folder")
        if real in written:
            raise ExportError(f"{written[real]} and {target} are the same file: remove the link between them")
        written[real] = target


def _replace_files(contents: Mapping[Path, bytes], folders: Iterable[Folder] = ()) -> None:
    """Write files, and put packages into their places, so that none is ever there by half: all, or none if one fails."""
    files = {File(path): content for path, content in contents.items()}
    with folders_for({file.folder for file in files}):
        try:
            for file, content in files.items():
                file.check()
                file.stage(content, _write)
            replace([*files, *folders])
        finally:
            for file in files:
                file.clean()
    for folder in {file.folder for file in files}:
        sync_folder(folder)


def _write(path: Path, content: bytes) -> None:
    """Write a file down to the disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
