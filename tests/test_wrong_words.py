"""Whatever somebody gives us that is wrong, they get an error of ours that says so and what to do."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from starburst_common import BadInput, Cluster, ItemFailed, NotFound, OutOfMemory, StarburstError, attach
from starburst_common.backends import local_at
from starburst_common.code.files import Piece, module_at
from starburst_common.config import ImageSettings, Settings, settings
from starburst_common.local import local_backend
from starburst_common.offered import OPTIONS
from starburst_common.options import Options
from starburst_common.ports import Backend

wrong_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 1e308, math.nan, math.inf, -math.inf, "9" * 5000, "²", "\ud800", "٣GB"]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["1GB", "5%", "9" * 400 + "%", "9" * 400 + "GB", b"x", object, object(), [], {}, set(), ("x",), [1]]
    ),
    st.dictionaries(st.one_of(st.text(max_size=2), st.integers()), st.integers(), max_size=1),
)


@hypothesis_settings(max_examples=300)
@given(st.dictionaries(st.sampled_from([*OPTIONS]), wrong_values, max_size=3))
def test_an_option_is_right_or_refused(given_options: dict[str, Any]) -> None:
    """Whatever it is, of whatever type; the message can be shown."""
    wrong = ""
    try:
        Options.of(**given_options)
    except BadInput as error:
        wrong = str(error)
    assert len(wrong) < 1000 and wrong.isprintable()


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    opened = local_backend(tmp_path / "home")
    yield opened
    opened.close()


@pytest.mark.parametrize("given_id", ["", "../x", "a/b", "run-\n", "\x1b[31m", "x" * 5000, "\x00", ".", "\ud800"])
def test_what_no_run_is_called_is_not_found(backend: Backend, given_id: str) -> None:
    """Nothing is looked for outside of the runs' folder, and nobody's terminal is steered."""
    with pytest.raises(NotFound, match="starburst runs") as caught:
        attach(given_id, backend=backend)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


@pytest.mark.parametrize("given_id", [None, 5, b"run-1", ["run-1"], object()])
def test_what_is_no_id_is_refused(backend: Backend, given_id: Any) -> None:
    """As any other argument of a wrong type."""
    with pytest.raises(BadInput, match="run_id="):
        attach(given_id, backend=backend)


def written(folder: Path, text: str | bytes, **env: str) -> Settings:
    """Settings as such a file, and the environment, say."""
    file = folder / "config.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STARBURST_CONFIG", str(file))
        return settings(env=env)


SITE = (
    '[site]\nname="a"\nregion="us-east-1"\nbucket="abc"\ncluster="c"\nsubnets=["s"]\n'
    'execution_role="arn:aws:iam::123456789012:role/x"\ntask_role="arn:aws:iam::123456789012:role/x"\n'
    'signing_secret="arn:aws:ssm:x"\n'
)


@pytest.mark.parametrize(
    "text",
    [
        *(
            f"keep_days = {days}"
            for days in ("nan", "inf", "-1", "true", "[]", '"x"', "1e300", "1" * 400, "{}", "9" * 5000)
        ),
        *(f'home = "{name}"' for name in ("a" * 300, "missing/" + "é" * 150, "/".join("a" * 5000))),
        *(f"[image]\nkeep_days = {days}" for days in ("0", "-1", "999999999999", "nan", "true")),
        *("home = 5", "home = []", 'home = "~nobody-has-this-name/x"', "image = 3", "site = 3", "site = []"),
        *(
            "[image]\nbuilder = []",
            "[image]\nplatforms = [1]",
            "[image]\nbase = {}",
            '[image]\nindex_strategy = "best"',
        ),
        *(b"\xff\xfe", b'backend = "\xff"', "backend = 3", "backend = []", "[" * 5000, "x = \x00", '"\\u001b" = 1'),
        *(SITE + each for each in ("log_days = 'x'", "assign_public_ip = 'no'", "image = 3", "security_groups = [1]")),
        SITE.replace('"c"', "5"),
        SITE.replace('["s"]', "5"),
        SITE.replace('"us-east-1"', "[]"),
    ],
)
def test_wrong_settings_are_told_with_their_file(tmp_path: Path, text: str | bytes) -> None:
    """Whatever a file holds: not TOML, not UTF-8, a wrong type, no number of days."""
    with pytest.raises(BadInput, match=r"config\.toml") as caught:
        written(tmp_path, text)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


@pytest.mark.parametrize("days", ["nan", "inf", "-1", "x", "1e99"])
def test_wrong_variables_are_told_with_their_name(tmp_path: Path, days: str) -> None:
    """As what a file says; an empty one says nothing."""
    with pytest.raises(BadInput, match="STARBURST_KEEP_DAYS"):
        written(tmp_path, "", STARBURST_KEEP_DAYS=days)
    assert written(tmp_path, "", STARBURST_KEEP_DAYS="", STARBURST_HOME="").keep_days == 7


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        "x = " + "9" * 5000,
        "x = " + "[" * 5000,
        "tool = 3",
        "[tool]\nstarburst = 3",
        "[tool.starburst]\nimage = 3",
        "[tool.starburst.image]\ngroups = 3",
    ],
)
def test_a_wrong_project_is_told_with_its_file(tmp_path: Path, text: str | bytes) -> None:
    """Where its own images' settings are looked for."""
    (tmp_path / "pyproject.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(BadInput, match=r"pyproject\.toml"):
        ImageSettings().in_project(tmp_path)


@pytest.mark.parametrize("pattern", ["[a-_]", "[z-a]", "*a*b*c*d*e*", "**/a/" * 5])
def test_a_pattern_that_is_none_is_told_with_its_line(tmp_path: Path, pattern: str) -> None:
    """Of our own file."""
    module = tmp_path / "mine"
    module.mkdir()
    (module / "__init__.py").touch()
    (module / ".starburstignore").write_text(f"# ours\n{pattern}\n")
    with pytest.raises(BadInput, match=r"\.starburstignore, line 2"):
        module_at([Piece(module, module.name)])


def test_a_home_that_cannot_be_used_says_what_to_do(tmp_path: Path) -> None:
    """It is a file, or holds one of ours that is damaged or of another kind, or its name is none."""
    file = tmp_path / "file"
    file.write_bytes(b"not SQLite, whatever it is, and long enough to be taken for it " * 100)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "queue.sqlite3").write_bytes(file.read_bytes())
    other = tmp_path / "other"
    other.mkdir()
    (other / "queue.sqlite3").mkdir()
    for home in (file, file / "below", damaged, other, Path("/proc/home"), Path("x" * 5000), Path("a\x00b")):
        with pytest.raises(StarburstError, match=r"STARBURST_HOME") as caught:
            local_at(home)
        assert "\x00" not in str(caught.value)


