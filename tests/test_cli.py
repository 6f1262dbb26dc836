"""The `starburst` command as a shell runs it: what it prints where, and with which exit code it ends."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from fcntl import LOCK_EX, flock, ioctl
from html import unescape
from pathlib import Path
from termios import FIONREAD
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.main import get_command

from starburst_common import RunState, list_runs
from starburst_common.cli.app import app
from starburst_common.cli.items import open_items
from starburst_common.cli.lines import json_text
from starburst_common.limits import Limits
from starburst_common.local import local_backend
from starburst_common.model import RunId
from starburst_common.names import RUNS, RunNames
from starburst_common.runs.spec import find_spec
from tests.leftovers import nothing_left, processes_in

WORK = """
import logging, os, time
from collections import namedtuple
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

print("work is imported")
limit = 3

def double(x):
    return 2 * x

tried = []

def flaky(kind):
    tried.append(kind)
    if tried.count(kind) == 1:
        raise {"OSError": OSError, "KeyError": KeyError}[kind](kind)
    return tried.count(kind)

def picky(x):
    print("looking at", x)
    logging.getLogger("picky").warning("hm, %s", x)
    if x % 3 == 0:
        raise ValueError(f"{x} is a\\nmultiple of 3")
    return -x

def same(row):
    return row

def slow(x):
    time.sleep(0.4)
    return x

def held(x):
    while x and not (Path(os.environ["STARBURST_HOME"]).parent / "gate").exists():
        time.sleep(0.02)
    return x

def odd_items(x):
    if x == 2:
        raise ValueError(x)
    return held(x) if x > 3 else None if x == 1 else x

def long(x):
    return "x" * 1_000_000

@dataclass
class Point:
    x: float
    when: date

def odd_values(x):
    import numpy as np
    things = {"b", Path("a"), Decimal("0.10")}
    point = Point(1.0, date(2027, 1, 2))
    return [np.float64(0.5), np.arange(3), point, float("nan"), {1}, {(1, 2): Path("a")}, 1j, things]
"""
COMMAND = [sys.executable, "-m", "starburst_common.cli"]
# As COMMAND, with Ctrl-C heard even where whoever started the tests had it ignored.
INTERRUPTIBLE = (
    "import signal; signal.signal(2, signal.default_int_handler); import starburst_common.cli as c; c.main()"
)


@dataclass(frozen=True)
class Shell:
    """A folder with a module and items, and a home of its own."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def __call__(self, *arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment(**env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", INTERRUPTIBLE, *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def environment(self, **more: str) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("STARBURST_")}
        own = {"STARBURST_HOME": str(self.home), "STARBURST_CONFIG": str(self.folder / "none")}
        return {**inherited, **own, **self.env, **more}

    def states(self) -> list[RunState]:
        """Of every run, newest first."""
        return [run.status().state for run in list_runs(backend=local_backend(self.home))]


def shell_in(folder: Path) -> Shell:
    (folder / "work.py").write_text(WORK)
    (folder / "items.jsonl").write_text("".join(f"{number}\n" for number in range(6)))
    return Shell(folder)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return shell_in(tmp_path)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell with one run, two of whose six items have failed. Only to be looked at."""
    shell = shell_in(tmp_path_factory.mktemp("kept"))
    assert shell("map", "work:picky", "-i", "items.jsonl", "--label", "six", "--tag", "team=x=y").returncode == 1
    return shell


def values(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def one_error(done: subprocess.CompletedProcess[str]) -> str:
    """The only line on stderr, but for what the module itself prints."""
    (line,) = [line for line in done.stderr.splitlines() if line != "work is imported"]
    assert line.startswith("error: ")
    assert done.stdout == ""
    return line


# --- help -------------------------------------------------------------------------------------------------------------


def test_help_comes_at_once_and_tells_the_exit_codes(shell: Shell) -> None:
    """No command's help loads the core, and each says with which codes it ends."""
    before = os.times()
    done = shell("--help")
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 2.0
    assert done.returncode == 0
    assert "130 Ctrl-C" in " ".join(done.stdout.split())
    assert "130 Ctrl-C" in " ".join(shell("map", "--help").stdout.split())
    probe = "import sys, starburst_common.cli.app; print({'rich.console', 'obstore', 'cloudpickle'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "set()"


def test_every_command_takes_json() -> None:
    """So that a script can read whatever there is to read."""

    def commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, each in group.commands.items():
            yield from commands(each, *path, name) if hasattr(each, "commands") else [((*path, name), each)]

    every = dict(commands(get_command(app)))
    assert ("report",) in every and ("image", "gc") in every
    assert [path for path, each in every.items() if "--json" not in [o for p in each.params for o in p.opts]] == []


def test_the_version_is_the_packages(shell: Shell) -> None:
    """`--version` prints it and nothing else."""
    from starburst_common import __version__

    assert shell("--version").stdout == f"starburst {__version__}\n"


# --- map: what goes in, what comes out --------------------------------------------------------------------------------


def test_results_are_json_lines_in_the_order_of_the_items(shell: Shell) -> None:
    """Results alone go to stdout; what the module prints, and the summary, to stderr."""
    done = shell("map", "work:double", "--items", "items.jsonl", "--workers", "2")
    assert done.returncode == 0
    assert values(done.stdout) == [0, 2, 4, 6, 8, 10]
    assert "work is imported\n" in done.stderr
    assert "succeeded: 6 items in " in done.stderr
    assert "on AWS: about $0.0018 on Fargate in us-east-1" in done.stderr


def test_quiet_says_nothing_where_all_is_fine(shell: Shell) -> None:
    """With --quiet stderr has only what the user's module printed."""
    assert shell("map", "work:double", "-i", "items.jsonl", "-q").stderr == "work is imported\n"


def test_a_failed_item_is_a_null_line_and_exit_code_1(shell: Shell) -> None:
    """Line n belongs to item n, whatever failed; stderr tells which did and where to look."""
    done = shell("map", "work:picky", "-i", "items.jsonl")
    assert done.returncode == 1
    assert values(done.stdout) == [None, -1, -2, None, -4, -5]
    assert "item 3: ValueError: 3 is a multiple of 3\n" in done.stderr
    assert "next: starburst failures run-" in done.stderr


def test_json_tells_values_from_failures(shell: Shell) -> None:
    """With --json each line is an object with the item's number."""
    done = shell("map", "work:picky", "-i", "items.jsonl", "--json", "-q")
    assert done.returncode == 1
    name = json.loads(shell("status", "last", "--json").stdout)["id"]
    (error,) = [line for line in done.stderr.splitlines() if line != "work is imported"]  # no summary
    assert error == f"error: failed: 2 of 6 items failed: starburst failures {name}"
    lines = values(done.stdout)
    assert lines[1] == {"item": 1, "value": -1}
    assert [line["item"] for line in lines if "failure" in line] == [0, 3]
    assert lines[3]["failure"]["kind"] == "user"
    assert lines[3]["failure"]["error"] == "ValueError"


