"""One user's first quarter of an hour: run by the Python of an environment, in a folder beside `work.py`.

Takes the extra that was installed; says on stderr what it is about to try, and on stdout, at the end, what there was.
"""

import json
import os
import subprocess
import sys
from importlib.metadata import distributions, version
from importlib.util import find_spec
from pathlib import Path

import work


def main(extra: str) -> None:
    """Raises at the first thing that is not as it should be."""
    for step in imported, mapped, failed, by_the_shell, defined, BY_EXTRA[extra]:
        print(f"trying: {step.__name__}", file=sys.stderr)
        step()
    shown = ["starburst-ecs", "cloudpickle", *SHOWN.get(extra, ())]
    packages = sum(1 for _ in distributions())
    print(", ".join([f"{packages} packages", *(f"{name} {version(name)}" for name in shown)]))


def imported() -> None:
    """Every package is the installed one, with its types and its public names; the worker is found."""
    import starburst_common

    for name in "starburst_common", "starburst_worker", "prefect_starburst", "starburst_worker.supervisor":
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None, name
        assert Path(spec.origin).is_relative_to(sys.prefix), spec.origin
        assert "." in name or Path(spec.origin).with_name("py.typed").is_file(), name
    for name in starburst_common.__all__:
        assert getattr(starburst_common, name).__doc__, name
    assert version("starburst-ecs") == starburst_common.__version__


def mapped() -> None:
    """A module's function and one of `__main__`, on worker processes."""
    from starburst_common import starburst_map

    placed = starburst_map(work.place, range(20), workers=2, progress=False)
    assert [item for item, _ in placed] == list(range(20)), placed
    assert os.getpid() not in {process for _, process in placed}, placed
    offset = 5
    assert starburst_map(lambda item: item + offset, range(10), workers=1, progress=False) == list(range(5, 15))


def defined() -> None:
    """Whatever a script defines, with the newest cloudpickle; where attrs and pydantic are, which it uses, too."""
    if find_spec("attrs") and find_spec("pydantic"):
        done = subprocess.run([sys.executable, "kinds.py"], capture_output=True, text=True, timeout=300, check=False)
        assert (done.stdout, done.returncode) == ("", 0), done.stdout + done.stderr


def failed() -> None:
    """A failure comes home as itself, with the remote traceback as its cause: function and line, by value or not."""
    from starburst_common import starburst_map

    def in_main(item: int) -> int:
        return work.picky(item)

    for function in work.picky, in_main:
        told = "no failure"
        try:
            starburst_map(function, range(5), workers=1, progress=False)
        except ValueError as error:
            told = f"{error}\n{error.__cause__}"
        assert "three is not liked" in told and "in picky" in told, told
        assert f"in {function.__name__}" in told, told
        if function is in_main:
            assert f'File "{__file__}"' in told and "return work.picky(item)" in told, told


def by_the_shell() -> None:
    """The command is there, knows its version, and maps."""
    assert shell("--version") == f"starburst {version('starburst-ecs')}\n"
    Path("items.jsonl").write_text('{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n')
    said = shell("map", "work:total", "--items", "items.jsonl", "--workers", "1")
    assert [json.loads(line) for line in said.splitlines()] == [3, 7], said
    (kept, *_) = json.loads(shell("runs", "--json"))
    assert kept["state"] == "succeeded", kept


def without() -> None:
    """What an extra brings is asked for by its name."""
    Path("rows.parquet").write_bytes(b"PAR1")
    done = run("map", "work:total", "--items", "rows.parquet")
    assert done.returncode == 2 and "pip install 'starburst-ecs[parquet]'" in done.stderr, done.stderr


def docker() -> None:
    """The engine's library goes with ours; where no engine is, that is what is said."""
    from starburst_common.errors import StarburstError
    from starburst_common.image.engine import engine

    os.environ["DOCKER_HOST"] = f"unix://{Path('nowhere.sock').absolute()}"
    said = ""
    try:
        with engine(5):
            pass
    except StarburstError as error:
        said = str(error)
    assert "no container engine answers" in said, said


def parquet() -> None:
    """A Parquet file's rows are items."""
    import pyarrow
    from pyarrow.parquet import write_table

    write_table(pyarrow.table({"a": [1, 3], "b": [2, 4]}), "rows.parquet")
    said = shell("map", "work:total", "--items", "rows.parquet", "--workers", "1")
    assert [json.loads(line) for line in said.splitlines()] == [3, 7], said


def plot() -> None:
    """An estimate is drawn."""
    Path("items.jsonl").write_text('{"a": 1, "b": 2}\n')
    shell("estimate", "work:total", "--items", "items.jsonl", "--seconds", "60", "--plot", "told.svg")
    assert "<svg" in Path("told.svg").read_text()


def prefect() -> None:
    """A flow's tasks run on workers."""
    from prefect import flow, task

    from prefect_starburst import StarburstTaskRunner

    place = task(work.place)

    @flow(task_runner=StarburstTaskRunner(workers=2))
    def pipeline() -> list[tuple[int, int]]:
        return place.map(range(10)).result()

    placed = pipeline()
    assert [item for item, _ in placed] == list(range(10)), placed
    assert os.getpid() not in {process for _, process in placed}, placed


def airflow() -> None:
    """Airflow's newest release goes with what we need."""
    import airflow

    assert airflow.__version__ == version("apache-airflow")
    mapped()


def shell(*arguments: str) -> str:
    done = run(*arguments)
    assert done.returncode == 0, f"starburst {' '.join(arguments)}: {done.returncode}\n{done.stderr}"
    return done.stdout


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = Path(sys.prefix) / "bin" / "starburst"
    return subprocess.run([command, *arguments], capture_output=True, text=True, check=False)


BY_EXTRA = {"none": without, "docker": docker, "parquet": parquet, "plot": plot, "prefect": prefect, "airflow": airflow}
SHOWN = {
    "docker": ["docker"],
    "parquet": ["pyarrow"],
    "plot": ["matplotlib"],
    "prefect": ["prefect"],
    "airflow": ["apache-airflow"],
}

if __name__ == "__main__":
    main(sys.argv[1])
