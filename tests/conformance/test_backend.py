"""The C runtime behind `onnx.backend`: some of ONNX's node tests, and that none is answered without the runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeprop.export import backend
from tests.conformance import __main__ as conformance

# Collecting ONNX's tests takes seconds: one process does.
pytestmark = pytest.mark.xdist_group("conformance")

NAMES = [
    "test_relu",
    "test_conv_with_strides_padding",
    "test_maxpool_2d_pads",
    "test_gemm_transposeB",
    "test_softmax_axis_0",
]
NAMES += ["test_batchnorm_epsilon", "test_sigmoid", "test_transpose_all_permutations_3"]


@pytest.mark.parametrize("name", NAMES)
def test_onnx_node(name):
    assert conformance.run(name) == conformance.Outcome(name, conformance.operators()[name], "passed")


def test_a_wrong_answer_fails(monkeypatch):
    right = backend._run
    monkeypatch.setattr(backend, "_run", lambda *a: tuple(y + 0.01 for y in right(*a)))
    assert conformance.run("test_relu").status == "failed"


def test_the_first_operand_is_never_bound(monkeypatch):
    """A program must run: nothing may be computed when the model is lowered."""
    programs = []
    right = backend._run
    monkeypatch.setattr(backend, "_run", lambda program, *a: programs.append(program) or right(program, *a))
    for name in NAMES:
        conformance.run(name)
    assert all(program.ops and program.inputs for program in programs)


def test_what_the_device_lacks_is_named():
    outcome = conformance.run("test_nonzero_example")
    assert outcome.status == "unsupported"
    assert outcome.why


def test_run_node():
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    (y,) = backend.run_node(onnx.helper.make_node("Relu", ["x"], ["y"]), [x])
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA")


def test_the_names_that_must_pass_exist():
    known = conformance.PASSING.read_text().split()
    assert len(known) > 200
    assert len(set(known) & set(conformance.collect())) > 0.9 * len(known)