def test_more_failures_than_tolerated_stop_the_run(shell: Shell) -> None:
    """`--tolerate 0` ends at the first, with exit code 4 and the reason; within what is tolerated all is fine."""
    done = shell("map", "work:picky", "-i", "items.jsonl", "--tolerate", "50%")
    assert done.returncode == 0
    assert values(done.stdout) == [None, -1, -2, None, -4, -5]
    assert "failed: 6 items in " in done.stderr
    assert shell("status", "last").returncode == 0
    done = shell("results", "last")
    assert done.returncode == 0
    assert "item 3: ValueError: 3 is a multiple of 3\n" in done.stderr
    done = shell("map", "work:picky", "-i", "items.jsonl", "--tolerate", "0", "--workers", "1")
    assert done.returncode == shell("status", "last").returncode == 4
    assert "more than the 0 tolerated" in done.stderr
    (error,) = shell("results", "last", "-q").stderr.splitlines()
    assert error.startswith("error: stopped: ")
    assert " of 6 items failed, more than the 0 tolerated: starburst failures run-" in error
    assert shell.states() == [RunState.STOPPED, RunState.FAILED]


def test_map_takes_the_options_of_starburst_map(shell: Shell) -> None:
    """Which exceptions are tried again; that all failures are wanted; an image; a budget; when it stops.

    From variables, too.
    """
    more = (
        "--retries",
        "1",
        "--retry-on",
        "OSError",
        "--retry-on",
        "json:JSONDecodeError",
        "--budget",
        "5",
        "--max-hourly-cost",
        "10",
        "--alert-at",
        "25, 90",
        "--deadline",
        "2h",
        "-q",
    )
    done = shell("map", "work:flaky", "-i", "-", *more, "--image", "mine:1", stdin='"OSError"\n"KeyError"\n')
    assert values(done.stdout) == [2, None]
    home = local_backend(shell.home)
    (ran,) = list_runs(backend=home)
    limits = find_spec(home, ran.id).terms.limits
    home.close()
    assert limits == Limits(budget_usd=5.0, hourly_usd=10.0, alerts=(25.0, 90.0), deadline_s=7200.0)
    everything = "0\n" * 60
    done = shell("map", "work:picky", "-i", "-", "--return-exceptions", "-q", "--chunk-size", "5", stdin=everything)
    assert done.returncode == 1
    assert "60 of 60 items failed" in done.stderr
    outside = {"STARBURST_LABEL": "nightly", "STARBURST_CHUNK_SIZE": "5", "STARBURST_SPOT": "yes"}
    more = ("-q", "--workers", "1", "--no-spot")
    done = shell("map", "work:picky", "-i", "-", *more, stdin=everything * 50, **outside)
    (fields,) = json.loads(shell("runs", "--label", "nightly", "--json").stdout)
    assert fields["label"] == "nightly"
    assert done.returncode == 4
    assert "items all failed alike (user: ValueError)" in done.stderr


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl", "csv on stdin", "a pipe"])
def test_rows_of_a_table_are_dicts(shell: Shell, form: str) -> None:
    """CSV (all text), Parquet and JSON lines, told apart by suffix or --format; from files, pipes and stdin."""
    rows: list[dict[str, Any]] = [{"a": 1, "b": "x"}, {"a": 2, "b": 'y, "z"\nü'}]
    text, stdin = 'a,b\r\n1,x\r\n\r\n2,"y, ""z""\nü"\r\n', ""
    more: tuple[str, ...] = ()
    source = shell.folder / f"rows.{form}"
    if form == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), source)
    elif form == "jsonl":
        rows[1]["b"] += "z" * 200_000
        source.write_text("\ufeff" + "\n\n".join(map(json.dumps, rows)))
    else:
        rows = [{**row, "a": str(row["a"])} for row in rows]
        rows[0]["b"], text = "x" * 200_000, text.replace("1,x", "1," + "x" * 200_000)
        if form == "csv":
            source.write_text(text, newline="")
        else:
            stdin, source, more = text, Path("-" if "stdin" in form else "/dev/stdin"), ("--format", "csv")
    done = shell("map", "work:same", "-i", str(source), "-q", *more, stdin=stdin)
    assert (done.returncode, values(done.stdout)) == (0, rows), done.stderr


@pytest.mark.parametrize(
    "text",
    [
        b'\xef\xbb\xbfsize;"name, if any"\r\n1,5;x\r\n',
        b'\r\nsize\t"name, if any"\r\n1,5\tx\r\n',
        b"sep=;\r\nsize;name, if any\r\n1,5;x\r\n",
        b'size,"name, if any"\n"1,5",x',
    ],
)
def test_a_table_is_separated_as_its_first_line_is(text: bytes, tmp_path: Path) -> None:
    """Excel writes semicolons where decimals have commas, and tabs; a first line may say so, and a mark begin it."""
    (tmp_path / "rows.csv").write_bytes(text)
    assert [*open_items(str(tmp_path / "rows.csv"), None)] == [{"size": "1,5", "name, if any": "x"}]


def test_workers_read_what_a_pattern_names(shell: Shell) -> None:
    """Rows of several files, or files as items; a pattern that names nothing is refused."""
    (shell.folder / "a.csv").write_text("n\n1\n2\n")
    (shell.folder / "b.csv").write_text("n\n3\n")
    done = shell("map", "work:same", "-i", "*.csv", "-q")
    assert (done.returncode, values(done.stdout)) == (0, [{"n": "1"}, {"n": "2"}, {"n": "3"}]), done.stderr
    done = shell("map", "work:same", "-i", "?.csv", "--format", "object", "-q")
    assert [each["size"] for each in values(done.stdout)] == [6, 4], done.stderr
    done = shell("map", "work:same", "-i", "*.tsv")
    assert (done.returncode, "*.tsv: nothing is there" in done.stderr) == (2, True)


def test_workers_write_results_to_files(shell: Shell) -> None:
    """Their names are printed; a failure is told as ever."""
    done = shell("map", "work:double", "-i", "items.jsonl", "--results-to", "out/*.jsonl", "-q")
    files = [Path(line) for line in done.stdout.splitlines()]
    assert [json.loads(line) for file in files for line in file.read_text().splitlines()] == [0, 2, 4, 6, 8, 10]
    assert {file.parent for file in files} == {shell.folder / "out"}
    done = shell("map", "work:double", "-i", "items.jsonl", "--results-to", "a/*.jsonl", "--output", "b")
    assert (done.returncode, "leave out --output" in done.stderr) == (2, True)
    done = shell("map", "work:double", "-i", "items.jsonl", "--results-to", "out/*.jsonl")
    assert (done.returncode, "name another one" in done.stderr) == (2, True)


