"""The `edgeprop` command as a user runs it: what it prints, its exit codes, and no tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeprop
from edgeprop.export import cli
from tests.support.image import image, mlp

RANDOM = np.random.default_rng(2)
X = RANDOM.normal(size=(60, 6)).astype("f4")
Y = (X[:, 0] > 0).astype("i4")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a model and samples."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.ep").write_bytes(image(mlp((6, 8, 2), labels=["left", "right"])))
    np.savez(tmp_path / "samples.npz", x=X, y=Y)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process; returns exit code, standard output, standard error."""

    def call(*argv: str) -> tuple[int, str, str]:
        try:
            code = cli.main(argv)
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


def stub_exporter(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    """Puts functions in the place of those that need onnx and onnxruntime."""
    module = sys.modules["edgeprop.export"]
    for name, function in functions.items():
        monkeypatch.setattr(module, name, function, raising=False)


# ---- The command ------------------------------------------------------------------------------------------------


def test_installed_command_and_module_are_the_same() -> None:
    script = Path(sys.executable).with_name("edgeprop")
    commands = ([sys.executable, "-m", "edgeprop", "--version"], [str(script), "--version"])
    outputs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands]
    assert outputs == [f"edgeprop {edgeprop.__version__}\n"] * 2


def test_help_shows_examples_and_exit_codes(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for command in ("export", "inspect", "check", "adapt", "version"):
        assert command in out
        code, text, _ = run(command, "--help")
        assert code == 0
        assert f"edgeprop {command}" in text.split("examples:")[1]
        assert "exit code" in text


@pytest.mark.parametrize("argv", [(), ("fly",), ("adapt",), ("adapt", "net.ep", "--data", "x.npz", "--lr", "fast")])
def test_usage_errors(run: Run, argv: tuple[str, ...]) -> None:
    code, _, err = run(*argv)
    assert code == 2
    assert "usage" in err


def test_version(run: Run) -> None:
    code, out, _ = run("version")
    assert code == 0
    assert edgeprop.__version__ in out
    assert f"numpy {np.__version__}" in out


# ---- inspect ----------------------------------------------------------------------------------------------------


def test_inspect_image(run: Run, folder: Path) -> None:
    code, out, _ = run("inspect", "net.ep")
    assert code == 0
    assert out == edgeprop.Model("net.ep").summary() + "\n"


def test_inspect_head(run: Run, folder: Path) -> None:
    model = edgeprop.Model("net.ep")
    model.partial_fit(X, Y).save("me.head")
    code, out, _ = run("inspect", "me.head")
    assert code == 0
    assert model.fingerprint in out
    assert "18 weights" in out
    assert "whole" in out
    record = (folder / "me.head").read_bytes()
    (folder / "me.head").write_bytes(record[:-1])
    assert "damaged" in run("inspect", "me.head")[1]
    (folder / "me.head").write_bytes(record[:20])
    assert run("inspect", "me.head")[0] == 2


def test_inspect_refuses_other_files(run: Run, folder: Path) -> None:
    (folder / "cut.ep").write_bytes((folder / "net.ep").read_bytes()[:50])
    for name, text in {"samples.npz": "not a model image", "cut.ep": "EP_ERR_IMAGE", "none.ep": "No such file"}.items():
        code, out, err = run("inspect", name)
        assert (code, out) == (2, "")
        assert text in err


# ---- adapt ------------------------------------------------------------------------------------------------------


def test_adapt_learns_and_saves(run: Run, folder: Path) -> None:
    code, out, _ = run("adapt", "net.ep", "--data", "samples.npz", "--epochs", "30", "--lr", "0.1", "--save", "me.head")
    assert code == 0
    assert "accuracy on these samples" in out
    assert "me.head" in out
    learned = edgeprop.Model("net.ep").restore("me.head")
    expected = edgeprop.Model("net.ep").partial_fit(X, Y, lr=0.1, epochs=30)
    np.testing.assert_array_equal(learned.run(X)[0], expected.run(X)[0])
    assert f"-> {expected.score(X, Y):.4f}" in out


def test_adapt_goes_on_from_a_saved_head(run: Run, folder: Path) -> None:
    adapt = ["adapt", "net.ep", "--data", "samples.npz", "--save", "me.head"]
    adapt += ["--batch-size", "4", "--optimizer", "adam"]
    assert run(*adapt)[0] == 0
    code, out, _ = run(*adapt, "--restore", "me.head", "--shuffle", "--validation", "samples.npz")
    assert code == 0
    assert "validation samples" in out
    expected = edgeprop.Model("net.ep").partial_fit(X, Y, batch_size=4, optimizer="adam").clone()
    expected.partial_fit(X, Y, batch_size=4, optimizer="adam", shuffle=True)
    np.testing.assert_array_equal(edgeprop.Model("net.ep").restore("me.head").run(X)[0], expected.run(X)[0])


def test_adapt_user_errors_keep_the_older_head(run: Run, folder: Path) -> None:
    edgeprop.Model("net.ep").partial_fit(X, Y).save("me.head")
    before = (folder / "me.head").read_bytes()
    np.savez("labels.npz", x=X, y=Y + 5)
    np.savez("nothing.npz", a=X)
    np.savez("objects.npz", x=X, y=np.array([None] * 60))
    (folder / "text.npz").write_text("no arrays")
    edgeprop.Model(image(mlp((6, 8, 2), seed=9))).partial_fit(X, Y).save("other.head")
    cases = {
        ("--data", "labels.npz"): "EP_ERR_LABEL",
        ("--data", "nothing.npz"): "arrays x (samples) and y (targets)",
        ("--data", "objects.npz"): "Python objects",
        ("--data", "text.npz"): "not an .npz",
        ("--data", "none.npz"): "No such file",
        ("--data", "samples.npz", "--lr", "-1"): "EP_ERR_ARG",
        ("--data", "samples.npz", "--lr", "1e38"): "EP_ERR_DIVERGED",
        ("--data", "samples.npz", "--restore", "other.head"): "EP_ERR_FOREIGN",
    }
    for arguments, text in cases.items():
        code, _, err = run("adapt", "net.ep", *arguments, "--save", "me.head")
        assert code == 2, arguments
        assert err.startswith("edgeprop: error: ")
        assert text in err
        assert (folder / "me.head").read_bytes() == before


@pytest.mark.parametrize("lr", ["100", "3"])
def test_adapt_that_ends_worse_fails_and_saves_nothing(run: Run, folder: Path, lr: str) -> None:
    adapt = ["adapt", "net.ep", "--data", "samples.npz"]
    assert run(*adapt, "--epochs", "30", "--lr", "0.1", "--save", "me.head")[0] == 0
    before = (folder / "me.head").read_bytes()
    adapt += ["--restore", "me.head", "--lr", lr, "--save", "me.head"]
    code, out, err = run(*adapt)
    assert code == 1
    assert err.startswith("edgeprop: worse than before: loss on these samples ")
    assert "me.head is as it was, --force saves it" in err
    assert "saved" not in out
    assert (folder / "me.head").read_bytes() == before
    code, out, err = run(*adapt, "--force")
    assert code == 0
    assert "worse than before" in err
    assert "saved me.head" in out
    assert (folder / "me.head").read_bytes() != before


def test_adapt_is_judged_by_the_validation_samples(run: Run, folder: Path) -> None:
    """Learned well, and the wrong thing."""
    np.savez("other.npz", x=X, y=1 - Y)
    adapt = ["adapt", "net.ep", "--data", "samples.npz", "--epochs", "30", "--lr", "0.1", "--save", "me.head"]
    code, _, err = run(*adapt, "--validation", "other.npz")
    assert code == 1
    assert "loss on the validation samples" in err
    assert "accuracy on the validation samples" in err
    assert not (folder / "me.head").exists()
    assert run(*adapt, "--validation", "samples.npz")[0] == 0


def test_adapt_asks_before_it_learns_whether_it_can_save(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learns(*_: object, **__: object) -> None:
        raise AssertionError("learned, and then")

    monkeypatch.setattr(edgeprop.Model, "partial_fit", learns)
    samples = (folder / "samples.npz").read_bytes()
    cases = {
        "none/me.head": "none: No such file or directory",
        "samples.npz": "no saved head",
        "net.ep": "model image",
        ".": "folder",
        "/dev/null": "device",
        "n" * 300: "too long",
    }
    for path, text in cases.items():
        code, _, err = run("adapt", "net.ep", "--data", "samples.npz", "--save", path)
        assert code == 2, path
        assert text in err
    assert (folder / "samples.npz").read_bytes() == samples


def test_adapt_takes_names_of_all_kinds(run: Run, folder: Path) -> None:
    """Integers that are names, not indices; names as bytes."""
    (folder / "named.ep").write_bytes(image(mlp((6, 8, 2), trainable=2, labels=["2", "1"])))
    expected = edgeprop.Model("named.ep").partial_fit(X, np.array(["2", "1"])[Y], epochs=3)
    for labels in (np.array([2, 1])[Y], np.array(["2", "1"])[Y], np.array([b"2", b"1"])[Y]):
        np.savez("named.npz", x=X, y=labels)
        code, out, err = run(
            "adapt", "named.ep", "--data", "named.npz", "--epochs", "3", "--save", "me.head", "--force"
        )
        assert code == 0, err
        assert f"-> {expected.loss_:.4g}" in out
        found = edgeprop.Model("named.ep").restore("me.head")
        np.testing.assert_array_equal(found.run(X)[0], expected.run(X)[0])


def test_inspect_looks_at_regular_files_only(run: Run, folder: Path) -> None:
    os.mkfifo("pipe")
    for path in ("pipe", "/dev/zero", "."):
        code, _, err = run("inspect", path)
        assert code == 2
        assert "no regular file" in err
    edgeprop.Model("net.ep").save("me.head")
    os.truncate("me.head", 1 << 43)
    assert "whole" in run("inspect", "me.head")[1]
    with open("me.head", "r+b") as file:
        file.seek(20)
        file.write(b"\xff" * 4)  # a size that promises 4 GiB
    os.truncate("me.head", 100)
    assert "damaged" in run("inspect", "me.head")[1]


# ---- check ------------------------------------------------------------------------------------------------------

KEYS = ["status", "max_abs_error", "max_rel_error", "mismatches", "elements", "message"]


@dataclass
class Result:
    status: str
    max_abs_error: float = 0.0
    max_rel_error: float = 0.0
    mismatches: int = 0
    elements: int = 4
    message: str = "said"
    layers: list[Any] = field(default_factory=list)


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("differs", 1), ("unsupported", 1), ("error", 1)])
def test_check_exit_codes(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, status: str, code: int) -> None:
    result = Result(status, np.float64("inf"), 0.5, np.int64(3), layers=["layer one"])
    stub_exporter(monkeypatch, check=lambda *_, **__: result)
    assert run("check", "net.onnx")[:2] == (code, f"{status}: said\n  layer one\n")
    found, out, _ = run("check", "net.onnx", "--json")
    assert found == code
    assert out.count("\n") == 1
    assert json.loads(out) == dict(zip(KEYS, [status, None, 0.5, 3, 4, "said"], strict=True))


