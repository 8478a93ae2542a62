"""What is made wrong, area by area, and which tests are to notice."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

#: the share of faults that each area's tests are to notice
GOAL = 0.9


@dataclass(frozen=True)
class Area:
    """Files and their tests. `first` are tests of some files, run before the others: most faults are noticed there."""

    sources: tuple[str, ...]  # patterns from the root
    tests: tuple[str, ...]  # patterns of test files
    first: dict[str, tuple[str, ...]] = field(default_factory=dict)
    without: tuple[str, ...] = ()  # patterns of sources that are left out

    def files(self, root: Path) -> list[str]:
        """The sources, from the root."""
        found = {str(path.relative_to(root)) for pattern in self.sources for path in root.glob(pattern)}
        return sorted(name for name in found if not any(fnmatch(name, pattern) for pattern in self.without))

    def tests_of(self, root: Path, source: str) -> list[str]:
        """Test files for a fault of one source, those of its own first."""
        own = [test for pattern, tests in self.first.items() if fnmatch(source, pattern) for test in tests]
        return list(
            dict.fromkeys(str(path.relative_to(root)) for test in (*own, *self.tests) for path in _glob(root, test))
        )


def _glob(root: Path, pattern: str) -> list[Path]:
    found = sorted(root.glob(pattern))
    assert found or "*" in pattern, f"no tests {pattern}"
    return found


#: what `make test` leaves out for its time is left out here, too
AREAS: dict[str, Area] = {
    "quantization": Area(
        ("export/quantization/*.py",),
        ("tests/export/test_quant*.py", "tests/export/test_calibrat*.py", "tests/export/test_int8_operators.py",
         "tests/export/test_accuracy_options.py", "tests/export/test_check.py", "tests/export/test_arithmetic.py",
         "tests/export/test_told.py"),
        {
            "*/calibrate.py": ("tests/export/test_calibrat*.py",),
            "*/analysis.py": ("tests/export/test_check.py",),
            "*/accuracy.py": ("tests/export/test_told.py",),
            "*/told.py": ("tests/export/test_told.py",),
            "*/cures.py": ("tests/export/test_told.py",),
            "*/features.py": ("tests/export/test_told.py",),
            "*/corrections.py": ("tests/export/test_accuracy_options.py",),
            "*/sensitivity.py": ("tests/export/test_accuracy_options.py",),
            "*": ("tests/export/test_quantize.py",),
        },
    ),
    "graph": Area(
        ("export/graph/*.py",),
        ("tests/export/test_rewrites.py", "tests/export/test_importer.py", "tests/export/test_spelled.py",
         "tests/export/test_sklearn.py", "tests/export/test_save.py", "tests/export/test_graph*.py",
         "tests/export/test_recurrent_forms.py", "tests/export/test_opsets.py", "tests/export/test_malformed.py",
         "tests/export/test_quantize.py", "tests/export/test_foreign.py", "tests/export/test_lower.py",
         "tests/export/test_definition.py", "tests/export/test_limits.py", "tests/export/test_apart.py",
         "tests/export/test_model_files.py", "tests/export/test_hostile_models.py", "tests/export/test_messages.py",
         "tests/export/test_files.py", "tests/export/test_label_files.py", "tests/export/test_class_counts.py",
         "tests/export/test_tidy.py", "tests/export/test_long_graphs.py", "tests/export/test_finite.py"),
        {
            "*/sklearn.py": ("tests/export/test_sklearn.py",),
            "*/classical.py": ("tests/export/test_graph_classical.py", "tests/export/test_foreign.py"),
            "*/spelled.py": ("tests/export/test_spelled.py",),
            "*/recurrence.py": ("tests/export/test_recurrent_forms.py",),
            "*/batch.py": ("tests/export/test_graph_batch.py",),
            "*/definition.py": ("tests/export/test_definition.py",),
            "*/limits.py": ("tests/export/test_limits.py",),
            "*/uses.py": ("tests/export/test_limits.py",),
            "*/apart.py": ("tests/export/test_apart.py",),
            "*/reference.py": ("tests/export/test_apart.py",),
            "*/files.py": ("tests/export/test_model_files.py",),
            "*/tidy.py": ("tests/export/test_tidy.py",),
            "*/finite.py": ("tests/export/test_finite.py",),
            "*/importer.py": ("tests/export/test_importer.py",),
            "*/rewrites.py": ("tests/export/test_rewrites.py",),
        },
    ),
    "lower": Area(
        ("export/lower/*.py",),
        ("tests/export/test_lower*.py", "tests/export/test_graph_near_misses.py",
         "tests/export/test_elementwise.py", "tests/export/test_movement.py",
         "tests/export/test_norms.py", "tests/export/test_int8_operators.py", "tests/export/test_dynamic.py",
         "tests/export/test_sparse.py", "tests/export/test_streaming.py", "tests/export/test_recurrent.py",
         "tests/export/test_recurrent_forms.py", "tests/export/test_quantize.py", "tests/export/test_arithmetic.py",
         "tests/export/test_plan.py", "tests/export/test_operators.py", "tests/export/test_random_graphs.py",
         "tests/export/test_loads_itself.py", "tests/trainer/test_last_activation.py"),
        {
            "*/elementwise.py": ("tests/export/test_elementwise.py",),
            "*/movement.py": ("tests/export/test_movement.py",),
            "*/resize.py": ("tests/export/test_movement.py",),
            "*/norms.py": ("tests/export/test_norms.py",),
            "*/dynamic.py": ("tests/export/test_dynamic.py",),
            "*/sparse.py": ("tests/export/test_sparse.py",),
            "*/streaming.py": ("tests/export/test_streaming.py",),
            "*/recurrent.py": ("tests/export/test_recurrent.py", "tests/export/test_recurrent_forms.py"),
            "*/int8_ops.py": ("tests/export/test_int8_operators.py",),
            "*/binary_codes.py": ("tests/export/test_int8_operators.py",),
            "*": ("tests/export/test_lower.py",),
        },
    ),
    "plan": Area(
        ("export/program/*.py",),
        ("tests/export/test_plan*.py", "tests/export/test_report.py", "tests/export/test_lower.py",
         "tests/export/test_writers*.py", "tests/export/test_image.py", "tests/export/test_loads_itself.py",
         "tests/export/test_header.py", "tests/export/test_norms.py", "tests/export/test_random_graphs.py"),
        {
            "*/tables.py": ("tests/export/test_plan_tables.py", "tests/export/test_image.py"),
            "*/traits.py": ("tests/export/test_plan_tables.py",),
        },
    ),
    "writers": Area(
        ("export/writers/*.py",),
        ("tests/export/test_header*.py", "tests/export/test_image*.py", "tests/export/test_report.py",
         "tests/export/test_writers*.py", "tests/export/test_names.py", "tests/export/test_loads_itself.py"),
        {
            "*/report.py": ("tests/export/test_report.py", "tests/export/test_writers_report.py"),
            "*/image.py": ("tests/export/test_image.py",),
            "*/naming.py": ("tests/export/test_names.py",),
            "*/taken.py": ("tests/export/test_names.py",),
            "*": ("tests/export/test_writers*.py",),
        },
    ),
    "core": Area(
        ("csrc/*.c",),
        ("tests/runtime/test_model.py", "tests/runtime/test_core_c.py", "tests/runtime/test_hostile*.py",
         "tests/runtime/test_against_trainer.py", "tests/runtime/test_streams.py", "tests/runtime/test_meta.py",
         "tests/runtime/test_edges.py", "tests/export/test_streaming.py"),
        {"*/save.c": ("tests/runtime/test_core_c.py",), "*/load.c": ("tests/runtime/test_hostile*.py",)},
    ),
    "ops": Area(
        ("csrc/ops/*.[ch]", "csrc/kernels/portable/*.c"),
        ("tests/runtime/test_edges.py", "tests/runtime/test_geometry_checks.py", "tests/runtime/test_ops_*.py",
         "tests/runtime/test_movement_ops.py",
         "tests/runtime/test_against_trainer.py", "tests/runtime/test_named_nets.py",
         "tests/runtime/test_hostile_nodes.py", "tests/kernels/test_kernels.py"),
        {
            "*/portable/*": ("tests/kernels/test_kernels.py",),
            "*_s8.*": ("tests/runtime/test_ops_s8.py",),
            "*_f32.*": ("tests/runtime/test_ops_f32.py",),
            "*norm_f32.c": ("tests/runtime/test_ops_norms.py",),
            "*/recurrent.*": ("tests/export/test_recurrent.py",),
            "*/lstm_f32.c": ("tests/export/test_recurrent.py",),
            "*/gru_f32.c": ("tests/export/test_recurrent.py",),
            "*/rnn_f32.c": ("tests/export/test_recurrent.py",),
            "*/sparse_dense_f32.c": ("tests/export/test_sparse.py",),
            "*/dynamic*": ("tests/export/test_dynamic.py",),
            "*/check*.c": ("tests/runtime/test_geometry_checks.py",),
        },
    ),
    "trainer": Area(
        ("trainer/*.py", "trainer/layers/*.py"),
        ("tests/trainer/test_*.py",),
        {
            "*/recurrent.py": ("tests/trainer/test_recurrent.py",),
            "*/fit.py": ("tests/trainer/test_fit.py",),
            "*/graph.py": ("tests/trainer/test_graph.py", "tests/trainer/test_many_ends.py"),
            "*/nets.py": ("tests/trainer/test_nets.py",),
            "*/optimizers.py": ("tests/trainer/test_optimizers.py",),
            "*loss*.py": ("tests/trainer/test_losses.py",),
            "*/logits.py": ("tests/trainer/test_last_activation.py",),
            "*": ("tests/trainer/test_layers.py", "tests/trainer/test_net_onnx.py"),
        },
    ),
    "binding": Area(
        ("csrc/python/edgeprop/*.py", "csrc/python/edgeprop/_core.prelude.h"),
        ("tests/runtime/test_model*.py", "tests/runtime/test_meta.py", "tests/runtime/test_labels.py",
         "tests/runtime/test_files.py", "tests/runtime/test_streams.py", "tests/runtime/test_shapes.py",
         "tests/runtime/test_against_trainer.py", "tests/runtime/test_binding_refusals.py",
         "tests/export/test_labels.py", "tests/export/test_taught.py"),
        {
            "*/_labels.py": ("tests/runtime/test_labels.py",),
            "*/_meta.py": ("tests/runtime/test_meta.py",),
            "*/_files.py": ("tests/runtime/test_files.py",),
            "*/_arrays.py": ("tests/runtime/test_shapes.py",),
            "*/sources.py": ("tests/export/test_names.py",),
        },
        without=("*/__main__.py",),
    ),
}  # fmt: skip