def test_stdin_is_answered_while_it_is_read(shell: Shell) -> None:
    """The first result comes before the input has ended."""
    process = subprocess.Popen(
        [*COMMAND, "map", "work:double", "-i", "-", "-q"],
        cwd=shell.folder,
        env=shell.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        process.stdin.write("21\n")
        process.stdin.flush()
        assert process.stdout.readline() == "42\n"
        process.stdin.write("4\n")
        process.stdin.close()
        assert process.stdout.read() == "8\n"
    assert process.returncode == 0


def test_output_goes_to_a_file(shell: Shell) -> None:
    """`--output` leaves stdout empty; the items themselves are not overwritten."""
    done = shell("map", "work:double", "-i", "items.jsonl", "--output", "out.jsonl")
    assert (done.returncode, done.stdout) == (0, "")
    assert values((shell.folder / "out.jsonl").read_text()) == [0, 2, 4, 6, 8, 10]
    again = shell("map", "work:double", "-i", "items.jsonl", "--output", "items.jsonl")
    assert again.returncode == 2
    assert "would overwrite the items" in one_error(again)


def test_values_that_json_lacks_have_a_documented_form(shell: Shell) -> None:
    """Arrays are lists, dataclasses objects, dates ISO text, NaN null, sets sorted lists, anything else its repr."""
    done = shell("map", "work:odd_values", "-i", "-", "-q", stdin="0")
    (odd,) = values(done.stdout)
    assert odd[:-1] == [0.5, [0, 1, 2], {"x": 1.0, "when": "2027-01-02"}, None, [1], {"[1, 2]": "a"}, "1j"]
    assert odd[-1] == ["0.10", "a", "b"]
    assert json_text([timedelta(minutes=2), b"\x00\xff"]) == '[120.0, "AP8="]'


def test_no_value_breaks_a_line() -> None:
    """Whatever a function returns is one line of strict JSON."""
    circular: list[Any] = []
    circular.append(circular)
    for value in ("\ud800\n", math.inf, circular, {None: object}, {b"k": {math.nan}}, pa.table({"a": [1]})):
        line = json_text(value).encode(errors="backslashreplace").decode()
        assert "\n" not in line
        json.loads(line, parse_constant=pytest.fail)


# --- map: what is refused ---------------------------------------------------------------------------------------------

BROKEN = {
    "broken.jsonl": b'1\n{"a": 2}\n{"a" 3}\n4\n',
    "latin.jsonl": b'1\n"\xe9"\n',
    "short.csv": b"a,b\n1,2\n3\n",
    "twice.csv": b"a,a\n1,2\n",
    "open.csv": b'a,b\n1,"2\n',
    "either.csv": b"width (cm, about);name\n1,5;x\n",
    "excel.csv": "a\tb\r\n1\t2\r\n".encode("utf-16"),
    "no.parquet": b"no",
    "array.json": b"[1, 2]",
    "items.txt": b"1\n",
    "broken.py": b"import work\n1 / 0\n",
    "lacking.py": b"import not_there\n",
}


def write_torn_parquet(file: Path) -> None:
    """Its footer and its first rows are fine, its last ones are not."""
    table = pa.table({"a": list(range(20_000))})
    parquet.write_table(table, file, row_group_size=10_000, use_dictionary=False)
    column = parquet.ParquetFile(file).metadata.row_group(1).column(0)
    body = bytearray(file.read_bytes())
    body[column.data_page_offset : column.data_page_offset + 1000] = b"\xff" * 1000
    file.write_bytes(body)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["work:double", "-i", "broken.jsonl"], "broken.jsonl, line 3: not JSON: Expecting ':' delimiter (column 6)"),
        (["work:double", "-i", "latin.jsonl"], "latin.jsonl, line 2: not UTF-8 (byte 0xe9)"),
        (["work:double", "-i", "short.csv"], "short.csv, line 3: 1 of the header's 2 fields"),
        (["work:double", "-i", "twice.csv"], "twice.csv, line 1: two columns are called 'a'"),
        (["work:double", "-i", "open.csv"], "open.csv, line 2: not CSV"),
        (["work:double", "-i", "either.csv"], "either.csv, line 1: columns are separated by ',' or ';': put the names"),
        (["work:double", "-i", "excel.csv"], "excel.csv is UTF-16, as Excel's Unicode text is: save it as CSV UTF-8"),
        (["work:double", "-i", "no.parquet"], "no.parquet: not Parquet"),
        (["work:same", "-i", "torn.parquet"], "torn.parquet: broken Parquet"),
        (["work:double", "-i", "array.json"], "jq -c '.[]' array.json"),
        (["work:double", "-i", "items.txt"], "say --format"),
        (["work:double", "-i", "nowhere.csv"], "nowhere.csv: no such file"),
        (["work:double", "-i", "."], ".: a folder"),
        (["work:double", "-i", "items.jsonl", "--format", "xml"], "format='xml'"),
        (["work:double"], "Missing option '--items'"),
        (["work", "-i", "items.jsonl"], "write module:function, such as work:main"),
        (["wrok:double", "-i", "items.jsonl"], "no module 'wrok': did you mean 'work'?"),
        (["./work.py:double", "-i", "items.jsonl"], "name the module, not its file: 'work'"),
        (["work:duoble", "-i", "items.jsonl"], "no function 'duoble': did you mean 'double'?"),
        (["work:limit", "-i", "items.jsonl"], "not a function but a value of type int"),
        (["broken:f", "-i", "items.jsonl"], "ZeroDivisionError: division by zero (broken.py, line 2)"),
        (["lacking:f", "-i", "items.jsonl"], "No module named 'not_there' (lacking.py, line 1)"),
        (["work:double", "-i", "items.jsonl", "--workers", "0"], "workers=0: give a whole number"),
        (["work:double", "-i", "items.jsonl", "--workers", "two"], "Invalid value for '--workers'"),
        (["work:double", "-i", "items.jsonl", "--cpu", "3"], "cpu=3 is not a Fargate size"),
        (["work:double", "-i", "items.jsonl", "--memory", "8XB"], "memory='8XB' is not a size"),
        (["work:double", "-i", "items.jsonl", "--tolerate", "many"], "tolerate='many'"),
        (["work:double", "-i", "items.jsonl", "--tag", "x"], "--tag x: write key=value"),
        (["work:double", "-i", "items.jsonl", "--retrys", "2"], "No such option: --retrys"),
        (
            ["work:double", "-i", "items.jsonl", "--retry-on", "OsError"],
            "Python has no exception 'OsError': did you mean 'OSError'?",
        ),
        (["work:double", "-i", "items.jsonl", "--retry-on", "work:double"], "work:double is not an exception"),
        (["work:double", "-i", "items.jsonl", "--backend", "moon"], "backend='moon'"),
        (["work:double", "-i", "items.jsonl", "-o", "no/such/folder"], "--output no/such/folder: No such file"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line_before_anything_is_launched(shell: Shell, arguments: list[str], says: str) -> None:
    """Exit code 2, one line that says what is wrong and where, and no run."""
    for name, body in BROKEN.items():
        (shell.folder / name).write_bytes(body)
    write_torn_parquet(shell.folder / "torn.parquet")
    done = shell("map", *arguments)
    assert done.returncode == 2
    assert says in one_error(done)
    assert not (shell.home / "store" / "runs").exists()


def test_a_broken_line_on_stdin_stops_the_run(shell: Shell) -> None:
    """What came before is answered; then the run ends with that error."""
    done = shell("map", "work:double", "-i", "-", "-q", stdin="1\n2\n{\n4\n")
    assert done.returncode == 2
    assert values(done.stdout) == [2, 4]
    assert "error: stdin, line 3: not JSON" in done.stderr
    assert shell.states() == [RunState.STOPPED]
    nothing_left(local_backend(shell.home))


def test_parquet_without_pyarrow_says_what_to_install(shell: Shell) -> None:
    """The extra is named."""
    (shell.folder / "pyarrow.py").write_text("raise ModuleNotFoundError(name='pyarrow')")
    (shell.folder / "rows.parquet").touch()
    done = shell("map", "work:same", "-i", "rows.parquet")
    assert done.returncode == 2
    assert "pip install 'starburst-ecs[parquet]'" in one_error(done)


def test_verbose_shows_the_traceback(shell: Shell) -> None:
    """An error is one line, unless STARBURST_VERBOSE or --verbose asks for more."""
    assert "Traceback" in shell("status", "none", STARBURST_VERBOSE="1").stderr
    assert "Traceback" in shell("--verbose", "status", "none").stderr
    assert "no run 'none'" in one_error(shell("status", "none"))
    (shell.folder / "pyarrow.py").write_text("raise RuntimeError('of somebody else')")
    (shell.folder / "rows.parquet").touch()
    strange = ["map", "work:same", "-i", "rows.parquet"]
    assert "RuntimeError: of somebody else (STARBURST_VERBOSE=1 shows where)" in one_error(shell(*strange))
    assert 'pyarrow.py", line 1' in shell(*strange, STARBURST_VERBOSE="1").stderr


# --- looking at a run -------------------------------------------------------------------------------------------------


def test_settings_are_shown_with_where_they_come_from(shell: Shell) -> None:
    """An argument, a variable, a project, a file and defaults; addresses without what opens them."""
    file, project = shell.folder / "config.toml", shell.folder / "pyproject.toml"
    file.write_text('keep_days = 2\n[map]\nworkers = 5\ncpu = 2\n[image]\nbuild_steps = ["pip https://me:pw@host/x"]\n')
    project.write_text('[tool.starburst.map]\nworkers = 4\n[tool.starburst.image]\nbase = "mine"\n')
    arguments = ("config", "show", "--backend", "local")
    done = shell(*arguments, "--json", STARBURST_CONFIG=str(file), STARBURST_SLOTS="3")
    shown = json.loads(done.stdout)
    assert shown["backend"] == {"value": "local", "from": "argument"}
    assert shown["home"] == {"value": str(shell.home), "from": "environment (STARBURST_HOME)"}
    assert shown["keep_days"] == {"value": 2, "from": str(file)}
    assert shown["map"]["slots"] == {"value": 3, "from": "environment (STARBURST_SLOTS)"}
    assert shown["map"]["workers"] == {"value": 4, "from": f"{project}: [tool.starburst.map]"}
    assert shown["map"]["cpu"] == {"value": 2, "from": f"{file}: [map]"}
    assert shown["map"]["memory"] == {"value": None, "from": "default"}
    assert shown["image"]["base"] == {"value": "mine", "from": f"{project}: [tool.starburst.image]"}
    assert shown["image"]["build_steps"] == {"value": ["pip https://host/x"], "from": f"{file}: [image]"}
    told = shell(*arguments, STARBURST_CONFIG=str(file), STARBURST_SLOTS="3").stdout
    assert "map.slots" in told and "environment (STARBURST_SLOTS)" in told and "pw" not in told


@pytest.mark.parametrize("command", ["status", "attach", "results", "failures", "logs", "cancel", "replay", "extend"])
def test_no_such_run_is_exit_code_3(kept: Shell, command: str) -> None:
    """For every command that takes a run."""
    done = kept(command, "run-19990101", *(["1"] if command in ("replay", "extend") else []))
    assert done.returncode == 3
    assert "no run 'run-19990101'" in one_error(done)


def test_a_run_is_found_by_id_by_its_start_and_as_the_last(kept: Shell) -> None:
    """A start that fits several is refused."""
    (fields,) = json.loads(kept("runs", "--json").stdout)
    name = fields["id"]
    for word in (name, name[:-2], name.rsplit("-", 1)[-1], "last"):
        assert json.loads(kept("status", word, "--json").stdout)["id"] == name


def test_the_start_of_several_runs_names_none(shell: Shell) -> None:
    """Exit code 2, with the runs it may mean; `last` is the newest even within a second."""
    ids = [shell("map", "work:double", "-i", "-", "-d", stdin="1").stdout.strip() for _ in range(2)]
    assert json.loads(shell("status", "last", "--json").stdout)["id"] == ids[-1]
    done = shell("status", "run-")
    assert done.returncode == 2
    assert "is the start of 2 runs" in one_error(done)
    for run in list_runs(backend=local_backend(shell.home)):
        assert run.results() == [2]


def test_runs_lists_what_is_kept(kept: Shell, shell: Shell) -> None:
    """A table for people, one document for programs; nothing yet is no error."""
    head, line = kept("runs").stdout.splitlines()
    assert head.split() == ["run", "label", "state", "items", "failed", "started", "took", "cost"]
    assert line.split()[1:5] == ["six", "failed", "6", "2"]
    done = shell("runs")
    assert (done.returncode, done.stdout) == (0, "")
    assert "starburst demo" in done.stderr
    assert [fields["label"] for fields in json.loads(kept("runs", "--tag", "team=x=y", "--json").stdout)] == ["six"]
    for tags in (["--tag", "team=x"], ["--tag", "team=x=y", "--tag", "env=lab"]):
        assert "no run with --tag team=x" in kept("runs", *tags).stderr
    assert kept("runs", "--tag", "team").returncode == 2
    assert shell("runs", "--json").stdout == "[]\n"


def test_status_tells_all_there_is(kept: Shell) -> None:
    """State, items, workers, rate, times, cost, what happened and where to look; exit code 1 as items failed."""
    done = kept("status", "last")
    assert done.returncode == 1
    shown = {line[:11].strip(): line[11:] for line in done.stdout.splitlines()}
    assert shown["state"] == "failed"
    assert shown["items"] == "6 of 6 answered, 2 failed"
    assert shown["tags"] == "team=x=y"
    assert shown["workers"].endswith("each 1 vCPU, 2 GB, 1 slot")
    assert shown["on AWS"].startswith("about $0.0018 on Fargate")
    assert shown["happened"].endswith(" s  its input is whole: 6 items")
    assert "launched\n" in done.stdout and " s  ended: failed\n" in done.stdout
    assert shown["next"].startswith("starburst failures run-")
    fields = json.loads(kept("status", "last", "--json").stdout)
    assert fields["function"] == "picky"
    assert (fields["items"], fields["answered"], fields["failed"], fields["workers"]) == (6, 6, 2, 0)
    assert fields["aws_estimate"]["usd"] == pytest.approx(0.001812, abs=1e-6)
    assert fields["elapsed_s"] > 0
    assert fields["created_at"] < fields["expires_at"]
    happened = {event["kind"]: event for event in fields["events"]}
    assert {*happened} >= {"read", "launched", "settled", "ended"}
    assert (happened["settled"]["answered"], happened["ended"]["at"]) == (6, fields["ended_at"])


def test_results_come_again_as_map_gave_them(kept: Shell) -> None:
    """The same lines, the same exit code; --output as well."""
    assert values(kept("results", "last").stdout) == [None, -1, -2, None, -4, -5]
    done = kept("results", "last", "--json", "--output", "again.jsonl")
    assert done.returncode == 1
    assert values((kept.folder / "again.jsonl").read_text())[5] == {"item": 5, "value": -5}


def test_failures_tell_item_kind_and_reason(kept: Shell) -> None:
    """A line each, tracebacks on demand, objects for programs, and how to replay the first."""
    done = kept("failures", "last")
    assert done.returncode == 1
    assert [line.split(maxsplit=2) for line in done.stdout.splitlines()[1:]] == [
        ["0", "user", "ValueError: 0 is a multiple of 3"],
        ["3", "user", "ValueError: 3 is a multiple of 3"],
    ]
    assert "starburst replay run-" in done.stderr
    assert "… and 1 more" in kept("failures", "last", "--limit", "1").stderr
    assert "in picky\n" in kept("failures", "last", "--traceback").stdout
    assert [line["item"] for line in values(kept("failures", "last", "--json").stdout)] == [0, 3]


def test_the_report_is_where_the_command_says(kept: Shell) -> None:
    """A URL on stdout, nothing else; behind it a page that names what failed, and how to run it again."""
    done = kept("report", "last")
    assert (done.returncode, done.stderr) == (0, "")
    page = unescape(Path(unquote(urlsplit(done.stdout.strip()).path)).read_text())
    assert "ValueError: 3 is a\nmultiple of 3" in page
    assert "starburst replay" in page
    told = json.loads(kept("report", "last", "--json").stdout)
    assert told["url"] == done.stdout.strip()
    assert told["id"].startswith("run-")


def test_logs_tell_which_item_said_what(kept: Shell) -> None:
    """Each line has the item's number; one item only on demand."""
    lines = kept("logs", "last").stdout.splitlines()
    assert [line for line in lines if "looking" in line] == [f"item {n} | looking at {n}" for n in range(6)]
    assert kept("logs", "last", "--item", "4").stdout.splitlines()[-1] == "item 4 | WARNING picky: hm, 4"
    (fields,) = values(kept("logs", "last", "--item", "4", "--json").stdout)
    assert fields["item"] == 4


def test_attaching_to_what_is_over_only_sums_up(kept: Shell) -> None:
    """As `map` would have; --json gives the run."""
    done = kept("attach", "last")
    assert (done.returncode, done.stdout) == (1, "")
    assert "failed: 6 items in " in done.stderr
    assert json.loads(kept("attach", "last", "--json").stdout)["state"] == "failed"


def test_the_shell_completes_run_ids(kept: Shell) -> None:
    """With `last`, by what is typed so far."""
    asked = {"_STARBURST_COMPLETE": "complete_bash", "COMP_WORDS": "starburst status ", "COMP_CWORD": "2"}
    offered = kept(**asked).stdout.split()
    assert offered[0].startswith("run-")
    assert offered[-1] == "last"


# --- replay -----------------------------------------------------------------------------------------------------------


def test_replay_gives_the_items_value(kept: Shell) -> None:
    """On stdout; what the function prints goes to stderr."""
    done = kept("replay", "last", "4")
    assert (done.returncode, done.stdout) == (0, "-4\n")
    assert "looking at 4" in done.stderr
    assert json.loads(kept("replay", "last", "4", "--json").stdout) == {"item": 4, "value": -4}


def test_replay_raises_what_the_worker_raised(kept: Shell) -> None:
    """The user's own frames, then one line; exit code 1."""
    done = kept("replay", "last", "3")
    assert (done.returncode, done.stdout) == (1, "")
    assert "in picky\n    raise ValueError" in done.stderr
    assert "starburst_common" not in done.stderr
    assert done.stderr.endswith("error: item 3: ValueError: 3 is a multiple of 3\n")
    told = json.loads(kept("replay", "last", "3", "--json").stdout)
    assert (told["item"], told["error"]) == (3, "ValueError")


def test_replay_debugs_before_the_call_and_where_it_raises(kept: Shell) -> None:
    """pdb stands at the function's first line, and after the exception at the line that raised."""
    done = kept("replay", "last", "3", "--debug", stdin="p 'at', x\nc\np 'after', x\nq\n")
    assert done.returncode == 1
    assert "(Pdb) ('at', 3)" in done.stdout
    assert "-> raise ValueError" in done.stdout
    assert "(Pdb) ('after', 3)" in done.stdout
    assert kept("replay", "last", "4", "--debug", stdin="q\n").returncode == 1


def test_replay_runs_what_was_sent_or_what_is_here_now(shell: Shell) -> None:
    """The modules as the run took them along; with --current as they are, to try a fix."""
    shell("map", "work:picky", "-i", "items.jsonl")
    (shell.folder / "work.py").write_text(WORK.replace("x % 3 == 0", "x < 0"))
    assert shell("replay", "last", "3").returncode == 1
    assert shell("replay", "last", "3", "--current").stdout == "-3\n"


def test_replay_knows_its_items(kept: Shell) -> None:
    """An index beyond them is wrong input."""
    done = kept("replay", "last", "6")
    assert done.returncode == 2
    assert "has no item 6: its items are 0 to 5" in one_error(done)


# --- a nightly batch --------------------------------------------------------------------------------------------------


def test_what_was_cut_short_is_told_apart_and_goes_on(shell: Shell) -> None:
    """SIGTERM cancels and leaves FILE as it was; each item has a line; a run is resumed, what failed run again."""
    (shell.folder / "out.jsonl").write_text("yesterday\n")
    more = ("--workers", "2", "--chunk-size", "1", "--label", "nightly", "--tag", "day=1", "-o", "out.jsonl")
    process = shell.start("map", "work:odd_items", "-i", "items.jsonl", *more)
    home = local_backend(shell.home)
    while not (known := list_runs(backend=home)) or known[0].status().answered < 4:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    name = known[0].id
    assert f"starburst results {name}; starburst resume {name} goes on\n--output out.jsonl is as it was" in said
    assert sorted(each.name for each in shell.folder.glob("*out.jsonl*")) == ["out.jsonl"]
    assert (shell.folder / "out.jsonl").read_text() == "yesterday\n"
    nothing_left(home)
    left, used = (shell.folder / f".out.jsonl.0000000{n}.part" for n in range(2))
    with used.open("w") as writing:
        flock(writing, LOCK_EX)
        for each in (left, used):
            each.touch()
            os.utime(each, (0, 0))
        shell("results", name, "-o", "out.jsonl", "-q")
        assert (left.exists(), used.exists()) == (False, True), "only what a killed command has left is removed"
    done = shell("results", "last", "--label", "nightly", "--json")
    assert done.returncode == 4
    told = [line["failure"]["kind"] if "failure" in line else line["value"] for line in values(done.stdout)]
    assert told == [0, None, "user", 3, "cancelled", "cancelled"]
    assert f"2 items have no answer (null; --json says so): starburst resume {name}" in done.stderr
    (shell.folder / "gate").touch()
    assert shell("resume", "last", "--state", "cancelled", "-q").returncode == 1
    assert values(shell("results", "last", "-o", "out.jsonl", "-q").stdout) == []
    assert values((shell.folder / "out.jsonl").read_text()) == [0, None, None, 3, 4, 5]
    (failure,) = values(shell("failures", "last", "--json", "--with-items").stdout)
    assert (failure["item"], failure["input"]) == (2, 2)
    narrow = ("--of-label", "nightly", "--of-tag", "day=1", "--of-since", "1h")
    assert f"no run with {' '.join(narrow[:4])} --of-state stopped --of-since 1h" in one_error(
        shell("map", "--retry-failed", "last", *narrow, "--of-state", "stopped")
    )
    assert "go with --retry-failed RUN" in one_error(shell("map", "work:double", "-i", "items.jsonl", *narrow))
    retry = ("map", "work:double", "--retry-failed", "last", *narrow, "--of-state", "failed")
    done = shell(*retry, "--tag", "day=2", "-o", "out.jsonl")
    assert (done.returncode, values((shell.folder / "out.jsonl").read_text())) == (0, [0, None, 4, 3, 4, 5])
    assert "succeeded: 1 item in " in done.stderr
    done = shell("map", "--retry-failed", name, "-o", "again.jsonl")
    assert (done.returncode, f"{name} has nothing left to be run\nsucceeded: 6 items in" in done.stderr) == (0, True)
    assert (shell.folder / "again.jsonl").read_text() == (shell.folder / "out.jsonl").read_text()
    done = shell("results", name, "-q")
    assert (done.returncode, values(done.stdout)) == (0, [0, None, 4, 3, 4, 5])
    assert json.loads(shell("status", "last", "--tag", "day=1", "--json").stdout)["id"] == name
    assert "no run with --tag day=3" in shell("status", "last", "--tag", "day=3").stderr
    assert "is none with --tag day=2" in shell("status", name, "--tag", "day=2").stderr
    listed = json.loads(shell("runs", "--since", "1h", "--state", "succeeded", "--json").stdout)
    assert [each["tags"] for each in listed] == [{"day": "2"}]
    assert "did you mean 'failed'?" in shell("runs", "--state", "faild").stderr
    assert "in 36 days" in shell("extend", name, "30d").stdout
    assert shell("extend", name, "soon").returncode == 2


def test_sigterm_before_there_is_a_run_has_its_exit_code(shell: Shell) -> None:
    """Also where it comes while the function's module is imported."""
    (shell.folder / "ends.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert shell("map", "ends:all", "-i", "items.jsonl").returncode == 143
    assert shell.states() == []


def test_sigterm_may_leave_a_run_to_itself(shell: Shell) -> None:
    """With `--on-term detach` it goes on, and another process drives it."""
    process = shell.start("map", "work:odd_items", "-i", "items.jsonl", "--on-term", "detach", "--chunk-size", "1")
    while not (known := list_runs(backend=local_backend(shell.home))) or known[0].status().answered < 4:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, "detached; the run goes on: starburst results run-" in said) == (143, True)
    (shell.folder / "gate").touch()
    assert shell("results", "last", "-q").returncode == 1
    nothing_left(local_backend(shell.home))


_LATE = """
import os, sys, time
from pathlib import Path
class Late:
    def find_spec(self, name, *_):
        if name == "rich.progress":
            (Path(os.environ["STARBURST_HOME"]).parent / "late").touch()
            time.sleep(600)
sys.meta_path.insert(0, Late())
"""


@pytest.mark.parametrize("late", [False, True])
def test_a_terminal_that_is_closed_cancels_a_map(shell: Shell, late: bool) -> None:
    """As SIGTERM, though nothing can be printed there any more; also before anything was, though the run goes on."""
    if late:
        (shell.folder / "sitecustomize.py").write_text(_LATE)
        shell.env["PYTHONPATH"] = str(shell.folder)
    terminal, ours = os.openpty()
    begin = "import fcntl, signal, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    begin += f"signal.signal(signal.SIGHUP, signal.SIG_DFL); {INTERRUPTIBLE}"  # which `nohup` has it ignore
    process = subprocess.Popen(
        [sys.executable, "-c", begin, "map", "work:held", "-i", "items.jsonl", "--chunk-size", "1"],
        cwd=shell.folder,
        env=shell.environment(),
        start_new_session=True,
        **dict.fromkeys(("stdin", "stdout", "stderr"), ours),
    )
    os.close(ours)
    while not (known := list_runs(backend=local_backend(shell.home))) or not known[0].status().answered:
        time.sleep(0.05)
    while late and not (shell.folder / "late").exists():
        time.sleep(0.05)
    os.close(terminal)
    assert process.wait(60) == 129
    assert shell.states() == [RunState.CANCELLED]
    nothing_left(local_backend(shell.home))


# --- steering a run ---------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(shell: Shell) -> Iterator[subprocess.Popen[str]]:
    """A map whose first result is there, interrupted by Ctrl-C."""
    process = shell.start("map", "work:held", "-i", "items.jsonl", "--workers", "1", "--chunk-size", "1")
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        process.send_signal(signal.SIGINT)
        yield process


def test_ctrl_c_cancels_a_map(shell: Shell, interrupted: subprocess.Popen[str]) -> None:
    """Exit code 130, no traceback, a cancelled run that keeps its answers, and no worker left."""
    _, errors = interrupted.communicate(timeout=120)
    assert interrupted.returncode == 130
    assert "Traceback" not in errors
    assert "cancelled; what was answered is kept: starburst results run-" in errors
    assert shell.states() == [RunState.CANCELLED]
    nothing_left(local_backend(shell.home))
    assert values(shell("results", "last", "-q").stdout)[0] == 0


def test_ctrl_c_after_the_last_item_says_so(shell: Shell) -> None:
    """Where a slow reader keeps the command: the run has succeeded, and nothing of it was cancelled."""
    process = shell.start("map", "work:long", "-i", "items.jsonl", "--workers", "1", "-q")
    with process:
        while RunState.SUCCEEDED not in shell.states():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, "interrupted after the run had succeeded: starburst results run-" in said) == (
        130,
        True,
    )


