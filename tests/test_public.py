"""What the package offers, what it costs to import, and errors that travel."""

from __future__ import annotations

import importlib
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import starburst_common
from starburst_common import errors, spi
from starburst_common.model import Failure, FailureKind
from starburst_common.runs.answers import RemoteTraceback, exception_of

HEAVY = ("prefect", "airflow", "docker", "boto3", "botocore", "numpy", "pandas", "pyarrow", "rich", "typer")


def in_a_fresh_process(script: str) -> Any:
    """What the script prints as JSON."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


# --- names ------------------------------------------------------------------------------------------------------------


def test_the_public_names_are_those_that_can_be_imported() -> None:
    """`__all__` is sorted and without repetition, every name in it is there, and `dir` and `import *` show the same."""
    names = starburst_common.__all__
    assert names == sorted(set(names))
    assert dir(starburst_common) == names
    everything: dict[str, Any] = {}
    exec("from starburst_common import *", everything)
    assert sorted(set(everything) - {"__builtins__"}) == names
    for name in names:
        assert getattr(starburst_common, name) is everything[name]


def test_no_public_name_is_forgotten() -> None:
    """Nothing else is imported lazily, and every error that users may catch is among the names."""
    assert sorted(starburst_common._WHERE) == starburst_common.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        starburst_common.nothing  # noqa: B018
    assert not hasattr(starburst_common, "Driver")


def test_what_integrations_may_import_says_what_it_is() -> None:
    """Each name is there, has a line, is none of the public ones; and to load the list loads nothing that it names."""
    lines = Path(spi.__file__).read_text()
    said = {name: home for home, name in re.findall(r"^    from (\S+) import (\w+) as \2  # \w", lines, re.MULTILINE)}
    assert said == {name: f"starburst_common.{home}" for name, home in spi._WHERE.items()}
    assert sorted(said) == dir(spi)
    assert not {*said} & {*starburst_common.__all__}
    for name, home in said.items():
        assert getattr(spi, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        spi.nothing  # noqa: B018
    alone = "import json, sys, starburst_common.spi; print(json.dumps([*sys.modules]))"
    ours = [name for name in in_a_fresh_process(alone) if name.startswith("starburst")]
    assert ours == ["starburst_common", "starburst_common.spi"]


def test_every_error_that_users_meet_is_public() -> None:
    """The others are caught inside, or are a kind of one that is public, or nothing raises them yet."""
    inside = {"AnswersLost", "CannotLaunch", "Exists", "ItemCancelled", "NoSpace", "UnknownVersion", "Unsigned"}
    assert {kind.__name__ for kind in EVERY_ERROR} - set(starburst_common.__all__) == inside


def test_every_public_name_is_documented() -> None:
    """With a docstring of its own, as have their public methods."""
    for name in starburst_common.__all__:
        thing = getattr(starburst_common, name)
        assert (thing.__doc__ or "").strip(), name
        if isinstance(thing, type) and not issubclass(thing, BaseException):
            for attribute, value in vars(thing).items():
                if callable(value) and not attribute.startswith("_"):
                    assert (value.__doc__ or "").strip(), f"{name}.{attribute}"


# --- importing --------------------------------------------------------------------------------------------------------


def test_importing_it_is_quick_and_loads_nothing_heavy() -> None:
    """Under 0.3 s, alone and with every public name; neither an orchestrator nor a cloud's client comes along."""
    script = (
        "import json, sys, time\n"
        "began = time.process_time()\n"
        "import starburst_common\n"
        "bare = time.process_time() - began\n"
        "light = set(sys.modules)\n"
        "for name in starburst_common.__all__: getattr(starburst_common, name)\n"
        "print(json.dumps([bare, time.process_time() - began, sorted(light), sorted(sys.modules)]))"
    )
    bare_s, all_s, light, loaded = min((in_a_fresh_process(script) for _ in range(3)), key=lambda told: told[1])
    assert bare_s < 0.05
    assert all_s < 0.3
    assert not set(HEAVY) & {name.partition(".")[0] for name in loaded}
    assert [name for name in light if name.startswith("starburst_common")] == ["starburst_common"]


