# Needs git, make, a C compiler and Python >= 3.10 with venv; everything else is installed into .venv.
PYTHON ?= python3
CC ?= cc
JOBS ?= 2
OUT ?= build/demo

VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python

SOURCES := $(shell find csrc trainer export -type f -not -name '*.pyc' 2>/dev/null) pyproject.toml CMakeLists.txt README.md
PY := $(wildcard csrc/python trainer export tests examples benchmarks boards wheels docs/*.py)
C_SOURCES := $(wildcard csrc/*.c csrc/ops/*.c csrc/kernels/*.c csrc/kernels/*/*.c)
# The cdef is no C: `...` stands for what Python does not see.
C_FILES := $(filter-out %.cdef.h,$(wildcard csrc/*.[ch] csrc/*/*.[ch] csrc/kernels/*/*.[ch] csrc/python/edgeprop/*.h boards/*.[ch] tests/*/*.[ch] examples/*/*.[ch]))
C_FILES += $(wildcard benchmarks/*.c wheels/*.h)

WARNINGS := -std=c99 -Wall -Wextra -Wpedantic -Wconversion -Wdouble-promotion -Wshadow -Werror
VARIANTS := -UEP_NONE -DEP_TRACE -DEP_NO_TRAIN -DEP_NO_ERRMSG

.DEFAULT_GOAL := help
.PHONY: accuracy conformance conformance-accept figures fuzz fuzz-seeds mutants operators performance help venv demo test test-slow test-foreign bench boards boards-setup count count-accept size size-accept lint lint-python lint-c format wheel wheels wheels-test sdist clean

help: ## this list
	@echo "edgeprop: train on the desktop, export to ONNX and a C header, keep learning on the device."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  PYTHON=python3.12 and CC=clang choose the tools; OUT=folder says where the demo writes."

# ---- Set-up --------------------------------------------------------------------------------------------------------

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "edgeprop needs Python 3.10 or newer, and $(PYTHON) is not. Try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@command -v $(firstword $(CC)) >/dev/null || { \
	  echo "no C compiler '$(CC)'. On Debian and Ubuntu: apt install gcc libc6-dev; or try: make CC=clang" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# One stamp per set of extras; the package is built anew when a source of it changes.
$(VENV)/demo $(VENV)/test $(VENV)/foreign: $(VENV)/%: $(VENV)/made $(SOURCES)
	CC="$(CC)" $(RUN) -m pip install --quiet ".[$*]"
	@touch $@

# Not every peer has a wheel for every system: what does not install is left out, and the comparisons say so.
$(VENV)/bench: $(VENV)/made $(SOURCES)
	CC="$(CC)" $(RUN) -m pip install --quiet ".[bench]" || { echo "skipped: not all of [bench] installs here" >&2; \
	  CC="$(CC)" $(RUN) -m pip install --quiet ".[export]"; }
	@touch $@

venv: $(VENV)/test ## set up .venv with everything, and nothing more

# ---- Use -----------------------------------------------------------------------------------------------------------

demo: $(VENV)/demo ## train, quantize, export, compile, adapt: handwritten digits from end to end, into build/demo/
	@mkdir -p $(OUT)
	$(RUN) examples/digits/demo.py --out $(OUT)

test: $(VENV)/test ## set up and run the test suite, but for what takes many minutes
	$(RUN) -m pytest -n $(JOBS) --dist loadgroup -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/test ## the rest: whole projects built by their own tools, wheels, kernels on emulated processors
	$(RUN) -m pytest -n $(JOBS) --dist loadgroup -m slow $(PYTEST_ARGS)

# PyTorch is large, so what needs it and skl2onnx is no part of `make test`, where it is skipped.
test-foreign: $(VENV)/test $(VENV)/foreign ## layers, losses, optimizers against PyTorch; models as PyTorch and skl2onnx write them
	$(RUN) -m pytest -n $(JOBS) --dist loadgroup tests/trainer tests/export/test_foreign.py tests/export/test_recurrent_forms.py -k "torch or foreign or skl or recurrent_forms" $(PYTEST_ARGS)

# The last ORT-training wants NumPy 1, so it has an environment of its own; there are no wheels for every Python.
ORT_TRAINING := build/ort-training-venv
$(ORT_TRAINING)/made:
	@$(PYTHON) -m venv --clear $(ORT_TRAINING)
	@$(ORT_TRAINING)/bin/pip install --quiet 'onnxruntime-training==1.19.2' 'numpy<2' 'onnx==1.16.*' && touch $@ || \
	  { echo "skipped: onnxruntime-training 1.19.2 does not install here"; rm -rf $(ORT_TRAINING); }

bench: $(VENV)/bench $(ORT_TRAINING)/made ## speed beside other runtimes on this machine; BENCH="--quick --only 'ad_*'" for a part
	$(RUN) -m benchmarks $(BENCH)

accuracy: $(VENV)/demo ## int8 beside float32 on trained nets and real data, into build/accuracy.json and docs/accuracy.md; ACCURACY="--data FOLDER --only 'ds_*'"
	$(RUN) -m benchmarks.accuracy --page docs/accuracy.md $(ACCURACY)

size: $(VENV)/test ## bytes of code, constants, RAM and stack of every model on every board, against benchmarks/sizes.json
	$(RUN) -m boards size --jobs $(JOBS) $(SIZE_ARGS)

size-accept: $(VENV)/test ## the same, and make them the figures to hold
	$(RUN) -m boards size --jobs $(JOBS) --accept $(SIZE_ARGS)

boards: $(VENV)/test ## the same program on every board, emulated, beside this machine: inference, gradients, learning, kernels
	$(RUN) -m boards compare --jobs $(JOBS) $(BOARDS_ARGS)

# apt-get for the cross compilers and QEMU, as root or through sudo; TOOLS=zig has Linux boards compiled by ziglang instead.
boards-setup: $(VENV)/test ## install what make boards, count and size need: Debian packages, and ziglang into .venv
	@packages="$$($(RUN) -m boards packages)"; as=$$([ "$$(id -u)" = 0 ] || echo sudo); set -x; \
	  $$as apt-get update -qq && $$as apt-get install -y -qq --no-install-recommends $$packages
	$(RUN) -m pip install --quiet 'ziglang>=0.17'

count: $(VENV)/test ## executed instructions of every work on every board, against benchmarks/counts.json
	$(RUN) -m boards count --jobs $(JOBS) $(COUNT_ARGS)

count-accept: $(VENV)/test ## the same, and make them the figures to hold
	$(RUN) -m boards count --jobs $(JOBS) --accept $(COUNT_ARGS)

conformance: $(VENV)/test ## ONNX's own node tests against the C runtime, by operator; docs/conformance.md keeps the table
	$(RUN) -m tests.conformance --jobs $(JOBS) $(CONFORMANCE_ARGS)

conformance-accept: $(VENV)/test ## the same, and make what passes what must pass
	$(RUN) -m tests.conformance --jobs $(JOBS) --accept

# cosmic-ray is needed by nothing else, so it is no part of [test].
$(VENV)/mutants: $(VENV)/test
	$(RUN) -m pip install --quiet 'cosmic-ray>=8.4'
	@touch $@

mutants: $(VENV)/mutants ## small faults in a copy of the sources: which share do the tests notice? MUTANTS="--area ops --count 20 --seed 3"
	nice $(RUN) -m tests.mutants --jobs $(JOBS) $(MUTANTS)

MINUTES ?= 2
fuzz: $(VENV)/test ## attack the runtime with libFuzzer for MINUTES=60 in all; SANITIZER="asan msan m32" WHICH="image record" a part
	$(RUN) -m tests.fuzz --minutes $(MINUTES) $(if $(SANITIZER),--sanitizer $(SANITIZER)) $(if $(WHICH),--which $(WHICH))

fuzz-seeds: $(VENV)/test ## make tests/fuzz/corpus anew, after a change of the image's layout or a new op
	$(RUN) -m tests.fuzz.seeds

# ---- Care ----------------------------------------------------------------------------------------------------------

lint: lint-python lint-c ## ruff, mypy, clang-format, cppcheck, and warnings of gcc and clang

lint-python: $(VENV)/test
	$(BIN)/ruff check $(PY)
	$(BIN)/ruff format --check $(PY)
	@# The installed wheel is what users' type checkers see; from build/ the checkout's folders are out of the way.
	@mkdir -p build
	cd build && ../$(BIN)/mypy --config-file ../pyproject.toml -p edgeprop

# $(call with,tool,command): the command, or a visible word that it was skipped.
with = @if command -v $(1) >/dev/null; then echo '$(1): $(words $(C_FILES)) files'; $(2); else echo "skipped: no $(1)"; fi

lint-c:
	$(call with,clang-format,clang-format --dry-run -Werror $(C_FILES))
	$(call with,cppcheck,cppcheck --quiet --std=c99 --language=c --enable=warning$(comma)portability$(comma)performance \
	  --inline-suppr --error-exitcode=1 -DEP_TRACE -Icsrc $(C_SOURCES))
	$(call with,gcc,$(call warn,gcc))
	$(call with,clang,$(call warn,clang))
	$(call with,g++,g++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -x c++ -fsyntax-only csrc/edgeprop.h)

comma := ,
warn = mkdir -p build/lint; for file in $(C_SOURCES); do for variant in $(VARIANTS); do \
	  $(1) $(WARNINGS) $$variant -O2 -ffp-contract=off -Icsrc -c $$file -o build/lint/out.o || exit 1; done; done

format: $(VENV)/test ## let ruff and clang-format set the layout
	$(BIN)/ruff check --fix-only $(PY)
	$(BIN)/ruff format $(PY)
	$(call with,clang-format,clang-format -i $(C_FILES))

figures: $(VENV)/demo ## run the demo and put its figures and picture into the README
	$(RUN) docs/figures.py $(OUT)

operators: $(VENV)/test ## write docs/operators.md: what a network may be made of
	$(RUN) docs/operators.py

performance: $(VENV)/bench ## put what bench, count and size measured last into docs/performance.md
	$(RUN) docs/performance.py

# ---- Packages ------------------------------------------------------------------------------------------------------

wheel: $(VENV)/test ## dist/: an sdist, and a wheel built from it
	$(RUN) -m build --outdir dist .

$(VENV)/wheels: $(VENV)/test wheels/requirements.txt
	$(RUN) -m pip install --quiet --requirement wheels/requirements.txt
	@touch $@

wheels: $(VENV)/wheels ## dist/: wheels for PCs and every Raspberry Pi, cross-built with zig
	$(RUN) -m wheels

wheels-test: $(VENV)/wheels ## build them, and run each under emulation as far as Debian has a Python for it
	$(RUN) -m pytest tests/wheels $(PYTEST_ARGS)

clean: ## remove everything that was made here
	rm -rf build dist $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