def test_a_command_that_is_stopped_and_goes_on_loses_no_answer(shell: Shell) -> None:
    """As by Ctrl-Z and `fg`, while a slow reader keeps it; where Python is told not to buffer, too."""
    shell.env["PYTHONUNBUFFERED"] = "1"
    process = shell.start("map", "work:long", "-i", "items.jsonl", "--workers", "1", "-q")
    with process:
        assert process.stdout is not None
        held = array("i", [0])
        while held[0] < 1 << 16:  # all that a pipe takes
            ioctl(process.stdout, FIONREAD, held)
            time.sleep(0.02)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            process.send_signal(number)
            time.sleep(0.1)
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, [*map(len, said.splitlines())]) == (0, [1_000_002] * 6)


def test_a_reader_that_leaves_cancels_a_map(shell: Shell) -> None:
    """`| head` ends it quietly."""
    (shell.folder / "many.jsonl").write_text("1\n" * 1000)
    process = shell.start("map", "work:slow", "-i", "many.jsonl", "--workers", "1", "--chunk-size", "1", "-q")
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == "work is imported\n"
    assert process.returncode == 1
    assert shell.states() == [RunState.CANCELLED]
    nothing_left(local_backend(shell.home))


def test_a_detached_map_ends_by_itself(shell: Shell) -> None:
    """Its id comes at once; it is driven to its end, and nothing is left, though nobody attaches."""
    began = time.monotonic()
    done = shell(
        "map", "work:slow", "-i", "-", "--detach", "--json", "--workers", "2", stdin="1\n2\n3\n4\n5\n6\n7\n8\n"
    )
    name = json.loads(done.stdout)["id"]
    (run,) = list_runs(backend=local_backend(shell.home))
    assert run.id == name
    while not run.status().state.over:
        assert time.monotonic() - began < 120
        time.sleep(0.1)
    assert run.status().state is RunState.SUCCEEDED
    assert values(shell("results", name).stdout) == [1, 2, 3, 4, 5, 6, 7, 8]
    nothing_left(local_backend(shell.home))