def test_a_worker_on_aws_loads_nothing_that_only_drivers_need() -> None:
    """Its start waits for each import, at Fargate's least four times as long as here."""
    script = (
        "import json, os, sys\n"
        "os.environ |= {'AWS_ACCESS_KEY_ID': 'a', 'AWS_SECRET_ACCESS_KEY': 'b'}\n"
        "import starburst_worker.start, starburst_common.aws.contact\n"
        "from starburst_common.aws import aws_backend_at\n"
        "from starburst_common.model import Address\n"
        "aws_backend_at(Address(site='s', region='eu-west-1', bucket='b', account='123456789012'), b'k' * 40)\n"
        "print(json.dumps([*sys.modules]))"
    )
    loaded = set(in_a_fresh_process(script))
    aside = {f"starburst_common.{name}" for name in ("aws.compute", "aws.images", "aws.quotas", "config", "options")}
    assert not loaded & {*aside, "platformdirs", "rich", "typer", "zlib_ng", "docker"}


def test_importing_it_does_nothing(tmp_path: Path) -> None:
    """No thread is started, no file made, no handler installed, nobody's random state touched."""
    script = (
        "import json, logging, random, threading\n"
        "state = random.getstate()\n"
        "import starburst_common\n"
        "for name in starburst_common.__all__: getattr(starburst_common, name)\n"
        "print(json.dumps([threading.active_count(), len(logging.root.handlers),"
        " len(logging.getLogger('starburst').handlers), random.getstate() == state]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"HOME": str(tmp_path), "STARBURST_HOME": str(tmp_path / "home")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == [1, 0, 0, True]
    assert list(tmp_path.iterdir()) == []


def test_making_a_cluster_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first call, or the `with`, a constructor only checks its options."""
    monkeypatch.setenv("STARBURST_HOME", str(tmp_path / "home"))
    starburst_common.Cluster(backend="local", workers=3)
    starburst_common.StarburstExecutor(3, backend="local")
    assert list(tmp_path.iterdir()) == []


# --- errors -----------------------------------------------------------------------------------------------------------

EVERY_ERROR = sorted(
    (thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, Exception)),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_errors_survive_pickling(kind: type[Exception]) -> None:
    """Type, text and all: they are raised on one machine and caught on another."""
    error = kind("4000 vCPU wanted, 1000 free: use workers=250")
    got = pickle.loads(pickle.dumps(error))
    assert type(got) is kind
    assert str(got) == str(error) == "4000 vCPU wanted, 1000 free: use workers=250"
    assert got.args == error.args


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_errors_are_ours_and_say_when(kind: type[Exception]) -> None:
    """One root catches them all, and each has a docstring of its own."""
    assert issubclass(kind, errors.StarburstError)
    assert kind.__doc__
    assert kind.__doc__ not in [base.__doc__ for base in kind.__mro__[1:]]


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (errors.BadInput, ValueError),
        (errors.NotFound, LookupError),
        (errors.OutOfMemory, MemoryError),
        (errors.ItemTimeout, TimeoutError),
        (errors.EnvironmentMismatch, ImportError),
        (errors.UnpicklableResult, TypeError),
        (errors.UnknownVersion, errors.Refused),
        (errors.WorkerLost, errors.ItemFailed),
    ],
)
def test_errors_are_what_python_calls_them_too(kind: type[Exception], also: type[Exception]) -> None:
    """Code that knows nothing of starburst catches them by their ordinary names."""
    assert issubclass(kind, also)


@pytest.mark.parametrize("kind", FailureKind)
def test_every_failure_becomes_an_exception(kind: FailureKind) -> None:
    """That names the item and carries the remote traceback as its cause."""
    failure = Failure(index=7, kind=kind, error="Odd", message="it went wrong", traceback="Traceback: line 1")
    error = exception_of(failure)
    assert isinstance(error, errors.ItemFailed)
    assert str(error).startswith("item 7: ")
    assert str(error).endswith("it went wrong")
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "Traceback: line 1" in str(error.__cause__)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert "Traceback: line 1" in str(pickle.loads(pickle.dumps(error.__cause__)))


def test_a_users_exception_comes_home_as_itself() -> None:
    """Type and arguments; one that cannot be unpickled here becomes an `ItemFailed` that names it."""
    failure = Failure(
        index=1, kind=FailureKind.USER, error="KeyError", message="'a'", exception=pickle.dumps(KeyError("a"))
    )
    error = exception_of(failure)
    assert type(error) is KeyError
    assert error.args == ("a",)
    broken = Failure(index=1, kind=FailureKind.USER, error="Odd", message="m", exception=b"not a pickle")
    assert str(exception_of(broken)) == "item 1: Odd: m"
    assert type(exception_of(broken)) is errors.ItemFailed


def test_every_module_says_what_it_is() -> None:
    """The first line of each, in one sentence."""
    folder = Path(starburst_common.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        name = ".".join(file.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__")
        if "aws" not in name and "cli" not in name:
            assert (importlib.import_module(name).__doc__ or "").strip(), name
