# Two doors: `make demo` and `make test`. Each sets up all it needs on a fresh machine; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMPS := .cache/stamps
# typeguard checks annotations at run time. Four at a time on two cores: the interop and system tests mostly wait. A test
# process that crashes ends the run: with another one in its place, the scheduler may wait for ever.
PYTEST := $(BIN)/python -m pytest --typeguard-packages=servicex_server -n 4 --dist loadfile --max-worker-restart=0

# --- doors -----------------------------------------------------------------------------------------------------

.PHONY: demo
demo: env samples ## the official client gets columns of CMS, ATLAS and toy files; leaves demo.png
	$(BIN)/python examples/demo.py

.PHONY: test
test: env samples client26 finder debian ## all tests but the long ones; what had to be skipped is listed at the end
	$(PYTEST) -m "not long and not rucio" $(PYTEST_ARGS)

# --- for developers --------------------------------------------------------------------------------------------

.PHONY: lint
lint: env ## ruff, mypy, import layers, spelling, shell scripts, sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/shellcheck scripts/*.sh .ci/run
	$(BIN)/python scripts/check_tree.py

.PHONY: format
format: env ## let ruff sort imports and lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: test-long
test-long: env samples client26 finder debian spark ## the tests that take minutes or need heavy oracles
	$(PYTEST) -m long $(PYTEST_ARGS) || test $$? = 5 # 5: there is none

.PHONY: test-rucio
test-rucio: env samples debian rucio ## our Rucio finder against a real Rucio server and real storage
	$(PYTEST) -m rucio $(PYTEST_ARGS)

.PHONY: bench
bench: ## bench-engine on small files, then bench-service
	$(MAKE) bench-engine BENCH_EVENTS=$(or $(BENCH_EVENTS),200000)
	$(MAKE) bench-service

# Without an environment of the peers: what the developers' own holds of them.
.PHONY: bench-engine
bench-engine: samples peers ## the engine beside its peers, docs/performance.md; BENCH_EVENTS=200000 is a fifth
	@python=.venv-bench/bin/python; [ -x $$python ] || python=$(BIN)/python; \
	$$python -m benchmarks.engine --events $(or $(BENCH_EVENTS),1000000) $(BENCH_ARGS)

.PHONY: bench-service
bench-service: env samples ## time to ready, latency, submits per second, memory; writes .cache/bench/service.json
	$(BIN)/python -m benchmarks.service $(BENCH_ARGS)

.PHONY: bench-remote
bench-remote: env samples debian ## reading over root:// and http:// with 30 ms of delay, beside uproot
	PYTHONPATH=. $(BIN)/python -m benchmarks.remote $(BENCH_ARGS)

.PHONY: bench-rucio
bench-rucio: env debian rucio ## a container of 100,000 files in a real Rucio becomes work: times, memory of the finder
	$(BIN)/python -m benchmarks.rucio $(BENCH_ARGS)

.PHONY: bench-database
bench-database: env debian ## hot queries with a thousand and a million results, and submits, on SQLite and PostgreSQL
	$(BIN)/python -m benchmarks.database $(BENCH_ARGS)

.PHONY: chaos
chaos: env samples debian ## a deployment under random faults, SEEDS=20 times, then each fault by itself
	PYTHONPATH=tests $(BIN)/python -m chaos --seeds $(or $(SEEDS),20) --singles --full-disk

.PHONY: soak
soak: env samples debian ## many small requests of several users under faults, for MINUTES=10
	PYTHONPATH=tests $(BIN)/python -m chaos --soak $(or $(MINUTES),10)

.PHONY: lock
lock: ## pin the newest dependencies that pyproject.toml allows, with hashes
	scripts/lock.sh

.PHONY: clean
clean: ## remove environments, caches and results
	rm -rf .venv .venv-bench .venv-client26 .venv-finder .venv-rucio .venv-spark .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo.png

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# --- set-up, done once per change of what it depends on --------------------------------------------------------

.PHONY: env samples client26 finder debian peers rucio spark
env: $(STAMPS)/env ;@:
samples: $(STAMPS)/samples ;@:
client26: $(STAMPS)/client26 ;@:
finder: $(STAMPS)/finder ;@:
debian: $(STAMPS)/debian ;@:
peers: $(STAMPS)/peers ;@:
rucio: $(STAMPS)/rucio ;@:
spark: $(STAMPS)/spark ;@:

$(STAMPS)/env: requirements/dev.txt pyproject.toml scripts/setup_env.sh
	scripts/setup_env.sh
	@mkdir -p $(@D) && touch $@

$(STAMPS)/samples: requirements/samples.txt scripts/fetch_samples.py | $(STAMPS)/env
	$(BIN)/python scripts/fetch_samples.py
	@mkdir -p $(@D) && touch $@

$(STAMPS)/client26: requirements/client26.txt scripts/setup_client26.sh
	scripts/setup_client26.sh
	@mkdir -p $(@D) && touch $@

$(STAMPS)/finder: requirements/finder.txt scripts/setup_finder.sh
	scripts/setup_finder.sh
	@mkdir -p $(@D) && touch $@

$(STAMPS)/debian: scripts/setup_debian.sh
	scripts/setup_debian.sh
	@mkdir -p $(@D) && touch $@

$(STAMPS)/peers: requirements/bench.txt scripts/setup_bench.sh
	scripts/setup_bench.sh
	@mkdir -p $(@D) && touch $@

$(STAMPS)/rucio: requirements/rucio.txt scripts/setup_rucio.sh
	scripts/setup_rucio.sh
	@mkdir -p $(@D) && touch $@

$(STAMPS)/spark: requirements/spark.txt scripts/setup_spark.sh
	scripts/setup_spark.sh
	@mkdir -p $(@D) && touch $@