def test_attach_stays_to_the_end(shell: Shell) -> None:
    """Beside whoever drives it; then it sums up."""
    shell("map", "work:slow", "-i", "items.jsonl", "--detach", "--workers", "2")
    done = shell("attach", "last")
    assert done.returncode == 0
    assert "succeeded: 6 items in " in done.stderr
    assert "next: starburst results run-" in done.stderr


def test_ctrl_c_only_detaches_from_a_run(shell: Shell) -> None:
    """`attach` says that the run goes on, ends with 130, and the run succeeds."""
    shell("map", "work:held", "-i", "items.jsonl", "--detach", "--workers", "1")
    process = shell.start("attach", "last")
    with process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("attached to run-")
        process.send_signal(signal.SIGINT)
        assert process.stderr.read().startswith("detached; the run goes on: starburst attach run-")
    assert process.returncode == 130
    assert shell.states() == [RunState.RUNNING]
    (shell.folder / "gate").touch()
    assert shell("attach", "last", "-q").returncode == 0
    assert shell.states() == [RunState.SUCCEEDED]


def test_cancel_ends_a_run(shell: Shell) -> None:
    """With its workers; a second time it is no error."""
    shell("map", "work:held", "-i", "items.jsonl", "--detach", "--workers", "1")
    done = shell("cancel", "last")
    assert done.returncode == 0
    assert "is cancelled; " in done.stdout
    assert json.loads(shell("cancel", "last", "--json").stdout)["state"] == "cancelled"
    assert shell("status", "last").returncode == 4
    until = time.monotonic() + 60
    while processes_in(shell.home) and time.monotonic() < until:
        time.sleep(0.05)
    nothing_left(local_backend(shell.home))


