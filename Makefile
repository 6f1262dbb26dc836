# Every target sets itself up: a fresh machine needs Python, pip, git, make and gcc.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .uv/bin/uv)
RUN := $(UV) run --frozen --extra prefect --extra parquet
export PREFECT_SERVER_ANALYTICS_ENABLED := false
unexport PYTHONDONTWRITEBYTECODE # without bytecode, each process compiles what it imports: of Prefect alone, seconds

.PHONY: demo fresh test check soak bench testbed format uv

demo: uv ## A grid search as a Prefect flow on this machine's processes
	@echo "Installing what the demo needs into .venv: about 120 packages the first time, then nothing."
	@echo "Then examples/grid_search.py starts; what it imports is compiled the first time."
	@$(UV) run --frozen --no-default-groups --extra prefect --group examples python examples/grid_search.py

fresh: ## What README and docs tell a newcomer to run, as on a machine that has never seen the project
	@python3 -m tests.fresh

test: uv ## All tests, with real processes; the Prefect ones on its newest and on the oldest release we support
	@$(RUN) --group dev pytest -n 2 --dist loadfile
	@UV_PROJECT_ENVIRONMENT=.venv-prefect-oldest $(UV) run --frozen --extra prefect --group test --group prefect-oldest \
		pytest -n 2 --dist loadfile -m "not bed" $(wildcard tests/test_prefect*.py)

check: uv ## Format, lint, strict types, layers, doctests
	@$(RUN) --group dev ruff format --check .
	@$(RUN) --group dev ruff check .
	@$(RUN) --group dev mypy
	@$(RUN) --group dev lint-imports
	@$(RUN) python -m starburst_common.image.worker --check
	@$(RUN) --group dev pytest --doctest-modules starburst_common worker/starburst_worker prefect_starburst benchmarks

soak: uv ## Half an hour of maps on the test bed under random faults
	@$(RUN) --group dev python -m tests.soak --minutes 30

bench: uv ## Timings against peers, recorded in docs/performance.md
	@$(RUN) --group dev --group bench python -m benchmarks

testbed: uv ## An AWS on this machine to try the command line against, until Ctrl-C
	@$(RUN) --group dev python -m tests.testbed

format: uv
	@$(RUN) --group dev ruff format .
	@$(RUN) --group dev ruff check --fix .

uv: $(UV)

.uv/bin/uv: # into a folder of the project's own: pip may do that where it may install nowhere else
	@echo "Installing uv into .uv: it is not on the PATH"
	@python3 -m pip install --quiet --target .uv uv || { echo "Install pip (Debian: python3-pip), or uv itself"; exit 1; }
