"""Run onnxruntime in a subprocess, for models that may crash it or never end.

Graphs inside nodes (If, Loop, Scan) are what its optimizer has crashed on, by chance rather than always, and what can run
for any time. Such models run here, unoptimized unless they are quantized, and within limits of time and memory.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from .uses import inner_graphs

#: what a model may take for one answer: one that takes longer is none for a device
SECONDS = 10
#: bytes of address space of the other process
MEMORY = 16 << 30

#: models that did not come to an end, by their bytes: they are not tried again
_endless: set[bytes] = set()

#: the other process, which ends with this one (prctl): a line of JSON and an archive of arrays in, the same out
#: (it looks for modules where this process does: the current folder, which is where -c looks first, may have a numpy.py)
_SERVE = """
import sys
sys.path[:] = sys.argv[2:]
import io, json
import numpy as np
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)
except Exception:
    pass
import onnxruntime as ort
source, sink, sessions = sys.stdin.buffer, sys.stdout.buffer, {}

def answer(asked, arrays):
    key = asked["path"], asked["level"]
    if key not in sessions:
        sessions.clear()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel(asked["level"])
        if asked["saved"]:
            options.optimized_model_filepath = asked["saved"]
        for entry in asked["entries"].items():
            options.add_session_config_entry(*entry)
        sessions[key] = ort.InferenceSession(
            asked["path"], options, providers=["CPUExecutionProvider"], disabled_optimizers=asked["without"])
    if asked["names"] is None:
        return [[o.name, o.type] for o in sessions[key].get_outputs()], []
    found = sessions[key].run(asked["names"], arrays)
    if not all(isinstance(array, np.ndarray) and array.dtype != object for array in found):
        raise TypeError("its outputs are no arrays of numbers")
    return [], found

while True:
    line = source.readline()
    if not line:
        break
    asked = json.loads(line)
    blob = source.read(asked["size"])
    try:
        with np.load(io.BytesIO(blob), allow_pickle=False) as given:
            arrays = {name: given[name] for name in given.files}
        outputs, found = answer(asked, dict(zip(asked["inputs"], arrays.values())))
        told = {"outputs": outputs}
    except BaseException as error:
        found, told = [], {"error": str(error)[:2000] or type(error).__name__}
    packed = io.BytesIO()
    np.savez(packed, *found)
    told["size"] = packed.getbuffer().nbytes
    sink.write(json.dumps(told).encode() + b"\\n" + packed.getvalue())
    sink.flush()
"""


class Crash(RuntimeError):
    """onnxruntime ended the process it ran in, or did not come to an end."""


class Late(Crash):
    """It did not come to an end."""


@dataclass(frozen=True)
class Output:
    """What onnxruntime says of an output: its name and its type, as `tensor(float)`."""

    name: str
    type: str


def runs_apart(model: onnx.ModelProto) -> bool:
    """Whether a model is one of those that run here."""
    return bool(sys.executable) and any(inner_graphs(node) for node in model.graph.node)


class _Server:
    """The other process, started when it is first needed, and anew when it ended."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()

    def ask(self, what: Mapping[str, Any], feeds: Mapping[str, np.ndarray]) -> tuple[list[Output], list[np.ndarray]]:
        """Outputs, and arrays; raises Crash, or RuntimeError with what onnxruntime says."""
        with self.lock:
            return self._ask(what, feeds)

    def _ask(self, what: Mapping[str, Any], feeds: Mapping[str, np.ndarray]) -> tuple[list[Output], list[np.ndarray]]:
        packed = io.BytesIO()
        np.savez(packed, *feeds.values())
        asked = {**what, "inputs": list(feeds), "size": packed.getbuffer().nbytes}
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()
        timer = threading.Timer(SECONDS, _kill, (process, late))
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(json.dumps(asked).encode() + b"\n" + packed.getvalue())
            process.stdin.flush()
            line = process.stdout.readline()
            told = json.loads(line) if line else None
            blob = process.stdout.read(told["size"]) if told else b""
        except (OSError, ValueError):  # it ended in between
            told, blob = None, b""
        finally:
            timer.cancel()
        if told is None or len(blob) < told["size"]:
            self.end()
            raise Late(f"it took more than {SECONDS} s") if late.is_set() else Crash("it crashed")
        if "error" in told:
            raise RuntimeError(told["error"])
        with np.load(io.BytesIO(blob), allow_pickle=False) as found:
            return [Output(*output) for output in told["outputs"]], [found[name] for name in found.files]

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.process.poll() is not None:
            folders = [folder for folder in sys.path if isinstance(folder, str) and folder]
            command = [sys.executable, "-c", _SERVE, str(MEMORY), *folders]
            quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.process = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
        return self.process

    def end(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def _kill(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    process.kill()


_server = _Server()
atexit.register(_server.end)


class Session:
    """What is used of onnxruntime's InferenceSession, of a model in the other process.

    Parameters
    ----------
    wanted : level of optimization; where the model crashes or fails, less is tried
    without, entries : optimizers to leave out, and entries of the session's configuration
    saved : where the optimized model is written; then no lower level will do

    Raises
    ------
    Crash : whatever the level
    RuntimeError : onnxruntime does not accept the model
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        wanted: ort.GraphOptimizationLevel,
        without: Sequence[str],
        entries: dict[str, str],
        saved: Path | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "model.onnx"
        data = model.SerializeToString()
        path.write_bytes(data)
        self._digest = hashlib.sha256(data).digest()
        self._how = {"path": str(path), "without": list(without), "entries": entries, "saved": saved and str(saved)}
        least = int(ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
        self._levels = [int(wanted), least] if int(wanted) != least and saved is None else [int(wanted)]
        self._outputs, _ = self._ask(None, {})

    def _ask(
        self, names: Sequence[str] | None, feeds: Mapping[str, np.ndarray]
    ) -> tuple[list[Output], list[np.ndarray]]:
        if self._digest in _endless:
            raise Crash("onnxruntime does not come to an end with the model")
        while True:
            asked = {**self._how, "level": self._levels[0], "names": None if names is None else list(names)}
            try:
                return _server.ask(asked, feeds)
            except RuntimeError as error:
                if isinstance(error, Late):
                    _endless.add(self._digest)
                if len(self._levels) > 1:
                    del self._levels[0]
                    continue
                if isinstance(error, Crash):
                    raise Crash(
                        f"onnxruntime cannot run the model here, {error}: simplify it (onnxsim, onnxslim)"
                    ) from None
                raise

    def get_outputs(self) -> list[Output]:
        """The outputs."""
        return list(self._outputs)

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs in the order of `names`, None for all, for inputs by name."""
        return self._ask([output.name for output in self._outputs] if names is None else names, feeds)[1]
