# demo test test-full check bench docs: every verb sets up .venv first, once per change of the files it is made of.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-full peers check format bench bench-recovery bench-scores bench-train bench-sweep bench-generator bench-plan bench-dry-run bench-generate bench-peers bench-capture bench-cache bench-explainers bench-eigenscore docs picture system clean

$(READY): pyproject.toml constraints.txt hatch_build.py $(wildcard src/actscope/ops/kernels/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; give it with PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/actscope demo

# Browser tests drive the system's chromium.
system:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	  else sudo apt-get update -qq && sudo apt-get install -y -qq chromium >/dev/null; fi; }

test: $(READY) system
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not full and not gpu"

# The environments of the packages we are measured against and exchange files with: .peers/, or $ACTSCOPE_PEERS.
peers: $(READY)
	$(BIN)/python benchmarks/peers/environments.py

test-full: $(READY) system peers
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not gpu"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/basedpyright

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: bench-recovery bench-train bench-sweep bench-generator bench-generate

bench-recovery: $(READY)
	$(BIN)/python -m benchmarks.recovery

# Every score of a dictionary beside what it must beat; ten minutes.
bench-scores: $(READY)
	$(BIN)/python -m benchmarks.dictionary_scores

bench-sweep: $(READY)
	$(BIN)/python -m benchmarks.sweep

bench-generator: $(READY)
	$(BIN)/python -m benchmarks.generator

# What `actscope plan` says of five captures and fits, against doing them.
bench-plan: $(READY)
	$(BIN)/python -m benchmarks.plan

# What `actscope capture --dry-run` says, against capturing.
bench-dry-run: $(READY)
	$(BIN)/python -m benchmarks.dry_run

bench-generate: $(READY)
	$(BIN)/python -m benchmarks.generate

# Detection, precision and named causes of what explainers find on three texts; a quarter of an hour.
bench-explainers: $(READY)
	$(BIN)/python -m benchmarks.explainers

# The efficient EigenScore against all eigenvalues; five minutes.
bench-eigenscore: $(READY)
	$(BIN)/python -m benchmarks.eigenscore

# On the CPU, and on a GPU where torch sees one.
bench-train: $(READY)
	$(BIN)/python -m benchmarks.train
	@! $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || $(BIN)/python -m benchmarks.train --device cuda

# Beside the packages of the environments that `peers` makes; half an hour.
bench-peers: $(READY) peers
	$(BIN)/python -m benchmarks.peers.compare

# Beside nnsight and TransformerLens, from the environments that `peers` makes; ten minutes.
bench-capture: $(READY) peers
	$(BIN)/python -m benchmarks.capture

# Beside delphi, from the environment that `peers` makes; ten minutes.
bench-cache: $(READY) peers
	$(BIN)/python -m benchmarks.cache

# The pages of docs/ are plain Markdown; this runs every Python example in them and in the README.
docs: $(READY)
	$(BIN)/python -m pytest tests/test_docs.py

# Draws the pictures of the README again from the last `make demo`.
picture: $(READY) system
	$(BIN)/python docs/screenshot.py runs/demo/report.html docs/images/report.png

clean:
	rm -rf .venv .peers runs .pytest_cache .ruff_cache .hypothesis .import_linter_cache
