# Every target sets itself up: a fresh machine needs Python, pip, git and make.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .uv/bin/uv)
RUN := $(UV) run --frozen --extra prefect --extra parquet
SPREAD := -n 4 --dist loadfile # many tests wait: it takes four processes to keep two cores busy
TEST := $(RUN) --group dev pytest $(SPREAD)
IN_AIRFLOW := UV_PROJECT_ENVIRONMENT=.venv-airflow $(UV) run --frozen --no-default-groups --extra airflow --group test --group lint --group airflow-newest
SEEDS := 0:200# of the schedules that `make soak` tries
export PREFECT_SERVER_ANALYTICS_ENABLED := false
# the same for Prefect's client, which otherwise has a word on it printed amid the demo's first lines
export DO_NOT_TRACK := 1
unexport PYTHONDONTWRITEBYTECODE # without bytecode, each process compiles what it imports: of Prefect alone, seconds

.PHONY: demo fresh test test-all test-rest test-airflow test-airflow-oldest test-airflow-between test-prefect-oldest test-pythons test-wheels test-soak check docs fuzz soak bench bench-airflow testbed format uv

demo: uv ## A grid search as a Prefect flow on this machine's processes, whatever the settings name
	@echo "Installing what the demo needs into .venv: about 120 packages the first time, then nothing."
	@echo "Then examples/grid_search.py starts; what it imports is compiled the first time."
	@STARBURST_BACKEND=local $(UV) run --frozen --no-default-groups --extra prefect --group examples python examples/grid_search.py

fresh: ## What README and docs tell a newcomer to run, as on a machine that has never seen the project
	@python3 -m tests.fresh

test: uv ## What to know before a commit: every promise in short, in twenty minutes at most
	@$(TEST) -m "not rest" --times test
	@$(MAKE) test-airflow

test-all: test test-rest test-prefect-oldest test-airflow-oldest test-pythons test-wheels test-soak ## All there is; each part also alone

test-rest: uv ## Every fault on both backends, every end of a build, what is killed in a whole Airflow, and slow repeats
	@$(TEST) -m rest --times rest
	@$(IN_AIRFLOW) pytest -m rest --times airflow-rest tests/airflow

test-prefect-oldest: uv ## What of Prefect's inside is used, on the oldest release we support
	@UV_PROJECT_ENVIRONMENT=.venv-prefect-oldest $(UV) run --frozen --extra prefect --group test --group prefect-oldest \
		pytest $(SPREAD) -m "contract and not bed" --times prefect-oldest $(wildcard tests/test_prefect*.py)

test-airflow: uv ## The Airflow provider, in an environment with Airflow, which goes with no Prefect
	@$(IN_AIRFLOW) mypy airflow_provider_starburst --exclude example_dags
	@$(IN_AIRFLOW) pytest $(SPREAD) --doctest-modules -m "not rest" --times airflow airflow_provider_starburst tests/airflow

test-airflow-oldest: uv ## The same on the oldest release of Airflow we support
	@UV_PROJECT_ENVIRONMENT=.venv-airflow-oldest $(UV) run --frozen --no-default-groups --extra airflow --group test --group airflow-oldest \
		pytest $(SPREAD) --times airflow-oldest tests/airflow

test-airflow-between: uv ## The same on releases of Airflow 3.0 to 3.2, in environments that are not locked: by hand, now and then
	@$(RUN) --group dev python -m tests.airflows

test-pythons: uv ## The fast tests on the other Pythons, where there are some
	@$(RUN) --group dev python -m tests.pythons

test-wheels: uv ## The wheel in empty environments of each Python, with each extra alone and the newest of what it needs
	@$(RUN) --group dev python -m tests.wheels

test-soak: uv ## Three minutes of what `make soak` does for half an hour, and some schedules on each backend
	@$(RUN) --group dev python -m tests.soak --minutes 3
	@$(RUN) --group dev python -m tests.soak --schedules 0:20 --on local
	@$(RUN) --group dev python -m tests.soak --schedules 0:10 --on bed --at-once 2

check: uv ## Format, lint, strict types, layers, sizes, doctests
	@$(RUN) --group dev ruff format --check .
	@$(RUN) --group dev ruff check .
	@$(RUN) --group dev mypy
	@$(RUN) --group dev lint-imports
	@$(RUN) python -m starburst_common.image.contents --check
	@$(RUN) --group dev pytest --doctest-modules --ignore benchmarks/dags starburst_common worker/starburst_worker prefect_starburst benchmarks tests/test_house.py

docs: uv ## The tables in docs/ that are made from the code
	@$(RUN) --group dev python -m tests.docs_tables

fuzz: uv ## 100,000 inputs that are nearly valid, unsigned and signed, to all that reads what others wrote (SEED=7)
	@$(RUN) --group dev python -m tests.fuzz $(if $(SEED),--seed $(SEED))

soak: uv ## Half an hour of maps on the test bed under random faults, then schedules of faults here and there (SEEDS=0:1000)
	@$(RUN) --group dev python -m tests.soak --minutes 30
	@$(RUN) --group dev python -m tests.soak --schedules $(SEEDS) --on local
	@$(RUN) --group dev python -m tests.soak --schedules $(SEEDS) --on bed --at-once 2

bench: uv ## Timings against peers, recorded in docs/performance.md
	@$(RUN) --group dev --group bench python -m benchmarks

bench-airflow: uv ## What the provider costs Airflow, beside what Airflow itself has for many items: half an hour
	@$(IN_AIRFLOW) --with apache-airflow==3.3.2 --with "apache-airflow-providers-amazon[aiobotocore]==9.39.0" python -m benchmarks airflow_map airflow_triggers airflow_parse

testbed: uv ## An AWS on this machine to try the command line against, until Ctrl-C
	@$(RUN) --group dev python -m tests.testbed

format: uv
	@$(RUN) --group dev ruff format .
	@$(RUN) --group dev ruff check --fix .

uv: $(UV)

.uv/bin/uv: # into a folder of the project's own: pip may do that where it may install nowhere else
	@python3 -m pip --version >/dev/null 2>&1 || { echo "Install pip (Debian: python3-pip), or uv itself" >&2; exit 1; }
	@echo "Installing uv into .uv: it is not on the PATH"
	@PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_ROOT_USER_ACTION=ignore \
		python3 -m pip install --quiet --upgrade --target .uv uv # upgrade: over what is left where this was stopped
