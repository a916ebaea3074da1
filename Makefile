# Each target works from a fresh clone with python3, make and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

.PHONY: setup demo test conformance check bench bench-plan fuzz clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet -e '.[dev]'
	mkdir -p $(VENV)/src && ln -sfn ../.. $(VENV)/src/stratac
	touch $@

demo: $(STAMP)
	$(BIN)/python -m examples.sentence_embeddings

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal

conformance: $(STAMP)
	$(BIN)/python -m tests.conformance --cold --jobs 2 --quiet --against docs/conformance.json

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[peers]'
	$(BIN)/python -m benchmarks.models --mode all
	$(BIN)/python -m benchmarks.readme_table

# Damaged models against the compiler, for 20 minutes; findings are written to fuzz-findings/.
fuzz: $(STAMP)
	$(BIN)/python tests/fuzz_models.py --minutes 20

bench-plan: $(STAMP)
	$(BIN)/python -m benchmarks.predictions
	$(BIN)/python -m benchmarks.ranking
	$(BIN)/python -m benchmarks.streaming
	$(BIN)/python -m benchmarks.readme_table

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
