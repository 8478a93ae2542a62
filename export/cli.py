"""The `edgeprop` command. Each subcommand imports what it needs when it runs: `adapt`, `inspect` and `version` work
with numpy and cffi alone."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgeprop
from edgeprop._files import read

from . import label_files
from .arrays import read_npy, read_npz
from .package import KINDS
from .recognize import IMAGE, NPY, NPZ, kind_of, kind_within, open_regular, shown

__all__ = ["main"]

#: exit codes
OK, FAILED, USAGE = 0, 1, 2

_EXIT = "exit code: 0 done, 1 a check failed or differed, 2 the command or its files are wrong"
Arrays = dict[str, NDArray[Any]]


class UserError(Exception):
    """Something the user can put right; the message says how."""


# ---- Files ------------------------------------------------------------------------------------------------------


def read_arrays(path: str, wanted: Sequence[str] | None = None) -> Arrays:
    """Arrays of an .npz by name, or the array of an .npy under the name "x".

    Nothing is read of a file that says it is larger than it is, and nothing that is no plain array.

    Parameters
    ----------
    wanted : names of those of an .npz that are read; all plain ones where not given
    """
    kind = kind_of(path) or kind_within(path)
    if kind is not None and kind not in (NPZ, NPY):
        raise UserError(f"{path} is {kind.what}, not an .npz or .npy of samples: {kind.to_arrays}")
    try:
        if kind is not NPZ:
            return {"x": read_npy(path)}
        arrays, left_out = read_npz(path, wanted)
    except MemoryError as error:
        raise UserError(f"{path}: its arrays do not fit into memory: give fewer samples") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is not an .npz or .npy file of plain arrays: {shown(str(error))}") from error
    if left_out and wanted is None:
        print(f"note: {path}: {', '.join(left_out)} left out, which hold Python objects", file=sys.stderr)
    return arrays


def read_samples(path: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Arrays `x` and `y` of an .npz."""
    arrays = read_arrays(path, ("x", "y"))
    if not {"x", "y"} <= arrays.keys():
        held = ", ".join(read_arrays(path)) or "nothing"
        raise UserError(f"{path} holds {held}; it needs arrays x (samples) and y (targets)")
    return arrays["x"], arrays["y"]


def _exporter(name: str, module: str = "edgeprop.export") -> Any:
    """A function of the exporter."""
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        cure = "pip install 'edgeprop[export]'"
        raise UserError(f"this needs the exporter ({error}); install it with: {cure}") from error


# ---- Subcommands ------------------------------------------------------------------------------------------------


def run_export(args: argparse.Namespace) -> int:
    """ONNX model to .onnx (quantized), .h, .ep and a report."""
    save = _exporter("save")
    _find_model(args)
    _needs_calibration(args)
    _check_folder(args.output)
    name = args.name or Path(args.model).stem
    if Path(name).name != name or name == "..":
        raise UserError(f"--name {name} is a path: give the folder by -o, and the name alone")
    options = {"trainable": args.trainable, "labels": _labels(args.labels), "loss": args.loss, "method": args.method}
    options["sparse"] = args.sparse
    given = {key: value for key, value in options.items() if value is not None}
    if args.float == []:
        given["quantized"] = False
    elif args.float:
        given["keep_float"] = args.float
    if args.equalize:
        given["equalization"] = True
    if args.scale_inputs:
        given["scale_inputs"] = args.scale_inputs
    if args.state:
        given["states"] = dict(args.state)
    if args.loss_output:
        given["loss_output"] = args.loss_output
    if args.package:
        given["package"] = args.package
    samples = _calibration(args.calibration) if args.calibration else None
    exported = save(args.output / name, args.model, calibration=samples, **given)
    print(exported)
    if samples is None and args.float is None and not _has_codes(exported):
        print("note: no --calibration, so nothing was quantized; float layers stay float32", file=sys.stderr)
    return OK


def _has_codes(exported: Any) -> bool:
    """Whether the exported model was quantized already."""
    program = getattr(exported, "program", None)
    return program is not None and any(op.kind.endswith("_s8") or op.kind.startswith("dynamic_") for op in program.ops)