def test_check_hands_over_inputs_and_seed(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def check(model: str, inputs: dict[str, np.ndarray] | None, seed: int) -> Result:
        seen.append((model, inputs and {name: value.shape for name, value in inputs.items()}, seed))
        return Result("ok")

    stub_exporter(monkeypatch, check=check)
    run("check", "net.onnx", "--seed", "7")
    run("check", "net.onnx", "--inputs", "samples.npz")
    assert seen == [("net.onnx", None, 7), ("net.onnx", {"x": (60, 6), "y": (60,)}, 0)]


def test_check_json_holds_for_wrong_files_too(run: Run, folder: Path) -> None:
    code, out, _ = run("check", "net.onnx", "--inputs", "none.npz", "--json")
    assert code == 2
    result = json.loads(out)
    assert list(result) == KEYS
    assert result["status"] == "error"
    assert "none.npz" in result["message"]


# ---- export -----------------------------------------------------------------------------------------------------


def test_export_hands_over_what_was_said(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    stub_exporter(monkeypatch, save=lambda *args, **options: seen.append((args, options)))
    np.save("x.npy", X)
    code, _, err = run(
        *("export", "net.onnx", "--calibration", "x.npy", "-o", "out/deep", "--loss", "hinge"),
        *("--trainable", "head", "--trainable", "neck", "--labels", "range:3", "--name", "digits"),
    )
    assert code == 0, err
    ((target, model), options) = seen.pop()
    assert (target, model) == (Path("out/deep/digits"), "net.onnx")
    np.testing.assert_array_equal(options.pop("calibration"), X)
    assert options == {"trainable": ["head", "neck"], "labels": ["0", "1", "2"], "loss": "hinge"}

    assert run("export", "net.onnx", "--float", "--labels", "a, b")[0] == 0
    ((target, _), options) = seen.pop()
    assert target == Path("net")
    assert options == {"calibration": None, "labels": ["a", "b"], "quantized": False}


def test_export_without_calibration_says_that_nothing_was_quantized(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_exporter(monkeypatch, save=lambda *_, **__: "said")
    code, out, err = run("export", "net.onnx")
    assert (code, out) == (0, "said\n")
    assert "no --calibration" in err


def test_from_onnx_to_an_adapted_model(run: Run, folder: Path) -> None:
    """The whole road, with the real exporter."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("edgeprop.export.api")
    weights = {"w": RANDOM.normal(size=(2, 6)).astype("f4"), "b": np.zeros(2, "f4")}
    node = onnx.helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="head", transB=1)
    ports = [onnx.helper.make_tensor_value_info(name, 1, ["n", size]) for name, size in (("x", 6), ("y", 2))]
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = onnx.helper.make_graph([node], "road", ports[:1], ports[1:], constants)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), "road.onnx")

    code, out, _ = run("check", "road.onnx", "--json")
    assert code == 0
    assert json.loads(out)["status"] == "ok"
    code, out, _ = run("inspect", "road.onnx")
    assert code == 0
    assert "dense_f32" in out
    code, _, err = run(
        *("export", "road.onnx", "--float", "--trainable", "head", "--labels", "left,right", "-o", "out"),
    )
    assert code == 0, err
    assert {path.suffix for path in (folder / "out").iterdir()} >= {".h", ".ep"}
    code, out, _ = run("adapt", "out/road.ep", "--data", "samples.npz", "--lr", "0.1", "--epochs", "20")
    assert code == 0
    assert "accuracy" in out
    code, _, err = run("export", "road.onnx", "--float", "--trainable", "tail", "-o", "out")
    assert code == 2
    assert "tail" in err


def test_without_the_exporter_the_cure_is_told(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cli.importlib.import_module

    def missing(name: str) -> types.ModuleType:
        if name == "edgeprop.export":
            raise ImportError("No module named 'onnx'")
        return real(name)

    monkeypatch.setattr(cli.importlib, "import_module", missing)
    code, _, err = run("check", "net.onnx")
    assert code == 2
    assert "pip install 'edgeprop[export]'" in err


def test_closed_pipe_is_no_error(folder: Path) -> None:
    command = f"{sys.executable} -m edgeprop inspect net.ep | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stream_from_the_shell(tmp_path: Path, run: Run) -> None:
    """`--state`: one frame in, one answer out, the rest of the sequence in the device's memory; not in the saved head."""
    from edgeprop.trainer import nets

    whole = nets.kws_gru(units=6, seed=1)
    frame = nets.kws_gru(units=6, in_shape=(1, 10), stateful=True)
    frame.load_state_dict(whole.state_dict())
    proto = frame.to_onnx()
    states = json.loads(next(prop.value for prop in proto.metadata_props if prop.key == "edgeprop.states"))
    del proto.metadata_props[:]  # as a model from elsewhere, which says nothing of its states
    (tmp_path / "kws.onnx").write_bytes(proto.SerializeToString())
    pairs = [word for state, following in states.items() for word in ("--state", f"{state}={following}")]
    learns = ("--trainable", "head", "--loss", "softmax_cross_entropy", "-o", str(tmp_path / "out"))
    code, _, error = run("export", str(tmp_path / "kws.onnx"), *pairs, *learns)
    assert code == 0, error
    model = edgeprop.Model(tmp_path / "out" / "kws.ep")
    x = np.random.default_rng(2).normal(size=(1, 25, 10)).astype(np.float32)
    answers = [model.run(x[:, step : step + 1])[0] for step in range(25)]
    np.testing.assert_allclose(answers[-1].ravel(), whole.predict(x).ravel(), rtol=1e-4, atol=1e-5)
    model.reset_state()
    np.testing.assert_array_equal(model.run(x[:, :1])[0], answers[0])
    model.save(tmp_path / "head")  # a power cut: what was learned is back, the stream begins anew
    again = edgeprop.Model(tmp_path / "out" / "kws.ep")
    assert again.restore(tmp_path / "head")
    np.testing.assert_array_equal(again.run(x[:, :1])[0], answers[0])
    assert model.restore(tmp_path / "head")
    np.testing.assert_array_equal(model.run(x[:, :1])[0], answers[0])


# ---- Everything at once ----------------------------------------------------------------------------------------------

STATE = "gru.h=gru.h_next"
#: layers of the network below that have weights
LAYERS = "conv1, conv2, gru, neck, head"


@pytest.fixture
def stream(folder: Path) -> Path:
    """A frame of a stream through convolutions, a GRU and two dense layers, that says nothing of itself; its samples."""
    from edgeprop import trainer as t

    net = t.Sequential(
        *(t.Conv1D(8, 3, padding="same", name="conv1"), t.ReLU(), t.Conv1D(6, 3, padding="same", name="conv2")),
        *(t.ReLU(), t.Transpose(0, 2, 1), t.GRU(5, stateful=True, name="gru"), t.Dense(6, name="neck"), t.ReLU()),
        t.Dense(3, name="head"),
    )
    net.build((4, 10), seed=1)
    proto = net.to_onnx()
    del proto.metadata_props[:]
    (folder / "stream.onnx").write_bytes(proto.SerializeToString())
    x = RANDOM.normal(size=(40, 4, 10)).astype("f4")
    np.savez("calibration.npz", **{"input": x, "gru.h": RANDOM.uniform(-1, 1, (40, 1, 5)).astype("f4")})
    np.savez("labelled.npz", x=x, y=(x[:, 0].mean(1) > 0).astype("i4") + (x[:, 1].mean(1) > 0))
    return folder


def test_export_with_all_options_and_what_comes_of_it(run: Run, stream: Path) -> None:
    code, out, err = run(
        *("export", "stream.onnx", "--calibration", "calibration.npz", "--method", "auto", "--equalize"),
        *("--state", STATE, "--float", "conv2", "--trainable", "last:2", "--trainable", "gru.bias"),
        *("--loss", "softmax_cross_entropy", "--labels", "range:3", "--name", "ears", "-o", "out"),
    )
    assert code == 0, err
    assert "float32: conv2, gru, neck, head" in out
    assert {path.name for path in Path("out").iterdir()} == {
        f"ears.{end}" for end in ("onnx", "h", "ep", "report.md", "report.html")
    }
    code, out, err = run("check", "out/ears.onnx")
    assert code == 0, out + err
    assert out.startswith("ok: 0 of ")
    code, out, _ = run("inspect", "out/ears.ep")
    assert code == 0
    rows = {
        line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith("  ") and line.split()[1:]
    }
    assert rows["conv1"][0] == "conv2d_s8"
    assert rows["conv2"] == ["conv2d_f32", "1x10x6", "150"]  # has no column of what trains
    assert [rows[name][-1] for name in ("gru", "neck", "head")] == ["30", "36", "21"]
    assert rows["state"] == ["gru.h,", "then", "gru.h_next"]
    assert run("inspect", "out/ears.onnx")[1].splitlines()[5:] == out.splitlines()[5:]
    adapt = ("adapt", "out/ears.ep", "--data", "labelled.npz", "--lr", "0.05", "--epochs", "30", "--save", "me.head")
    before = edgeprop.Model("out/ears.ep").parameters()
    code, out, err = run(*adapt, "--validation", "labelled.npz", "--optimizer", "momentum")
    assert code == 0, err
    assert "87 weights, whole" in run("inspect", "me.head")[1]
    after = edgeprop.Model("out/ears.ep").restore("me.head")
    assert sorted(before) == ["gru.bias", "head.bias", "head.weight", "neck.bias", "neck.weight"]
    assert all(np.any(after.parameters()[name] != before[name]) for name in before)
    first, last = (float(word) for word in out.split("loss ")[1].split("\n")[0].split(" -> "))
    assert last < first
    samples = np.load("labelled.npz")
    expected = edgeprop.Model("out/ears.ep").partial_fit(
        samples["x"], samples["y"], lr=0.05, epochs=30, optimizer="momentum"
    )
    fresh = expected.reset_state()
    assert f"-> {fresh.score(samples['x'], samples['y']):.4f}" in out  # what was looked at before has no say in it
    for name, value in after.parameters().items():
        np.testing.assert_array_equal(value, expected.parameters()[name])


@pytest.mark.parametrize(
    ("words", "trained", "float32"),
    [
        (["last"], ["head.bias", "head.weight"], "gru, head"),
        (["last:2"], ["head.bias", "head.weight", "neck.bias", "neck.weight"], "gru, neck, head"),
        (["h*"], ["head.bias", "head.weight"], "gru, head"),
        (["?eck", "last.bias"], ["head.bias", "neck.bias", "neck.weight"], "gru, neck, head"),
        (["bias"], [f"{name}.bias" for name in ("conv1", "conv2", "gru", "head", "neck")], "5 layers"),
    ],
)
def test_what_trainable_means(run: Run, stream: Path, words: list[str], trained: list[str], float32: str) -> None:
    given = [part for word in words for part in ("--trainable", word)]
    code, out, err = run(
        *("export", "stream.onnx", "--calibration", "calibration.npz", "--state", STATE, "--loss", "mse", "-o", "out"),
        *given,
    )
    assert code == 0, err
    assert f"float32: {float32}\n" in out
    assert sorted(edgeprop.Model("out/stream.ep").parameters()) == trained


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nix", "head", "last:9"], f"no layer is called 'nix', 'last:9'; there are: {LAYERS}"),
        (["relu_1"], f"no layer is called 'relu_1'; there are: {LAYERS}"),
        (["nix.bias"], f"no layer with a bias is called 'nix.bias'; there are: {LAYERS}"),
    ],
)
@pytest.mark.parametrize("quantized", [True, False])
def test_names_that_do_not_exist(run: Run, stream: Path, words: list[str], message: str, quantized: bool) -> None:
    """Both roads name all of them, and what there is; no file is written."""
    given = [part for word in words for part in ("--trainable", word)]
    how = ["--calibration", "calibration.npz"] if quantized else ["--float"]
    code, out, err = run("export", "stream.onnx", *how, "--state", STATE, "--loss", "mse", "-o", "out", *given)
    assert (code, out) == (2, "")
    if quantized:
        assert err == f"edgeprop: error: {message}\n"
    else:
        bad = [word for word in words if word != "head"]
        assert err.startswith(f"edgeprop: error: {len(bad)} obstacle{'s' * (len(bad) > 1)} to training:\n")
        assert all(f"trainable '{word}'" in err and f"layers that can train: {LAYERS}" in err for word in bad)
    assert not Path("out").exists()
    code, _, err = run("export", "stream.onnx", "--calibration", "calibration.npz", "--float", "conv9", "-o", "out")
    assert code == 2
    assert "no node is called 'conv9'; there are: conv1" in err


@pytest.mark.parametrize(
    "words",
    [
        ["adapt", "m.ep", "--data", "d.npz", "--save", ""],
        ["adapt", "m.ep", "--data", "d.npz", "--restore", ""],
        ["adapt", "m.ep", "--data", "d.npz", "--validation", ""],
        ["export", "m.onnx", "-o", ""],
        ["export", "m.onnx", "--name", ""],
        ["export", "m.onnx", "--calibration", ""],
        ["check", "m.onnx", "--calibration", ""],
        ["check", "m.onnx", "--inputs", ""],
    ],
)
def test_options_of_variables_that_are_not_set(run: Run, words: list[str]) -> None:
    """They would do something else: learn and save nothing, write into the working folder, leave all in float32."""
    code, _, said = run(*words)
    assert code == 2
    assert "it is empty: is a variable of the shell not set?" in said
    assert words[-2] in said


@pytest.mark.parametrize("name", ["../z", "a/b", "/z", ".."])
def test_a_name_is_no_path(run: Run, stream: Path, name: str) -> None:
    """It would leave the folder of -o, beside which nobody looks."""
    code, _, said = run("export", str(stream), "--float", "--name", name, "-o", "out")
    assert code == 2
    assert f"--name {name} is a path: give the folder by -o" in said


def test_a_refused_export_leaves_no_folder(run: Run, stream: Path, tmp_path: Path) -> None:
    for words in (
        [str(tmp_path / "none.onnx")],
        [str(stream), "--float", "--name", "a/b"],
        [str(stream), "--loss", "mse"],
    ):
        code, _, _ = run("export", *words, "--trainable", "nothing", "-o", str(tmp_path / "new" / "deep"))
        assert code != 0
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("words", [["--layers", "-1"], ["--seed", "-1"], ["--seed", "1.5"]])
def test_numbers_of_check(run: Run, words: list[str]) -> None:
    code, _, said = run("check", "m.onnx", *words)
    assert code == 2
    assert f"{words[0]}: {words[1]!r} is no whole number" in said


def test_check_quantizes_nothing_where_all_is_float(run: Run, stream: Path) -> None:
    code, _, said = run("check", "m.onnx", "--calibration", "x.npz", "--float")
    assert code == 2
    assert "--float without a LAYER leaves nothing to quantize" in said