class Said(NamedTuple):
    """What one command ended with."""

    words: list[str]
    code: int
    out: str
    err: str


MANY = """
import contextlib, io, json, sys
from starburst_common.cli.app import run
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(words)
    print(json.dumps([words, code, out.getvalue(), err.getvalue()]), file=sys.__stdout__)
"""


def said(folder: Path, *commands: list[str], **env: str) -> list[Said]:
    """Of commands, one after another in one process."""
    base = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "STARBURST_CONFIG": str(folder / "none")}
    done = subprocess.run(
        [sys.executable, "-c", MANY],
        input=json.dumps(commands),
        env={**base, "STARBURST_HOME": str(folder / "home"), **env},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert not done.stderr and done.returncode == 0, done.stderr
    return [Said(*json.loads(line)) for line in done.stdout.splitlines()]


WORDS = ["", "nope", "../x", "\x1b]0;x\x07", "-5", "nan", "\udcff", "last", "x" * 4000, "9" * 400]
ON_A_RUN = ["status", "attach", "results", "failures", "logs", "report", "cancel"]


def nonsense() -> list[list[str]]:
    """Every command with arguments that mean nothing, or too few, or too many."""
    runs = [["status", word] for word in WORDS] + [[command, word] for command in ON_A_RUN for word in WORDS[:2]]
    runs += [["replay", word, item] for word in ("nope", "../x") for item in ("0", "-1", "x", "9" * 400)]
    runs += [["extend", "nope", seconds] for seconds in ("nan", "-1", "inf", "x", "9" * 400)]
    others = [
        *([command, "--backend", word] for command in ("runs", "prune", "demo") for word in WORDS[:5]),
        *(["runs", "--tag", word] for word in ("", "x", "=y")),
        *(["runs", "-n", word] for word in WORDS[3:6]),
        *(["image", *words] for words in (["ls"], ["rm", "x"], ["gc"], ["gc", "--days", "nan"], ["build"], ["x"])),
        *(["env", "show", "-r", word] for word in WORDS),
        *(["map", word, "-i", "items.jsonl"] for word in WORDS),
        *(["map", "json:dumps", "-i", word] for word in WORDS),
        *(["map", "json:dumps", "-i", name] for name in ("not-utf8.jsonl", "broken.jsonl", "torn.parquet", ".")),
        *(["map", "json:dumps", "-i", name] for name in ("not-utf8.csv", "deep.jsonl", "/dev/full", "empty.parquet")),
        *(
            ["map", "json:dumps", "-i", "items.jsonl", f"--{option}={word}"]
            for option in ("workers", "cpu", "memory", "slots", "chunk-size", "retries", "retry-delay", "timeout")
            for word in ("nan", "-1", "9" * 400, "\x1b")
        ),
        *(
            ["map", "json:dumps", "-i", "items.jsonl", f"--{option}={word}"]
            for option in ("tolerate", "budget", "tag", "retry-on", "format", "backend")
            for word in ("-1", "", "\x1b[0m")
        ),
        ["no-such-command"],
        ["--no-such-option"],
    ]
    return runs + others


def test_every_nonsense_is_one_line_of_ours(tmp_path: Path) -> None:
    """No traceback, one line that can be shown, and the exit code that the help names for it."""
    (tmp_path / "items.jsonl").write_text("1\n")
    (tmp_path / "not-utf8.jsonl").write_bytes(b'1\n"\xff"\n')
    (tmp_path / "not-utf8.csv").write_bytes(b"a,b\n\xff,1\n")
    (tmp_path / "broken.jsonl").write_text('{"a": \n')
    (tmp_path / "deep.jsonl").write_text("[" * 100_000 + "\n")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and then nothing that it should be PAR1")
    (tmp_path / "empty.parquet").touch()
    for done in said(tmp_path, *nonsense()):
        lines = done.err.splitlines()
        assert done.code in (2, 3, 5), done
        assert len(lines) == 1 and lines[0].startswith("error: "), done
        assert lines[0].isprintable() and len(lines[0]) < 4100 and "Traceback" not in lines[0], done
        assert "STARBURST_VERBOSE" not in lines[0], f"an error that is not ours: {done}"
        assert not done.out, done


EVIL = "\x1b]0;owned\x07 \x9b2J \u202egnp \u2028 [red]x[/] [/] :smile:\nsecond"
HUGE = 2_000_000


def test_what_others_wrote_steers_no_terminal(tmp_path: Path) -> None:
    """Labels, tags, types, messages, tracebacks and prints show what they hold; no line is more than it was."""
    (tmp_path / "work.py").write_text(
        "def evil(text):\n    print(text)\n    raise type(text.upper(), (ValueError,), {})(text)\n"
    )
    (tmp_path / "evil.jsonl").write_text(json.dumps(EVIL) + "\n")
    texts = ["runs", "status last", "logs last", "failures last", "attach last", "failures last --traceback"]
    documents = ["runs", "status last", "logs last", "failures last", "results last", "replay last 0"]
    mapped, *told = said(
        tmp_path,
        ["map", "work:evil", "-i", "evil.jsonl", "--label", EVIL, "--tag", f"{EVIL}={EVIL}"],
        *(words.split() for words in texts),
        *([*words.split(), "--json"] for words in documents),
    )
    for done in (mapped, *told):
        hidden = {each for each in done.out + done.err if not each.isprintable()} - {"\n"}
        assert not hidden or (hidden == {"\t"} and "logs" in done.words) or "replay" in done.words, done
        assert "[/]" in done.out + done.err, done
    runs, _, logs, failures = told[:4]
    assert [len(done.out.splitlines()) for done in (runs, logs, failures)] == [2, 2, 2], "one line for one thing"
    (shown,) = json.loads(told[6].out)
    assert (shown["label"], shown["tags"]) == (EVIL, {EVIL: EVIL}), "a program gets what was there"
    assert json.loads(told[8].out)["text"] == f"{EVIL}\n"


def test_what_nobody_signed_steers_no_terminal(tmp_path: Path) -> None:
    """Whoever may write to the store, without a key, says why an input ended, who is suspected, who holds a fleet."""
    (tmp_path / "items.jsonl").write_text("1\n2\n")
    (mapped,) = said(tmp_path, ["map", "math:sqrt", "-i", "items.jsonl"])
    assert mapped.code == 0, mapped
    (folder,) = (tmp_path / "home" / "store" / "runs").glob("run-*")
    for ended in ("end", "input"):
        (folder / ended).unlink(missing_ok=True)
    reason = json.dumps({"ended": EVIL, "at": EVIL})
    marks = {"feeding": reason, "suspects/000000000000": EVIL, "withdrawn": EVIL, "expires": EVIL}
    for name, text in marks.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    held = tmp_path / "home" / "store" / "fleets" / "fleet-20261130-000000-0a1b2c3d" / "held-by" / folder.name
    held.parent.mkdir(parents=True)
    held.write_text(EVIL)
    looks = (
        "status last",
        "runs",
        "status",
        "logs last",
        "failures last",
        "attach last",
        "status last",
        "runs",
        "prune",
    )
    told = said(tmp_path, *(words.split() for words in looks))
    assert EVIL[:3] not in "".join(done.out + done.err for done in told)
    assert {each for done in told for each in done.out + done.err if not each.isprintable()} <= {"\n"}
    assert "owned" in "".join(done.out + done.err for done in told), "it is told, as what it is"


def shout(item: int) -> None:
    """Fail with much to say: in the message, in the exception itself, in its type's name."""
    if item == 1:
        error = ValueError("short")
        error.__dict__["data"] = b"x" * HUGE
        raise error
    if item == 2:
        raise type("E" * HUGE, (MemoryError,), {})("!" * HUGE)
    raise ValueError("!" * HUGE)


def test_what_is_told_of_a_failure_has_a_bound(backend: Backend) -> None:
    """A message of two million characters is cut where it comes from, and says so; the exception is still of a kind."""
    with Cluster(workers=1, backend=backend, progress=False, return_exceptions=True) as cluster:
        run = cluster.start(shout, range(50))
        errors = run.results()
        failures = run.failures()
        page = run.report()
    assert all(isinstance(error, OutOfMemory if index == 2 else ItemFailed) for index, error in enumerate(errors))
    assert str(errors[1]) == "item 1: ValueError: short"
    assert all(len(each.message) <= 10_000 and len(each.traceback) <= 20_000 for each in failures)
    assert "characters left out" in failures[0].message and "in shout" in failures[0].traceback
    assert len(failures[2].error) <= 200
    assert Path(unquote(urlsplit(page).path)).stat().st_size < 4_000_000