def test_output_that_takes_no_more_costs_no_answer(shell: Shell) -> None:
    """A full disk where stdout or --output goes: one error names it, the run goes on to its end and is named."""
    with Path("/dev/full").open("w") as full:
        for command in (
            ("map", "work:double", "-i", "items.jsonl", "-q"),
            ("results", "last", "-q"),
            ("results", "last", "-q", "--output", "/dev/full"),
            ("runs",),
        ):
            done = subprocess.run(
                [*COMMAND, *command],
                cwd=shell.folder,
                env=shell.environment(),
                stdout=full,
                stderr=-1,
                text=True,
                check=False,
            )
            (run,) = list_runs(backend=local_backend(shell.home))
            beside = ("work is imported", "cost: ")  # what is told of prices comes before a full disk is met
            line = [line for line in done.stderr.splitlines() if not line.startswith(beside)]
            where = "--output /dev/full" if "--output" in command else "standard output"
            what = (
                ""
                if command == ("runs",)
                else f": run {run.id} keeps its answers: make room, then `starburst results {run.id}`"
            )
            assert (done.returncode, line) == (5, [f"error: {where}: No space left on device{what}"])
            assert run.status().state is RunState.SUCCEEDED


def test_streams_that_are_closed_are_as_dev_null(shell: Shell) -> None:
    """As some services start a command: what it writes to files is whole, and nothing is printed into them."""
    for closed in (">&-", "<&- >&- 2>&-"):
        call = shlex.join([*COMMAND, "map", "work:double", "-i", "items.jsonl", "--output", "out.jsonl"])
        done = subprocess.run(["sh", "-c", f"{call} {closed}"], cwd=shell.folder, env=shell.environment(), check=False)
        assert (done.returncode, values((shell.folder / "out.jsonl").read_text())) == (0, [0, 2, 4, 6, 8, 10])
        (shell.folder / "out.jsonl").unlink()
    assert not [*shell.folder.glob(".*.part")]


