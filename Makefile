# Set-up, tests and the tools around them. The environment lives in .venv; PYTHON=... chooses what it is made from.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.DEFAULT_GOAL := help
.PHONY: help install data train test test-long test-avx2 test-sanitize test-fuzz fuzz fuzz-layers torture test-gpu test-habits test-endurance audit tensorboard docs docs-serve test-browser test-cluster test-ray bench classics report claims claim lint format clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

install: $(READY) ## make the environment alone, or repair one whose set-up was interrupted

# The mark is removed first and written last: an environment without it was interrupted, and is made anew.
# Without a C compiler the project is complete, and slower.
$(READY): pyproject.toml constraints.txt $(wildcard fmnist/speed/*.c fmnist/speed/native/*)
	@if [ ! -f $(READY) ]; then rm -rf .venv; fi
	@rm -f $(READY)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || ( rm -rf .venv; \
	  echo "python3 has no venv module: installing Debian's python3-venv"; \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq python3-venv; \
	  else sudo apt-get update -qq && sudo apt-get install -y -qq python3-venv; fi && $(PYTHON) -m venv .venv )
	@command -v $(CC) > /dev/null || ( echo "there is no C compiler: installing Debian's gcc"; \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq gcc libc6-dev; \
	  else sudo apt-get update -qq && sudo apt-get install -y -qq gcc libc6-dev; fi ) || echo "going on without"
	@echo "installing into .venv what pyproject.toml asks for: some minutes"
	CC=$(CC) $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

data: $(READY) ## fetch and verify the data set
	@$(BIN)/python -m fmnist.data

train: data ## train the two-layer network with dropout: the first run
	$(BIN)/python train.py model=mlp2 +dropout=0.5

test: data ## run the tests; the longer ones, and those of SLURM and Ray, have targets of their own
	$(BIN)/python -m pytest

test-long: data ## the longer checks: real commands that are killed and timed, the commands of README, the ideas of extending.md
	$(BIN)/python -m pytest -m long

test-avx2: data ## the same as on a processor with AVX2 alone; one line where this is one
	@if $(BIN)/python -c 'import sys, torch; sys.exit("AVX512" not in torch.backends.cpu.get_cpu_capability())'; then \
	  ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 FMNIST_ISA=avx2 $(BIN)/python -m pytest; \
	else echo "this processor has no more than AVX2: make test is this test"; fi

test-sanitize: $(READY) ## the native code at odd sizes under sanitizers: address, undefined behaviour, threads
	CC=$(CC) tests/native/sanitize.sh

test-fuzz: ## all that reads files or words of others, fuzzed for a minute each, as many at once as there are processors
	@$(MAKE) --no-print-directory --jobs=$$(nproc) --output-sync=target fuzz SECONDS=60 SEED=1

SECONDS := 3600
SEED := 0
READERS := idx gzip result metrics checkpoint archive study overrides config pictures

fuzz: $(READERS:%=fuzz-%) ## the same for an hour each, with what was found before (READERS="idx gzip" SECONDS=60)

.PHONY: $(READERS:%=fuzz-%)
$(READERS:%=fuzz-%): fuzz-%: .venv/fuzz
	@echo "fuzzing $*"; $(BIN)/python tests/fuzz/fuzz.py $* --seconds $(SECONDS) --seed $(SEED)

.venv/fuzz: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt atheris || echo "going on without atheris"
	@touch $@

fuzz-layers: data ## 10,000 random layer orders, the tape against autograd
	FMNIST_ORDERS=10000 $(BIN)/python -m pytest -m "" tests/speed/test_orders.py

torture: data ## each call of a run, a stack, a resumed run fails in each way, then power, then kills; some of a sweep and a search (2 hours, estimated)
	$(BIN)/python tests/faults/torture.py --work run stack resume --jobs 2
	$(BIN)/python tests/faults/torture.py --work run stack resume --power --jobs 2
	$(BIN)/python tests/faults/torture.py --work run stack resume --random 200 --jobs 2
	$(BIN)/python tests/faults/torture.py --work sweep search --sample 200 --jobs 2

test-gpu: data ## what needs a GPU: tests over devices, CUDA graphs, the bench; one line where there is none
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	  $(BIN)/python -m pytest tests/nn tests/speed tests/train tests/data && \
	  $(BIN)/python -m fmnist.bench peers models stacks --device cuda --repeats 3; \
	else echo "there is no GPU here: nothing to test"; fi

test-habits: data ## the same commands in the habits of others: locales, read-only places, no account, limits (needs root)
	$(BIN)/python -m pytest -n 0 tests/habits/check_*.py

test-endurance: data ## long runs and large folders: 100,000 steps, 10,000 epochs, 1,000 runs, 24 workers (minutes)
	$(BIN)/python -m pytest -n 0 -s tests/endurance/check_*.py

test-browser: data .browser/ready ## TensorBoard's pages in Debian's chromium, installed through apt if it is not here
	$(BIN)/python -m pytest -n 0 tests/browser/check_tensorboard.py

.browser/ready: $(READY)
	@command -v chromedriver > /dev/null && command -v chromium > /dev/null || ( echo "installing Debian's chromium"; \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq --no-install-recommends $(CHROMIUM); \
	  else sudo apt-get update -qq && sudo apt-get install -y -qq --no-install-recommends $(CHROMIUM); fi )
	@mkdir -p $(@D) && touch $@

CHROMIUM := chromium chromium-driver fonts-dejavu-core

test-cluster: data ## sweeps through a real SLURM of two nodes on this machine, installed through apt if it is not here
	$(BIN)/python tests/cluster/onebox.py $(BIN)/python -m pytest tests/cluster/check_slurm.py

test-ray: data .ray/ready ## a sweep under Ray, in an environment of its own
	$(BIN)/python tests/cluster/alone.py .ray/bin/python -m pytest tests/cluster/check_ray.py

# Ray and the versions it wants come before the project's environment, which has all the rest.
.ray/ready: pyproject.toml $(READY)
	@rm -rf .ray
	$(PYTHON) -m venv .ray
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.ray/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/main.pth"
	.ray/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[ray]'
	@touch $@

# Each peer library has an environment of its own; that of Lightning and Keras on torch sees the project's torch.
PEERS := $(foreach name,tensorflow jax jax-old torch libxsmm,.bench/$(name)/ready)
DRIVER := fmnist/bench/peers/libxsmm_train.c

bench: data $(PEERS) ## set up the peers and time this project beside them (an hour or more)
	$(BIN)/python -m fmnist.bench

classics: data .bench/trees/ready ## train boosted trees, an SVC and a kernel ridge on the official split (ARGS="--learners svc")
	$(BIN)/python -m fmnist.bench classics $(ARGS)

.bench/%/ready: fmnist/bench/peers/requirements-%.txt $(READY)
	@rm -rf .bench/$*
	$(PYTHON) -m venv .bench/$*
	@if [ $* = torch ]; then $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.bench/$*/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/main.pth"; fi
	.bench/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement fmnist/bench/peers/requirements-$*.txt
	@if [ $* = libxsmm ]; then $(MAKE) --no-print-directory .bench/libxsmm/libxsmm_train.so || rm -rf .bench/libxsmm; fi
	@touch $@ || echo "going on without $*"

# Where LIBXSMM is not to be had, the bench goes on without it.
.bench/libxsmm/ready: $(DRIVER)

.bench/libxsmm/libxsmm_train.so: $(DRIVER)
	@test -f /usr/include/libxsmm.h || ( echo "installing Debian's libxsmm-dev"; \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq libxsmm-dev; \
	  else sudo apt-get update -qq && sudo apt-get install -y -qq libxsmm-dev; fi )
	$(CC) -O3 -march=x86-64-v3 -ffast-math -fopenmp -shared -fPIC $(DRIVER) -o $@ -lxsmm -lxsmmnoblas -lm

report: data ## run the systems of the report again and write docs/report/ (3 hours, a third of it estimated; ARGS=--dry-run says what is left)
	$(BIN)/python -m fmnist.replication systems recipe $(ARGS)

claims: data ## put all claims of the report to the test, and what differs from it (2.8 hours; ARGS=--dry-run says what is left)
	$(BIN)/python -m fmnist.replication claims confirm differences $(ARGS)

claim: data ## one claim again, with seeds of your own: make claim CLAIM=dropout SEEDS=100..109
	@$(if $(CLAIM),,echo "CLAIM must name a claim, SEEDS its seeds: make claim CLAIM=dropout SEEDS=100..109" >&2; exit 2)
	$(BIN)/python -m fmnist.replication $(CLAIM) $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

tensorboard: $(READY) ## show the newest sweep to this machine alone, at the address that is printed (LOGDIR=outputs/mine ARGS=--port=6007)
	$(BIN)/python -m fmnist.board $(LOGDIR) $(ARGS)

docs: .docs/ready ## build the documentation site into site/, and check its links and that it loads nothing from elsewhere
	NO_MKDOCS_2_WARNING=1 .docs/bin/python -m mkdocs build --strict
	.docs/bin/python -m pytest -n 0 tests/site/check_site.py

docs-serve: docs ## show the site to this machine alone (PORT=8001)
	.docs/bin/python -m http.server $(or $(PORT),8000) --bind 127.0.0.1 --directory site

.docs/ready: pyproject.toml $(READY)
	@rm -rf .docs
	$(PYTHON) -m venv .docs
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.docs/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/main.pth"
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
	  > .docs/wanted
	.docs/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --requirement .docs/wanted
	@touch $@

audit: .audit/ready ## look up known holes of the installed versions (pip-audit, in an environment of its own; needs the network)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' | xargs -I{} .audit/bin/python tests/supply/audit.py {}

.audit/ready: $(READY)
	@rm -rf .audit
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	@touch $@

lint: $(READY) ## check style and types, and say how long each package is
	@$(BIN)/python docs/house.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## put the code into the project's format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean: ## remove the environment and all caches; runs and data stay
	rm -rf .venv .browser .bench .ray .audit .docs .fuzz build site *.egg-info fmnist/speed/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