def _check_folder(folder: Path) -> None:
    """See, before anything is read, that a folder is there or can be made; `save` makes it, if it has something to write."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"{folder} cannot be a folder, for a file is in the way: choose another with -o")


def _needs_calibration(args: argparse.Namespace) -> None:
    """Refuse options of quantizing where nothing is quantized."""
    options = {"--float LAYER": args.float, "--equalize": args.equalize, "--calibration-method": args.method}
    options["--scale-inputs"] = args.scale_inputs
    asked = [flag for flag, value in options.items() if value]
    if asked and not args.calibration:
        raise UserError(f"{asked[0]} says how to quantize: add --calibration X.npz")


def _find_model(args: argparse.Namespace) -> None:
    """`--float model.onnx`: what follows the option may be the model and no layer."""
    if args.model is None and args.float:
        args.model = args.float.pop()
    if args.model is None:
        raise UserError("no model given: edgeprop export MODEL.onnx")


def _said(text: str) -> str:
    """A path or name that is one: `--save "$HEAD"` of a variable that is not set would otherwise be no option at all."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty: is a variable of the shell not set?")
    return text


def _folder(text: str) -> Path:
    return Path(_said(text))


def _count(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, 0 or more")
    return int(text)


def _pair(text: str) -> tuple[str, str]:
    """`h=h_next`."""
    name, found, following = text.partition("=")
    if not (name and found and following):
        raise argparse.ArgumentTypeError(f"{text!r}: write INPUT=OUTPUT, as in h=h_next")
    return name, following


def _calibration(path: str) -> NDArray[Any] | Arrays:
    """One array needs no name; several are told apart by the names of the graph's inputs."""
    arrays = read_arrays(path)
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def _labels(text: str | None) -> list[str] | None:
    """`a,b,c`, `range:10`, or a file with one label a line, or a list or a mapping of them in JSON."""
    if text is None:
        return None
    if text.startswith("range:") and text[6:].isdigit():
        return [str(i) for i in range(int(text[6:]))]
    if os.path.exists(text):
        return read_labels(text)
    if "," not in text and (os.sep in text or Path(text).suffix.lower() in label_files.ENDINGS):
        raise UserError(f"{text}: no such file of labels; give one that is there, or the labels themselves: a,b,c")
    return [label.strip() for label in text.split(",")]


def read_labels(path: str) -> list[str]:
    """The names in a file, see `label_files`."""
    try:
        return label_files.read_labels(path)
    except label_files.BadLabels as error:
        raise UserError(str(error)) from error


def run_check(args: argparse.Namespace) -> int:
    """The device's answers beside onnxruntime's."""
    try:
        result = _check_quantized(args) if args.calibration else _check_as_it_is(args)
    except _USER_ERRORS as error:
        if not args.json:
            raise
        _print_check_json({"status": "error", "message": _message(error)})
        return USAGE
    if args.json:
        _print_check_json({key: getattr(result, key) for key in _CHECK_KEYS})
    else:
        print(f"{result.status}: {result.message}")
        details = result.details(args.layers) if hasattr(result, "details") else result.layers
        for layer in details:
            print(f"  {layer}")
    return OK if result.status == "ok" else FAILED


def _check_as_it_is(args: argparse.Namespace) -> Any:
    _needs_calibration(args)
    inputs = read_arrays(args.inputs) if args.inputs else None
    return _exporter("check")(args.model, inputs, seed=args.seed)


def _check_quantized(args: argparse.Namespace) -> Any:
    """The model as `export` would quantize it."""
    if args.inputs:
        raise UserError("--inputs goes with a model as it is; with --calibration its samples are the inputs")
    if args.float == []:
        raise UserError("--float without a LAYER leaves nothing to quantize: leave --calibration out, or name layers")
    options = {"method": args.method, "keep_float": args.float, "equalization": args.equalize}
    options["scale_inputs"] = args.scale_inputs
    given = {key: value for key, value in options.items() if value}
    quantized = _exporter("check_quantized", "edgeprop.export.check")
    return quantized(args.model, _calibration(args.calibration), **given)


_CHECK_KEYS = {
    "status": "error",
    "max_abs_error": None,
    "max_rel_error": None,
    "mismatches": None,
    "elements": None,
    "message": "",
}


def _print_check_json(values: dict[str, Any]) -> None:
    """One object with exactly the keys above; what JSON has no number for is null."""
    found = {key: values.get(key, default) for key, default in _CHECK_KEYS.items()}
    for key, value in found.items():
        if isinstance(value, np.generic):
            found[key] = value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            found[key] = None
    print(json.dumps(found))


def run_inspect(args: argparse.Namespace) -> int:
    """What is in an image, a saved head or an ONNX graph, by its first bytes."""
    kind_of(args.file)  # which refuses what is no regular file, or empty
    with open_regular(args.file) as file:
        magic = file.read(4)
    print(_INSPECTORS.get(magic, _inspect_onnx)(args.file))
    return OK


def _inspect_image(path: str) -> str:
    return edgeprop.Model(path, max_memory=None).summary()  # it is looked at, not run


def _inspect_head(path: str) -> str:
    data = read(path, 32)
    if len(data) < 32:
        raise UserError(f"{path} is a saved head cut off after {len(data)} bytes")
    crc, sequence, _, _, size = np.frombuffer(data, "<u4", 5, 4).tolist()
    data = read(path, 32 + min(size, os.path.getsize(path)))
    whole = len(data) >= 32 + size and edgeprop.runtime.crc32(data[8 : 32 + size]) == crc
    state = "whole" if whole else "damaged: it will not be restored"
    return f"saved head of model {data[12:20].hex()}, record {sequence}, {size // 4:,} weights, {state}"


def _inspect_onnx(path: str) -> str:
    kind = kind_of(path)
    if kind is not None:
        raise UserError(f"{path} is {kind.what}, not a model image, a saved head or an .onnx file: {kind.to_model}")
    if not path.endswith(".onnx"):
        raise UserError(f"{path} is not a model image, a saved head or an .onnx file")
    program = _exporter("lower")(path)
    _exporter("plan")(program)
    image = _exporter("to_image", "edgeprop.export.writers.image")(program)
    return edgeprop.Model(image, max_memory=None).summary()


_INSPECTORS: dict[bytes, Callable[[str], str]] = {b"EPM1": _inspect_image, b"EPH1": _inspect_head}


def _needs_image(path: str) -> None:
    """Refuse a file that is something else than an image."""
    kind = kind_of(path) or kind_within(path)
    if kind is not None and kind is not IMAGE:
        raise UserError(f"{path} is {kind.what}, not an image (.ep): edgeprop export writes one")


def run_adapt(args: argparse.Namespace) -> int:
    """Learns from samples and tells what that changed; what has become worse is not saved unless that is forced."""
    _needs_image(args.model)
    model = edgeprop.Model(args.model)
    if args.restore:
        model.restore(args.restore)
    if args.save:
        model.check_save(args.save)
    x, y = read_samples(args.data)
    held_out = read_samples(args.validation) if args.validation else None
    judged = held_out or (x, y)
    before, loss = _scores(model, (x, y), held_out), _loss(model, *judged)
    model.reset_state().partial_fit(
        x,
        y,
        lr=args.lr,
        optimizer=args.optimizer,
        batch_size=args.batch_size,
        epochs=args.epochs,
        shuffle=args.shuffle,
        seed=args.seed,
    )
    after = _scores(model, (x, y), held_out)
    print(f"{model.name}: {len(x)} samples, {args.epochs} epochs, loss {model.loss_curve_[0]:.4g} -> {model.loss_:.4g}")
    for name in before:
        print(f"  {name} {before[name]:.4f} -> {after[name]:.4f}")
    worse = _worse(before, after, loss, _loss(model, *judged))
    if worse:
        cure = "saved all the same" if args.save and args.force else "a smaller --lr may help"
        kept = f"; {args.save} is as it was, --force saves it" if args.save and not args.force else ""
        print(f"edgeprop: worse than before: {worse}{kept}; {cure}", file=sys.stderr)
    if args.save and (args.force or not worse):
        model.save(args.save)
        print(f"  saved {args.save}")
    return FAILED if worse and not args.force else OK


def _loss(model: edgeprop.Model, x: NDArray[Any], y: NDArray[Any]) -> float:
    """Mean loss as the model is now: that of a pass that skips every sample for having so small a loss."""
    return model.clone().partial_fit(x, y, skip_below=float(np.finfo(np.float32).max)).loss_


def _worse(before: dict[str, float], after: dict[str, float], loss: float, loss_after: float) -> str:
    """What has become worse on the samples that judge, which are the last of the scores; empty for nothing."""
    name = list(before)[-1]
    on = name.partition(" ")[2]
    found = []
    if not loss_after <= loss * (1 + 1e-6):  # of rounding
        found.append(f"loss {on} {loss:.4g} -> {loss_after:.4g}")
    if not after[name] >= before[name]:
        found.append(f"{name} {before[name]:.4f} -> {after[name]:.4f}")
    return ", ".join(found)


def _scores(model: edgeprop.Model, *sets: tuple[NDArray[Any], NDArray[Any]] | None) -> dict[str, float]:
    what = "accuracy" if hasattr(model, "classes_") else "R2"
    names = (f"{what} on these samples", f"{what} on the validation samples")
    given = {name: samples for name, samples in zip(names, sets, strict=True) if samples is not None}
    return {name: model.reset_state().score(*samples) for name, samples in given.items()}  # a stream begins anew


def run_version(args: argparse.Namespace) -> int:
    """Versions of the package and of what it found."""
    print(f"edgeprop {edgeprop.__version__}, layout of the C structs (EP_ABI) {edgeprop.runtime.ABI}")
    for name in ("numpy", "cffi", "onnx", "onnxruntime"):
        try:
            print(f"  {name} {importlib.import_module(name).__version__}")
        except ImportError:
            print(f"  {name} not installed")
    print(f"  C sources {edgeprop.include_dir()}")
    return OK


# ---- The command line -------------------------------------------------------------------------------------------

Add = Callable[..., argparse.ArgumentParser]


def _add_export(add: Add) -> None:
    command = add(
        "export",
        run_export,
        "quantize an ONNX model and write it as .onnx, .h (C), .ep (image) and a report",
        "edgeprop export model.onnx --calibration x.npz --trainable head -o build/\n"
        "edgeprop export model.onnx --calibration x.npz --package arduino --package zephyr -o build/\n"
        "edgeprop export model.onnx --calibration x.npz --calibration-method auto --float conv1 'block2*' -o build/\n"
        "edgeprop export model.onnx --float --name motor -o build/",
    )
    command.add_argument("model", metavar="MODEL.onnx", nargs="?")
    command.add_argument("-o", "--output", type=_folder, default=Path(), metavar="DIR", help="where to write [.]")
    command.add_argument(
        "--calibration", type=_said, metavar="X.npz", help="typical inputs: one array, or one by each input's name"
    )
    _add_quantization(command)
    command.add_argument(
        "--trainable",
        action="append",
        metavar="LAYER",
        help="what keeps learning: a layer's name or pattern, last, last:2, bias, NAME.bias; may be given several times",
    )
    command.add_argument("--loss", choices=sorted(edgeprop.runtime.LOSSES), help="what it learns with")
    command.add_argument(
        "--loss-output",
        metavar="OUTPUT",
        help="of several outputs the one it looks at [the first that depends on what trains]",
    )
    command.add_argument(
        "--labels", metavar="A,B,C", help="class names; or range:10; or a file with one a line, or JSON"
    )
    command.add_argument(
        "--state",
        action="append",
        type=_pair,
        metavar="INPUT=OUTPUT",
        help="an input that is the state of a stream, and the output it becomes after a step; may be given several times",
    )
    command.add_argument(
        "--sparse",
        choices=("auto", "never", "always"),
        help="float32 dense layers that store their non-zero weights alone [auto: frozen ones of a quarter or less]",
    )
    command.add_argument("--name", type=_said, help="prefix of files and C names [the file's name]")
    command.add_argument(
        "--package",
        action="append",
        metavar="|".join(KINDS),
        choices=KINDS,
        help="also write a library for this build tool, as DIR/PACKAGE/NAME; may be given several times",
    )


def _add_quantization(command: argparse.ArgumentParser) -> None:
    """How a float32 model is quantized."""
    command.add_argument(
        "--float",
        nargs="*",
        action="extend",
        metavar="LAYER",
        help="layers (names or patterns) that stay float32; none named: all of them",
    )
    command.add_argument(
        "--calibration-method",
        "--method",
        dest="method",
        choices=("minmax", "percentile", "mse", "auto"),
        help="of choosing int8 ranges; auto tries the others value by value [minmax]",
    )
    command.add_argument(
        "--equalize", action="store_true", help="even out channel ranges between convolutions before quantizing"
    )
    command.add_argument(
        "--scale-inputs",
        choices=("auto", "never"),
        help="a float32 scale for every feature of the input where one int8 scale would drown some of them [auto]",
    )


def _add_inspect(add: Add) -> None:
    command = add(
        "inspect",
        run_inspect,
        "print layers, memory and scales of a .ep image, the state of a saved head, or how an .onnx would be lowered",
        "edgeprop inspect build/digits.ep\nedgeprop inspect me.head",
    )
    command.add_argument("file", metavar="FILE")


def _add_check(add: Add) -> None:
    command = add(
        "check",
        run_check,
        "run a model in the C runtime and in onnxruntime and compare",
        "edgeprop check model.onnx\nedgeprop check model.onnx --inputs x.npz --json\n"
        "edgeprop check float.onnx --calibration x.npz",
        "Layers come worst first: elements that differ, those that differ where onnxruntime gets the device's inputs of "
        "that layer alone, and, with --calibration, the signal-to-noise ratio of int8 against float32. "
        "Exit code 0 only where both agree. --json prints one object: status (ok, differs, unsupported, error), "
        "max_abs_error, max_rel_error, mismatches, elements, message.",
    )
    command.add_argument("model", metavar="MODEL.onnx")
    command.add_argument(
        "--inputs", type=_said, metavar="X.npz", help="arrays by the graph's input names [random ones]"
    )
    command.add_argument("--seed", type=_count, default=0, help="of the random inputs [0]")
    command.add_argument("--layers", type=_count, default=12, metavar="N", help="show the N worst layers; 0: all [12]")
    command.add_argument(
        "--calibration", type=_said, metavar="X.npz", help="quantize the model with these samples first"
    )
    _add_quantization(command)
    command.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _add_adapt(add: Add) -> None:
    command = add(
        "adapt",
        run_adapt,
        "let a model learn from samples, as it would on the device",
        "edgeprop adapt digits.ep --data mine.npz --epochs 5 --save me.head\n"
        "edgeprop adapt digits.ep --restore me.head --data more.npz --save me.head",
        "DATA.npz holds arrays x (samples, as the ONNX model takes them) and y (class indices or names, or values). "
        "Where loss or score end worse than they began, on the validation samples if there are any, the exit code is 1 "
        "and nothing is saved.",
    )
    command.add_argument("model", metavar="MODEL.ep")
    command.add_argument("--data", type=_said, required=True, metavar="DATA.npz", help="arrays x and y to learn from")
    command.add_argument(
        "--validation", type=_said, metavar="DATA.npz", help="arrays x and y to report on, not learned from"
    )
    command.add_argument("--restore", type=_said, metavar="HEAD", help="start from what was learned before")
    command.add_argument("--save", type=_said, metavar="HEAD", help="keep what was learned; replaced in one step")
    command.add_argument("--force", action="store_true", help="save also what has become worse")
    command.add_argument("--lr", type=float, default=0.01, help="learning rate [0.01]")
    command.add_argument("--epochs", type=int, default=1, help="passes over the samples [1]")
    command.add_argument("--optimizer", choices=("sgd", "momentum", "nesterov", "adam"), default="sgd", help="[sgd]")
    command.add_argument("--batch-size", type=int, default=1, help="samples a step [1]")
    command.add_argument("--shuffle", action="store_true", help="a new order every epoch")
    command.add_argument("--seed", type=_count, default=0, help="of the order [0]")


def _add_version(add: Add) -> None:
    add("version", run_version, "print versions and where the C sources lie", "edgeprop version")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="edgeprop", description="Train on the desktop, keep learning on the device.", epilog=_EXIT
    )
    top.add_argument("--version", action="version", version=f"edgeprop {edgeprop.__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], int], what: str, examples: str, more: str = ""
    ) -> argparse.ArgumentParser:
        lines = "\n".join(f"  {line}" for line in examples.splitlines())
        command = commands.add_parser(
            name,
            help=what,
            description=f"{what[0].upper()}{what[1:]}.\n\n{more}".strip(),
            epilog=f"examples:\n{lines}\n\n{_EXIT}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        return command

    for add_command in (_add_export, _add_inspect, _add_check, _add_adapt, _add_version):
        add_command(add)
    return top


# The exporter's own errors are ValueErrors that name the node and the nearest supported thing.
_USER_ERRORS = (edgeprop.Error, UserError, OSError, ValueError, MemoryError)


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"there is not enough memory ({str(error) or 'MemoryError'}): a smaller model, or fewer samples"
    return str(error)


@contextmanager
def _closed_pipe_is_fine() -> Iterator[None]:
    """`edgeprop inspect x.ep | head` is no error; Python must not meet the closed pipe again at exit."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (default: that of the process) and returns its exit code."""
    code = OK
    args = parser().parse_args(argv)
    try:
        with _closed_pipe_is_fine():
            code = int(args.run(args))
    except _USER_ERRORS as error:
        print(f"edgeprop: error: {_message(error)}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
