# Two commands on a fresh machine: `make demo` and `make test`. Both set everything up first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup lint check dist docs reference test converters cubins lowest demo latency clean

setup: $(VENV)/.installed

# torch comes first and by its pin: its CPU build is enough, and a range could pull CUDA packages.
$(VENV)/.installed: pyproject.toml constraints.txt tools/torchvision_beside_cpu_torch.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	cp tools/torchvision_beside_cpu_torch.py "$$site"; \
	echo 'import torchvision_beside_cpu_torch' > "$$site/torchvision_beside_cpu_torch.pth"
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check: lint
	$(BIN)/mypy

# The site of the documentation, in build/docs. A broken link fails.
docs: setup
	$(BIN)/zensical build --config-file mkdocs.yml --strict --clean

# Wheel and sdist in dist/, tried in fresh environments: 2 GB for each version of Python.
dist: setup
	tools/dist.sh $(abspath $(BIN))/python

# Pages of docs/reference that follow from the code. A test fails until they are committed.
reference: setup
	$(BIN)/python tools/write_reference.py

# Threads, signals and cameras watch a clock, so their tests have the machine to themselves. The others
# mostly compute, so they share the cores out among them. They come first and make the bundles, which
# the second part uses too.
CLOCKED := base feed ffmpeg ffmpeg_v4l2 gstreamer iterable live several
WATCH := tests/runtime/pipeline tests/runtime/serve \
	$(CLOCKED:%=tests/runtime/sources/test_%.py) \
	$(filter-out %test_frames.py %test_options.py,$(wildcard tests/runtime/test_*.py))
SHARED := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist worksteal

# Mypy uses one core for a minute: it runs beside the first part, which ends later.
test: lint
	set -e; export EDGEUNET_MADE=$$(mktemp -d); types="$$EDGEUNET_MADE/types"; \
	$(BIN)/mypy > "$$types" & mypy=$$!; \
	trap 'kill $$mypy 2> /dev/null || true; rm -rf "$$EDGEUNET_MADE"' EXIT; \
	$(SHARED) $(addprefix --ignore=,$(WATCH)) tests; \
	wait $$mypy || { cat "$$types"; exit 1; }; cat "$$types"; \
	$(BIN)/pytest $(WATCH)

# After a change to the CUDA kernels. Downloads 300 MB of compilers once.
cubins: setup
	$(BIN)/python tools/build_cubins.py

# Tests of the targets litert and executorch, in environments of their own: 2 GB or more.
converters:
	tests/converters.sh

# 3 GB for each version of Python.
lowest:
	tests/lowest_versions.sh

demo: setup
	$(BIN)/edgeunet demo --force

latency: setup
	$(BIN)/python benchmarks/cpu_latency.py

clean:
	rm -rf $(VENV) build dist demo *.egg-info