def test_extend_keeps_a_run_and_prune_removes_the_others(shell: Shell) -> None:
    """With nothing kept longer than no days, only the extended run stays."""
    for _ in range(2):
        shell("map", "work:double", "-i", "items.jsonl", "-q")
    extended, expired = [run.id for run in list_runs(backend=local_backend(shell.home))]
    assert f"{extended} is kept until " in shell("extend", extended, "3600").stdout
    assert shell("extend", extended, "0").returncode == 2
    assert "nothing has expired" in shell("prune", STARBURST_KEEP_DAYS="0").stderr
    for run in (extended, expired):  # it was read ten minutes ago, for so long it would be kept
        end = shell.home / "store" / "runs" / run / "end"
        os.utime(end, (end.stat().st_mtime - 600,) * 2)
    assert json.loads(shell("prune", "--json", STARBURST_KEEP_DAYS="0").stdout) == [expired]
    assert "nothing has expired" in shell("prune", STARBURST_KEEP_DAYS="0").stderr
    assert [fields["id"] for fields in json.loads(shell("runs", "--json").stdout)] == [extended]


def test_remove_takes_an_ended_or_damaged_run_and_none_that_goes_on(shell: Shell) -> None:
    """What goes on is named with the command that ends it; nothing of it is touched."""
    for _ in range(2):
        shell("map", "work:double", "-i", "items.jsonl", "-q")
    store = local_backend(shell.home).store
    damaged, ended = store.folders(RUNS)
    store.put(RunNames(RunId(damaged)).spec, b"")
    shell("map", "work:held", "-i", "items.jsonl", "--detach", "--workers", "1")
    going = json.loads(shell("status", "last", "--json").stdout)["id"]
    refused = shell("remove", going)
    assert refused.returncode == 2
    assert one_error(refused) == f"error: run {going} goes on: cancel it first, as by `starburst cancel {going}`"
    assert max(map(len, shell("runs").stdout.splitlines())) < 130  # whatever is told of the damaged one
    assert shell("remove", damaged).stdout == f"{damaged} is removed\n"
    assert json.loads(shell("remove", ended, "--json").stdout) == {"id": ended}
    assert shell("remove", ended).returncode == 3
    assert store.folders(RUNS) == [going]
    (shell.folder / "gate").touch()
    assert shell("attach", going, "-q").returncode == 0


