"""Containers are real: pulled from a registry, limited in memory, told to stop, and all gone in the end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.testbed.containers import ContainerRunner, StartedContainer
from tests.testbed.engine import ECR, Engine
from tests.testbed.runners import CannotPull, Exit, Order


@pytest.fixture(scope="module")
def python(engine: Engine) -> str:
    """An image with Python, as a task definition names it."""
    base = engine.base_image()
    return engine.publish(base, base)


@pytest.fixture(scope="module")
def worker(engine: Engine) -> str:
    """The worker's image, as a task definition names it."""
    return engine.test_image()


@pytest.fixture
def runner(engine: Engine) -> Iterator[ContainerRunner]:
    """A runner that ends what it started."""
    opened = ContainerRunner(engine)
    yield opened
    opened.close()


def order(image: str, *command: str, memory_mib: int = 256, on_line: Callable[[str], None] = print) -> Order:
    """An order for a small container."""
    return Order(
        task_id="task-1",
        image=image,
        command=command,
        environment={"GREETING": "hello"},
        cpu_units=1024,
        memory_mib=memory_mib,
        on_line=on_line,
    )


def ended(runner: ContainerRunner, what: Order) -> Exit:
    """Pull, start and wait."""
    runner.pull(what.image)
    return runner.start(what).wait()


def ready(runner: ContainerRunner, image: str, program: str) -> StartedContainer:
    """A container that has printed a line."""
    lines: list[str] = []
    runner.pull(image)
    started = runner.start(order(image, "python3", "-uc", program, on_line=lines.append))
    until = time.monotonic() + 120
    while not lines and time.monotonic() < until:
        time.sleep(0.02)
    assert lines
    return started


def test_what_a_container_prints_arrives_line_by_line(runner: ContainerRunner, python: str) -> None:
    """Both streams, the environment, and a last line without an end."""
    lines: list[str] = []
    program = "import os, sys; print(os.environ['GREETING']); print('oops', file=sys.stderr); print('end', end='')"
    assert ended(runner, order(python, "python3", "-c", program, on_line=lines.append)) == Exit(0)
    assert sorted(lines) == ["end", "hello", "oops"]


def test_an_exit_code_is_kept(runner: ContainerRunner, python: str) -> None:
    """As the first process gave it."""
    assert ended(runner, order(python, "sh", "-c", "exit 3")) == Exit(3)


def test_sigterm_reaches_the_first_process(runner: ContainerRunner, python: str) -> None:
    """It may end in its own way; where it does not hear it, nothing happens, as with any first process."""
    caught = ready(
        runner,
        python,
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('ready'); time.sleep(600)",
    )
    caught.signal(signal.SIGTERM)
    assert caught.wait() == Exit(7)
    uncaught = ready(runner, python, "import time; print('ready'); time.sleep(600)")
    uncaught.signal(signal.SIGTERM)
    uncaught.kill()
    assert uncaught.wait() == Exit(137)
    uncaught.signal(signal.SIGTERM)


def test_death_for_memory_is_told_from_a_kill(runner: ContainerRunner, python: str) -> None:
    """Both end with 137: only the one has ECS's reason."""
    greedy = order(python, "python3", "-c", "b'1' * (1 << 30)", memory_mib=64)
    assert ended(runner, greedy) == Exit(137, "OutOfMemoryError: Container killed due to memory usage")
    killed = ready(runner, python, "import time; print('ready'); time.sleep(600)")
    killed.kill()
    assert killed.wait() == Exit(137)


def test_a_child_killed_for_memory_is_not_the_containers_end(runner: ContainerRunner, python: str) -> None:
    """A slot may die for memory: the worker goes on, and its own end counts."""
    program = "import subprocess, sys; sys.exit(subprocess.call(['python3', '-c', 'bytearray(1 << 30)']) != -9)"
    assert ended(runner, order(python, "python3", "-c", program, memory_mib=64)) == Exit(0)


