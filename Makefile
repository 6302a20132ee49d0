PYTHON ?= python3
PORT ?= 8501
# Files of tests are shared out between processes, those that take longest first (tests/conftest.py);
# each test on one thread.
PYTEST_ARGS ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
VENV := .venv
BIN := $(VENV)/bin

.PHONY: app test docs gpu clean

app: $(VENV)/.app
	$(BIN)/streamlit run app.py --server.port $(PORT)

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PYTEST_ARGS)

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

# With the Python that has torch for the card: nothing is set up, nothing is fetched.
gpu:
	$(PYTHON) -m benchmarks.gpu --all --out gpu.jsonl

# Each set-up step leaves a mark, so that it is repeated only when its requirements change.
$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.app: $(VENV)/.venv requirements.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.test: $(VENV)/.app requirements-test.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-test.txt
	touch $@

$(VENV)/.docs: $(VENV)/.venv requirements-docs.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-docs.txt
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info