def test_a_listing_imports_only_what_it_needs(shell: Shell) -> None:
    """Neither what typer checks values with, nor what colours tables where no terminal is: both take longer than it."""
    shell("map", "work:double", "-i", "items.jsonl", "-q")
    say = "print(sorted({'pydantic', 'rich.table', 'boto3'} & {*sys.modules}))"
    calls = "run(['runs']); run(['runs', '-n', '9']); run(['runs', '--tag', 'a=b'])"
    line = f"import sys; from starburst_common.cli.app import run; {calls}; {say}"
    environment = {**os.environ, "STARBURST_HOME": str(shell.home)}
    done = subprocess.run([sys.executable, "-c", line], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "work:double" in done.stdout


def test_the_demo_needs_nothing(tmp_path: Path) -> None:
    """In an empty folder: a few seconds of work, its result, time and price, and where to look next."""
    shell = Shell(tmp_path)
    done = shell("demo")
    assert done.returncode == 0
    assert "pi is about 3.14" in done.stdout
    assert "times as fast as a loop" in done.stdout
    assert "on AWS  about $" in done.stdout
    assert "starburst status run-" in done.stdout
    assert json.loads(shell("status", "last", "--json").stdout)["state"] == "succeeded"
    nothing_left(local_backend(shell.home))


def test_a_site_that_is_there_in_part_is_not_passed_over_unsaid(shell: Shell) -> None:
    """As setup or teardown that was killed leaves it: what runs here then is told so; who means it hears nothing."""
    (shell.folder / "sites").mkdir()
    (shell.folder / "sites" / "main.setup.json").write_text("{}")
    said = shell("status")
    assert said.returncode == 0 and "site main is there in part only, so this runs on this machine" in said.stderr
    assert "in part only" not in shell("status", STARBURST_BACKEND="local").stderr
    nowhere = shell("--site", "other", "status")
    assert nowhere.returncode == 2 and "site 'other', by --site or STARBURST_SITE: there is none in " in nowhere.stderr


def test_a_quota_is_suggested_of_each_capacity(shell: Shell) -> None:
    """Round, with a quarter to spare; of EC2's whole instances: those of 96 vCPU are the least that hold 73."""
    for flags, vcpu, quota in (
        (("--cpu", "8", "--spot"), 64, "Fargate Spot vCPU quota"),
        (("--cpu", "73", "--ec2", "Standard"), 1000, "EC2 Standard"),
        (("--cpu", "4", "--ec2", "G and VT", "--spot"), 32, "EC2 G and VT Spot vCPU quota"),
    ):
        said = shell("quota", "suggest", "--workers", "5", *flags)
        assert said.stdout == f"{vcpu}\n" and quota in said.stderr
        assert f"`starburst quota request {vcpu} " in said.stderr


def test_the_doctor_looks_at_this_machine(shell: Shell) -> None:
    """Where no site is configured; a home that cannot be is told, with what helps."""
    done = shell("doctor")
    assert done.returncode == 0 and [line[:5] for line in done.stdout.splitlines()] == ["ok   "] * 3
    wrong = shell("doctor", STARBURST_HOME="/proc/nowhere")
    assert wrong.returncode == 5 and "WRONG  home: " in wrong.stdout and "set STARBURST_HOME" in wrong.stdout