def test_an_image_that_is_not_there_cannot_be_pulled(runner: ContainerRunner) -> None:
    """In ECS's words."""
    missing = f"{ECR}/nobody:nothing"
    with pytest.raises(CannotPull) as caught:
        runner.pull(missing)
    assert str(caught.value) == (
        "CannotPullContainerError: pull image manifest has been retried 1 time(s): "
        f"failed to resolve ref {missing}: {missing}: not found"
    )


def test_nothing_is_left_after_close(engine: Engine, python: str) -> None:
    """Running containers are counted by the engine, and ended and removed by `close`."""
    runner = ContainerRunner(engine)
    started = ready(runner, python, "import time; print('ready'); time.sleep(600)")
    assert runner.running() == ["task-1"]
    runner.close()
    assert started.wait() == Exit(137)
    assert runner.running() == []
    assert engine.client.containers.list(all=True, filters={"label": f"starburst.bed={runner.bed}"}) == []


def test_containers_of_a_crashed_session_are_removed(engine: Engine, python: str) -> None:
    """Those of a session that lives are not."""
    program = (
        "import os; from tests.testbed.engine import running_engine; from tests.testbed.test_containers import *\n"
        "with running_engine() as engine:\n"
        f"    runner = ContainerRunner(engine); ready(runner, {python!r}, 'import time; print(1); time.sleep(600)')\n"
        "    print(runner.bed, flush=True); os._exit(1)"
    )
    crashed = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=60, check=False
    )
    bed: dict[str, str | list[str] | bool] = {"label": f"starburst.bed={crashed.stdout.strip()}"}
    assert len(engine.client.containers.list(filters=bed)) == 1
    mine = ContainerRunner(engine)
    lives = ready(mine, python, "import time; print('ready'); time.sleep(600)")
    ContainerRunner(engine).close()
    assert engine.client.containers.list(all=True, filters=bed) == []
    assert mine.running() == ["task-1"]
    mine.close()
    lives.wait()


def test_the_workers_image_is_small_and_not_roots(engine: Engine, worker: str) -> None:
    """At most 60 MB on top of the base; nothing in it runs as root or in a shell."""
    engine.client.images.pull(engine.local(worker))
    added = engine.added_bytes(engine.local(worker), engine.base_image())
    assert added < 60_000_000
    config = engine.client.images.get(engine.local(worker)).attrs["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["python3", "/opt/starburst/supervisor"]


def test_the_worker_starts_without_a_network(engine: Engine, worker: str) -> None:
    """Supervisor and slot find their modules; the work folder is the worker's; what it needs is compiled."""
    program = (
        "import os, pathlib, starburst_worker.supervisor, starburst_worker.slot as slot, cloudpickle\n"
        "assert os.getuid() == 10001 and pathlib.Path.cwd() == pathlib.Path.home()\n"
        "pathlib.Path('board').touch(); assert pathlib.Path(slot.__cached__).exists()"
    )
    run = engine.client.containers.run
    run(engine.local(worker), ["-c", program], entrypoint="python3", network_mode="none", remove=True)


def test_users_functions_see_their_own_packages_only(engine: Engine, worker: str) -> None:
    """The supervisor's boto3 lacks most services: a slot must not find it, while the supervisor does."""
    image, run = engine.local(worker), engine.client.containers.run
    finds = (
        "import importlib.util as u; print([bool(u.find_spec(name)) for name in ('boto3', 'obstore', 'cloudpickle')])"
    )
    said = run(image, ["-P", "-c", finds], entrypoint="python3", network_mode="none", remove=True)
    assert said.decode().strip() == "[False, False, True]"
    supervisors = (
        "import sys; sys.path.insert(0, '/opt/starburst/supervisor')\n"
        "import starburst_worker.supervisor, starburst_common.aws"
    )
    run(image, ["-P", "-c", supervisors], entrypoint="python3", network_mode="none", remove=True)


def test_the_entry_point_is_the_supervisor(runner: ContainerRunner, worker: str) -> None:
    """Without its orders it says which variable it lacks, and fails."""
    lines: list[str] = []
    assert ended(runner, order(worker, on_line=lines.append)).code == 1
    assert "STARBURST_WORKER" in lines[-1]
