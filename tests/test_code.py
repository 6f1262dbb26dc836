"""A function travels with the user's own modules that it needs, and with nothing else."""

from __future__ import annotations

import ctypes
import importlib
import io
import json
import multiprocessing
import os
import pickle
import pkgutil
import queue
import random
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from starburst_common import BadInput, ItemTimeout, NotPicklable
from starburst_common.code.bundle import Bundle, tell_unfit
from starburst_common.code.bundle import bundle_of as zipped
from starburst_common.code.files import Piece, module_at
from starburst_common.code.pack import PackedFunction, pack_function
from starburst_common.local import local_backend
from starburst_common.model import FailureKind, FleetId, RunId
from starburst_common.pickling.bound import Stays
from starburst_common.runs.feed import Feed
from starburst_common.wire.frames import FrameWriter
from starburst_worker.failed import failure_of
from starburst_worker.loaded import load_function

#: A project as people have them: every way to import that there is.
PROJECT = {
    "shop/__init__.py": "",
    "shop/orders.py": (
        "import json\nimport numpy as np\nfrom . import prices\nfrom .deep.tax import rate\nimport helpers\n"
        "def total(order):\n"
        "    import lazily\n"
        "    from plugins.extra import bonus\n"
        "    return sum(prices.PRICE[thing] for thing in order) + rate() + helpers.fee() + lazily.late() + bonus()\n"
        "class Order(list):\n    pass\n"
    ),
    "shop/prices.py": "PRICE = {'a': 100, 'b': 200}\n",
    "shop/deep/__init__.py": "from ..prices import PRICE\n",
    "shop/deep/tax.py": (
        "from pathlib import Path\ndef rate():\n    return int((Path(__file__).parent / 'rate.txt').read_text())\n"
    ),
    "shop/deep/rate.txt": "7",
    "helpers.py": "def fee():\n    return 1\n",
    "lazily.py": "def late():\n    return 10\n",
    "plugins/extra.py": "from .regular import bonus\n",
    "plugins/regular/__init__.py": (
        "from pathlib import Path\n"
        "def bonus():\n    return int((Path(__file__).parent / 'data' / 'bonus.txt').read_text())\n"
    ),
    "plugins/regular/data/bonus.txt": "1000",
    "plugins/huge.csv": "beside a namespace's modules may lie anything",
    "unrelated.py": "raise RuntimeError('nobody asked for me')\n",
    "notes.txt": "not code",
}
NEEDED = {"shop", "helpers", "lazily", "plugins"}


def write(folder: Path, files: dict[str, str]) -> Path:
    """A project in a folder."""
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


@pytest.fixture
def at_home() -> Iterator[Callable[[Path], None]]:
    """Put a project first on the path, in place of any before; in the end path and modules are as they were."""
    path, modules = list(sys.path), set(sys.modules)

    def forget() -> None:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if name.partition(".")[0] in {*NEEDED, "unrelated", "single", "shadow", "venvish"}:
                del sys.modules[name]
        importlib.invalidate_caches()

    def use(folder: Path) -> None:
        forget()
        sys.path.insert(0, str(folder))

    yield use
    forget()


def pack(function: Callable[..., Any], **more: Any) -> PackedFunction:
    """With the defaults of a plain map."""
    return pack_function(function, style="one", retry_on=(Exception,), **more)


def packed_total(at_home: Callable[[Path], None], folder: Path) -> PackedFunction:
    """The project's function, imported from this folder."""
    at_home(folder)
    return pack(importlib.import_module("shop.orders").total)


def files_of(packed: PackedFunction) -> list[str]:
    """What is in the bundle."""
    return zipfile.ZipFile(io.BytesIO(bundle_of(packed))).namelist()


def bundle_of(packed: PackedFunction) -> bytes:
    """The archive."""
    assert packed.bundle is not None
    return packed.bundle.archive


def called_elsewhere(packed: PackedFunction, argument: str, folder: Path) -> str:
    """`repr(function(argument))` in a fresh process, in an empty folder and with nothing but the bundle."""
    folder.mkdir()
    (folder / "function").write_bytes(packed.blob)
    bundle = "None"
    if packed.bundle is not None:
        zipfile.ZipFile(io.BytesIO(packed.bundle.archive)).extractall(folder / "bundle")
        bundle = repr(str(folder / "bundle"))
    script = (
        "from pathlib import Path\nfrom starburst_worker.loaded import load_function\n"
        f"function, *_ = load_function(Path('function').read_bytes(), {bundle}, {{}})\n"
        f"print(repr(function({argument})))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- what travels -----------------------------------------------------------------------------------------------------


def test_a_projects_modules_travel_with_its_function(tmp_path: Path, at_home: Callable[[Path], None]) -> None:
    """The package, the module beside it, one imported in a function's body, relative imports, a namespace package.

    Data files inside packages come along; what the function does not need stays, as do installed packages.
    """
    packed = packed_total(at_home, write(tmp_path / "project", PROJECT))
    assert packed.bundle is not None
    assert set(packed.bundle.modules) == NEEDED
    assert sorted(files_of(packed)) == sorted(set(PROJECT) - {"unrelated.py", "notes.txt", "plugins/huge.csv"})
    assert called_elsewhere(packed, "['a', 'b']", tmp_path / "elsewhere") == str(300 + 7 + 1 + 10 + 1000)


def test_a_lambda_over_a_module_takes_it_along(tmp_path: Path, at_home: Callable[[Path], None]) -> None:
    """A function that goes by value needs what it names: as a global, in a closure, or imported when it runs."""
    at_home(write(tmp_path / "project", PROJECT))
    helpers: ModuleType = importlib.import_module("helpers")
    fee = helpers.fee

    def lazy(x: int) -> int:
        import lazily

        return x + lazily.late()

    for number, (function, module, value) in enumerate(
        [(lambda x: x + helpers.fee(), "helpers", 2), (lambda x: x + fee(), "helpers", 2), (lazy, "lazily", 11)]
    ):
        packed = pack(function)
        assert packed.bundle is not None
        assert module in packed.bundle.modules
        assert called_elsewhere(packed, "1", tmp_path / f"elsewhere{number}") == str(value)


def test_the_classes_of_items_travel_too(tmp_path: Path, at_home: Callable[[Path], None]) -> None:
    """A builtin function over instances of the user's class."""
    at_home(write(tmp_path / "project", PROJECT))
    orders = importlib.import_module("shop.orders")
    assert pack(len).bundle is None
    packed = pack(len, samples=[orders.Order("ab")])
    assert packed.bundle is not None
    assert "shop" in packed.bundle.modules


def test_what_to_retry_on_travels_too(tmp_path: Path, at_home: Callable[[Path], None]) -> None:
    """The user's own exception type."""
    at_home(write(tmp_path / "project", {"single.py": "class Flaky(Exception):\n    pass\n"}))
    flaky = importlib.import_module("single").Flaky
    packed = pack_function(len, style="one", retry_on=(flaky,))
    assert packed.bundle is not None
    assert packed.bundle.modules == ("single",)
    assert load_function(packed.blob, None, {}).retry_on == (flaky,)


@pytest.mark.parametrize("function", [len, os.path.join, importlib.import_module("numpy").mean, pytest.approx])
def test_installed_packages_stay_where_they_are(function: Callable[..., Any]) -> None:
    """The standard library and site-packages are the environment's business."""
    assert pack(function).bundle is None


def test_starburst_itself_stays(tmp_path: Path) -> None:
    """Workers have it, also where it is installed from a checkout."""
    from starburst_common.runs.chunking import chunk_items

    assert pack(chunk_items).bundle is None


def test_caches_hidden_files_and_environments_stay(tmp_path: Path, at_home: Callable[[Path], None]) -> None:
    """What a package's folder collects over the years."""
    at_home(
        write(
            tmp_path,
            {
                "venvish/__init__.py": "def f(x):\n    return x\n",
                "venvish/data.csv": "1",
                "venvish/__pycache__/f.cpython-311.pyc": "",
                "venvish/old.pyc": "",
                "venvish/.git/config": "",
                "venvish/.env": "PASSWORD=1",
                "venvish/venv/lib.py": "",
                "venvish/myenv/pyvenv.cfg": "",
                "venvish/myenv/lib/x.py": "",
                "venvish/node_modules/x.js": "",
            },
        )
    )
    packed = pack(importlib.import_module("venvish").f)
    assert files_of(packed) == ["venvish/__init__.py", "venvish/data.csv"]


def test_a_module_that_cannot_be_parsed_is_no_obstacle(tmp_path: Path, at_home: Callable[[Path], None]) -> None:
    """A template or a Python 2 script inside a package travels as it is."""
    at_home(write(tmp_path, {"shop/__init__.py": "def f(x):\n    return x\n", "shop/template.py": "{{ not python }}"}))
    assert files_of(pack(importlib.import_module("shop").f)) == ["shop/__init__.py", "shop/template.py"]


def test_modules_that_import_each_other_end(tmp_path: Path, at_home: Callable[[Path], None]) -> None:
    """A circle is walked once."""
    at_home(
        write(tmp_path, {"helpers.py": "import lazily\ndef f(x):\n    return x\n", "lazily.py": "import helpers\n"})
    )
    packed = pack(importlib.import_module("helpers").f)
    assert packed.bundle is not None
    assert packed.bundle.modules == ("helpers", "lazily")


# --- digests ----------------------------------------------------------------------------------------------------------


def test_the_digest_is_of_names_and_contents_alone(tmp_path: Path, at_home: Callable[[Path], None]) -> None:
    """The same project in another folder, written in another order at another time, is the same bytes: stored once."""
    first = packed_total(at_home, write(tmp_path / "here", PROJECT))
    other = write(tmp_path / "there" / "deeper", dict(reversed(PROJECT.items())))
    for number, file in enumerate(sorted(other.rglob("*"))):
        os.utime(file, (number * 1e6, number * 1e6))
    second = packed_total(at_home, other)
    assert first.bundle == second.bundle
    assert bundle_of(first) == bundle_of(second)
    assert first.digest == second.digest


@pytest.mark.parametrize(
    "change",
    [
        {"shop/prices.py": "PRICE = {'a': 101, 'b': 200}\n"},
        {"shop/deep/rate.txt": "8"},
        {"lazily.py": "def late():\n    return 11\n"},
        {"plugins/regular/data/bonus.txt": "1001"},
        {"shop/new.py": ""},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_change_of_what_travels_changes_the_digests(
    tmp_path: Path, at_home: Callable[[Path], None], change: dict[str, str]
) -> None:
    """In a module, in data, in what is imported late: the bundle's and the function's, so workers load it anew."""
    before = packed_total(at_home, write(tmp_path, PROJECT))
    after = packed_total(at_home, write(tmp_path, change))
    assert before.bundle is not None
    assert after.bundle is not None
    assert before.bundle.digest != after.bundle.digest
    assert before.digest != after.digest


def test_a_change_of_what_stays_changes_nothing(tmp_path: Path, at_home: Callable[[Path], None]) -> None:
    """A file beside the project's modules."""
    before = packed_total(at_home, write(tmp_path, PROJECT))
    after = packed_total(at_home, write(tmp_path, {"unrelated.py": "1", "notes.txt": "2"}))
    assert (before.bundle, before.digest) == (after.bundle, after.digest)


def test_moving_text_from_one_file_to_another_changes_the_digest(
    tmp_path: Path, at_home: Callable[[Path], None]
) -> None:
    """Names and contents are told apart in it."""
    digests = set()
    for number, (one, other) in enumerate([("a = 1\n", ""), ("", "a = 1\n"), ("a = 1", "\n")]):
        folder = write(
            tmp_path / str(number),
            {"shop/__init__.py": "def f(x):\n    return x\n", "shop/one.py": one, "shop/other.py": other},
        )
        at_home(folder)
        packed = pack(importlib.import_module("shop").f)
        assert packed.bundle is not None
        digests.add(packed.bundle.digest)
    assert len(digests) == 3


def test_the_function_and_how_it_is_called_are_in_its_digest() -> None:
    """Two functions, two values closed over, or two call styles are stored apart; the same one twice is one."""

    def adding(offset: int) -> Callable[[int], int]:
        return lambda x: x + offset

    assert pack(adding(1)).digest == pack(adding(1)).digest
    assert pack(adding(1)).digest != pack(adding(2)).digest
    star = pack_function(adding(1), style="star", retry_on=(Exception,))
    assert star.digest != pack(adding(1)).digest
    other = pack_function(adding(1), style="one", retry_on=(ValueError,))
    assert other.digest != pack(adding(1)).digest


# --- functions of every kind ------------------------------------------------------------------------------------------


def test_functions_of_main_travel_by_value(tmp_path: Path) -> None:
    """A script's functions, classes and globals, with the module beside the script, called without the script."""
    script = write(
        tmp_path / "scripts",
        {
            "helpers.py": "def fee():\n    return 1\n",
            "script.py": (
                "import sys\nfrom pathlib import Path\nimport helpers\n"
                "from starburst_common.code.pack import pack_function\n"
                "BASE = 40\n"
                "class Point:\n    def __init__(self, x):\n        self.x = x\n"
                "    def __repr__(self):\n        return f'Point({self.x})'\n"
                "def twice(x):\n    return 2 * x\n"
                "def work(x):\n    return Point(twice(x) + BASE + helpers.fee())\n"
                "if __name__ == '__main__':\n"
                "    packed = pack_function(work, style='one', retry_on=(Exception,))\n"
                "    Path(sys.argv[1]).write_bytes(packed.blob)\n"
                "    Path(sys.argv[2]).write_bytes(packed.bundle.archive)\n"
            ),
        },
    )
    blob, archive = tmp_path / "blob", tmp_path / "archive"
    subprocess.run([sys.executable, script / "script.py", blob, archive], check=True, cwd=tmp_path, timeout=60)
    assert zipfile.ZipFile(archive).namelist() == ["helpers.py"]
    packed = PackedFunction(
        digest="",
        blob=blob.read_bytes(),
        style="one",
        retry_timeouts=False,
        bundle=Bundle(digest="", archive=archive.read_bytes(), modules=("helpers",)),
    )
    assert called_elsewhere(packed, "1", tmp_path / "elsewhere") == "Point(43)"


def test_callables_of_every_kind(tmp_path: Path) -> None:
    """Lambdas, closures, partials, bound methods, builtins, instances with `__call__`, decorated functions."""
    from functools import partial, wraps

    class Adder:
        def __init__(self, offset: int) -> None:
            self.offset = offset

        def __call__(self, x: int) -> int:
            return x + self.offset

        def twice(self, x: int) -> int:
            return 2 * self(x)

    def traced(function: Callable[[int], int]) -> Callable[[int], int]:
        @wraps(function)
        def wrapper(x: int) -> int:
            return function(x)

        return wrapper

    @traced
    def decorated(x: int) -> int:
        return x + 1

    offset = 5
    for function, value in [
        (lambda x: x + offset, 8),
        (partial(max, 2), 3),
        (Adder(1), 4),
        (Adder(1).twice, 8),
        (abs, 3),
        (float, 3.0),
        ("{}".format, "3"),
        (decorated, 4),
    ]:
        got, *_ = load_function(pack(function).blob, None, {})
        assert got(3) == value


def test_code_keeps_its_names_in_a_python_that_is_strict_with_bytes() -> None:
    """Also within a function, and where no file has that name; `-bb` makes a comparison of text with bytes an error."""
    program = """
import os, pickle
from starburst_common.pickling.byvalue import dumps

file = os.fsdecode(b"/nowhere/caf\\xe9.py")
code = compile("def outer(n):\\n    return lambda x: ('<dynamic-code>', n / x)", file, "exec")
outer, *_ = code.co_consts
inner = next(each for each in outer.co_consts if hasattr(each, "co_filename"))
for each in code, outer, inner:
    back = pickle.loads(dumps(each))
    assert back == each and back.co_filename == file
"""
    subprocess.run([sys.executable, "-bb", "-c", program], check=True, timeout=60)


def test_an_exception_by_value_keeps_the_names_of_its_files() -> None:
    """One whose class only the user's program has comes home with its code, as functions go out with theirs."""
    made: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("class Own(Exception):\n    def told(self): return 1", "/home/me/mine.py", "exec"), made)
    _, pickled = failure_of(0, made["Own"]("as asked"), kind=FailureKind.USER)
    assert pickled is not None
    assert pickle.loads(pickled).told.__code__.co_filename == "/home/me/mine.py"


def test_a_recursive_function_travels() -> None:
    """It closes over itself."""

    def factorial(n: int) -> int:
        return 1 if n == 0 else n * factorial(n - 1)

    got, *_ = load_function(pack(factorial).blob, None, {})
    assert got(5) == 120


def test_what_cannot_travel_is_refused_with_advice() -> None:
    """A lock, a generator or a connection that the function holds; or no function at all."""
    lock = threading.Lock()

    def waits(x: int) -> int:
        with lock:
            return x

    with pytest.raises(BadInput, match=r"waits' cannot be pickled: .*inside it rather than capturing them"):
        pack(waits)
    with pytest.raises(BadInput, match="5 is not callable"):
        pack(5)  # type: ignore[arg-type]


def test_what_only_a_module_brings_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that C code makes, and what tells only where the script has it, as curried functions do."""

    class Point(ctypes.Structure):
        _fields_ = (("x", ctypes.c_int),)

    class Curried:
        def __reduce__(self) -> Any:
            return pkgutil.resolve_name, ("__main__:curried",)

    monkeypatch.setattr(sys.modules["__main__"], "curried", Curried(), raising=False)
    Point.__module__ = Curried.__module__ = "__main__"
    for held, why in ((Point, "Point, made in C by _ctypes"), (Curried(), "sent as a name, which workers do not have")):
        with pytest.raises(BadInput, match=why):
            pack(lambda _, held=held: held)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("retry_on", "retries_timeouts"),
    [
        ((Exception,), True),
        ((TimeoutError,), True),
        ((ItemTimeout,), True),
        ((ValueError,), False),
        ((KeyError, OSError), True),
    ],
)
def test_whether_timeouts_are_retried_follows_from_the_types(
    retry_on: tuple[type[BaseException], ...], retries_timeouts: bool
) -> None:
    """An item that ran too long raises `ItemTimeout`, which is a `TimeoutError`, which is an `OSError`."""
    assert pack_function(len, style="one", retry_on=retry_on).retry_timeouts == retries_timeouts


# --- what is left out -------------------------------------------------------------------------------------------------

FUNCTION = "def f(x):\n    return x\n"


def travelling(at_home: Callable[[Path], None], folder: Path, files: dict[str, str]) -> list[str]:
    """What travels with `shop.f` from a project of these files, but for `shop/__init__.py`."""
    at_home(write(folder, {"shop/__init__.py": FUNCTION, **files}))
    names = files_of(pack(importlib.import_module("shop").f))
    names.remove("shop/__init__.py")
    return names


DATA = {"shop/data/table.csv": "1", "shop/data/deep/other.csv": "2", "shop/log.txt": "3", "shop/keep.csv": "4"}


@pytest.mark.parametrize(
    ("rules", "travels"),
    [
        ({}, ["data/deep/other.csv", "data/table.csv", "keep.csv", "log.txt"]),
        ({".gitignore": "*.csv\n"}, ["log.txt"]),
        ({".gitignore": "# a comment\n\n*.csv\n!keep.csv\n"}, ["keep.csv", "log.txt"]),
        ({".gitignore": "/shop/data/\n"}, ["keep.csv", "log.txt"]),
        ({".gitignore": "/data/\n"}, ["data/deep/other.csv", "data/table.csv", "keep.csv", "log.txt"]),
        ({"shop/.gitignore": "/data/\n"}, ["keep.csv", "log.txt"]),
        ({"shop/data/.gitignore": "*\n", ".gitignore": "log.txt\n"}, ["keep.csv"]),
        ({".gitignore": "*.csv\n", "shop/data/.gitignore": "!table.csv\n"}, ["data/table.csv", "log.txt"]),
        ({".gitignore": "data/\n", ".starburstignore": "!table.csv\n"}, ["data/table.csv", "keep.csv", "log.txt"]),
        (
            {".gitignore": "*.*\n", ".starburstignore": "!*.csv\n"},
            ["data/deep/other.csv", "data/table.csv", "keep.csv"],
        ),
        ({".gitignore": "*\n"}, ["data/deep/other.csv", "data/table.csv", "keep.csv", "log.txt"]),
        (
            {".gitignore": "*.csv\nsho?/\n", "shop/.gitignore": "log.*"},
            ["data/deep/other.csv", "data/table.csv", "keep.csv"],
        ),
        ({".starburstignore": "data/\n"}, ["keep.csv", "log.txt"]),
        ({".starburstignore": "*.csv\n", "shop/.starburstignore": "!/keep.csv\n"}, ["keep.csv", "log.txt"]),
        ({"../.gitignore": "*.csv\n"}, ["data/deep/other.csv", "data/table.csv", "keep.csv", "log.txt"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("root", ["pyproject.toml", ".git/HEAD", "none"])
def test_data_that_is_ignored_stays(
    tmp_path: Path, at_home: Callable[[Path], None], rules: dict[str, str], travels: list[str], root: str
) -> None:
    """`.gitignore` and `.starburstignore` of the project and its folders, not of what is above; ours is right.

    Where Git ignores all of a package that is imported, as one that is generated, its own rules alone count.
    """
    marked = {} if root == "none" else {root: ""}
    found = travelling(at_home, tmp_path / "project", {**DATA, **rules, **marked})
    assert sorted(found) == [f"shop/{name}" for name in travels]


def test_rules_above_a_source_folder_count_up_to_the_projects_root(
    tmp_path: Path, at_home: Callable[[Path], None]
) -> None:
    """With `src/`, they lie beside pyproject.toml; a repository around that has no say."""
    write(tmp_path, {".git/HEAD": "", ".gitignore": "log.txt\n"})
    write(tmp_path / "project", {"pyproject.toml": "", ".gitignore": "*.csv\n"})
    assert travelling(at_home, tmp_path / "project" / "src", DATA) == ["shop/log.txt"]


def test_what_can_be_imported_travels_though_git_ignores_it(tmp_path: Path, at_home: Callable[[Path], None]) -> None:
    """A generated `_version.py`, a compiled extension; `.starburstignore` alone leaves them out."""
    files = {"shop/_version.py": "", "shop/fast.abi3.so": "", "shop/notes.so.txt": "", "pyproject.toml": ""}
    rules = {".gitignore": "_version.py\n*.so\n*.txt\n"}
    assert travelling(at_home, tmp_path, {**files, **rules}) == ["shop/_version.py", "shop/fast.abi3.so"]
    assert travelling(at_home, tmp_path, {**files, **rules, ".starburstignore": "*.so\n"}) == ["shop/_version.py"]


SECRETS = {
    "shop/a/server.pem": "",
    "shop/deep/id_rsa.pub": "",
    "shop/.env": "PASSWORD=1",
    "shop/.env.local": "",
    "shop/.aws/config": "",
    "shop/credentials.json": "",
    "shop/credentials.py": "",
    "shop/keys.txt": "",
}


def test_secrets_stay_unless_asked_for(
    tmp_path: Path, at_home: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """By their names, with one warning for the same files, and never a module; `!` brings one along."""
    assert travelling(at_home, tmp_path, SECRETS) == ["shop/credentials.py", "shop/keys.txt"]
    pack(importlib.import_module("shop").f)
    (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warning == (
        "left out as likely secrets: shop/.aws, shop/.env, shop/.env.local, shop/credentials.json, "
        "shop/a/server.pem, shop/deep/id_rsa.pub (a line '!.aws' in .starburstignore brings one along)"
    )
    asked = {**SECRETS, ".starburstignore": "!.env\n!.aws\n!server.pem\n"}
    found = travelling(at_home, tmp_path, asked)
    assert set(found) == {
        *("shop/.env", "shop/.aws/config", "shop/a/server.pem", "shop/credentials.py", "shop/keys.txt"),
    }
    assert "a line '!.env.local' in" in caplog.messages[-1]


def test_the_size_is_told_and_large_files_are_named(
    tmp_path: Path, at_home: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Over 50 MB, the largest three, and the way out; what the rules leave out is told without a warning."""
    caplog.set_level("INFO", logger="starburst")
    at_home(write(tmp_path, {"shop/__init__.py": FUNCTION, "shop/few.txt": "1", ".gitignore": "few.txt\n"}))
    for name, size in {"a.bin": 30, "b.bin": 21, "c.bin": 2, "d.bin": 1}.items():
        (tmp_path / "shop" / name).write_bytes(bytes(size * 1_000_000))
    pack(importlib.import_module("shop").f)
    size, out, warning = [each.getMessage() for each in caplog.records]
    assert size.startswith("your module shop: 5 files, 54.0 MB travel with the function (")
    assert out == "left out as .gitignore and .starburstignore say: shop/few.txt"
    assert warning.startswith(
        "your module shop: 54 MB travel, of which shop/a.bin 30 MB, shop/b.bin 21 MB, shop/c.bin 2 MB: to start "
        "faster, name what workers do not need in .starburstignore"
    )


def test_a_file_that_is_loaded_under_a_made_up_name_is_told_by_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As schedulers load files that define work."""
    caplog.set_level("INFO", logger="starburst")
    (tmp_path / "nightly.py").write_text("NUMBER = 1\n")
    zipped({"made_up_nightly": module_at([Piece(tmp_path / "nightly.py", "made_up_nightly.py")])})
    assert caplog.messages[-1].startswith("your module nightly.py: 1 file, 0.0 MB travel with the function (")


def elf(machine: int) -> bytes:
    """How a shared library for such machines begins."""
    return b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + b"\x03\0" + machine.to_bytes(2, "little")


@pytest.mark.parametrize(
    ("natives", "workers", "unfit"),
    [
        ({"fast.abi3.so": elf(62)}, "aarch64", "compiled for x86_64, and workers are aarch64,"),
        ({"libfast.so.1": elf(183), "tool": elf(62)}, "x86_64", "compiled for aarch64, and workers are x86_64,"),
        ({"fast.abi3.so": b"\xcf\xfa\xed\xfe\x07"}, "x86_64", "compiled for macOS, and workers are x86_64,"),
        ({"fast.abi3.so": elf(62)}, "x86_64", ""),
        ({"fast.abi3.so": elf(62)}, "", ""),
        ({"arm/libfast.so": elf(183), "intel/libfast.so": elf(62)}, "aarch64", ""),
        ({"fast.cpython-311-aarch64-linux-gnu.so": elf(183), "fast.abi3.so": elf(62)}, "x86_64", ""),
        ({"fast.abi3.so": b"\x7fELF", "notes.txt": b"ELF"}, "aarch64", ""),
    ],
)
def test_machine_code_that_workers_cannot_load_is_told_once(
    natives: dict[str, bytes],
    workers: str,
    unfit: str,
    tmp_path: Path,
    at_home: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A library in one's own module is compiled for this machine; where workers are others, before they start."""
    tell_unfit.cache_clear()
    at_home(write(tmp_path, {"shop/__init__.py": FUNCTION}))
    for name, body in natives.items():
        (tmp_path / "shop" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "shop" / name).write_bytes(body)
    backend = replace(local_backend(tmp_path / "home"), machine=workers)
    for run in ("run-20260101-000000-00000000", "run-20260101-000000-00000001"):
        Feed(backend, RunId(run), FleetId("fleet-x"), lambda _: None).function(pack(importlib.import_module("shop").f))
    backend.close()
    told = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len(told) == bool(unfit)
    assert not unfit or (told[0].startswith(unfit) and f": shop/{next(iter(natives))}: compile it" in told[0])


def test_what_differs_there_is_told_once(
    tmp_path: Path,
    at_home: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Data that a module reads and that stays, since it lies in no package; a module edited after its import."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    reads = "from pathlib import Path\n" + FUNCTION + "DATA = Path(__file__).parent / 'data' / 'table.csv'\n"
    reads += "HERE = Path(__file__).parents[1]\nSQL = HERE / 'sql'\nNO = 'notes', '" + "long" * 99 + ".txt'\n"
    places = {"app/helpers.py": reads, "app/data/table.csv": "1", "sql/a.sql": "", "notes/a": "", "lazily.py": FUNCTION}
    at_home(write(tmp_path, places))
    monkeypatch.syspath_prepend(tmp_path / "app")
    helpers, lazily = importlib.import_module("helpers"), importlib.import_module("lazily")
    for _ in range(2):
        pack(helpers.f)
        pack(lazily.f)
    (tmp_path / "lazily.py").write_text(FUNCTION + "# more\n")
    for _ in range(2):
        pack(lazily.f)
    importlib.reload(lazily)
    pack(lazily.f)
    beside, edited = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert beside.startswith("data near modules stays here: helpers.py reads table.csv, sql: it travels with packages")
    assert edited.startswith("edited since they were imported here: lazily.py: workers run the files")


def test_a_module_of_ones_own_that_imports_what_lies_in_no_file_is_told_before_launch(
    tmp_path: Path, at_home: Callable[[Path], None], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a program has made goes by value; a worker that imports the module's file has it not."""
    monkeypatch.setitem(sys.modules, "made_here", ModuleType("made_here"))
    at_home(write(tmp_path, {"shop/__init__.py": FUNCTION, "shop/buys.py": "import made_here\n"}))
    for _ in range(2):
        pack(importlib.import_module("shop").f)
    (told,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert told.startswith("shop/buys.py imports made_here, which lies in no file, or in none any more, so no worker")


@pytest.mark.parametrize("bytecode", [True, False])
def test_what_an_edited_module_lacks_is_refused(
    tmp_path: Path, at_home: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, *, bytecode: bool
) -> None:
    """Workers import its file: a function or an item's class that is not there any more cannot be found in it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", not bytecode)
    home = write(tmp_path, {"shop.py": f"{FUNCTION}def g(x):\n    return x\nclass Bought:\n    pass\n"})
    at_home(home)
    shop = importlib.import_module("shop")
    (home / "shop.py").write_text(FUNCTION.replace("x", "item"))
    backend = local_backend(tmp_path / "home")
    feed = Feed(backend, RunId("run-20260101-000000-00000000"), FleetId("fleet-x"), lambda _: None)
    key = feed.function(pack(shop.f))
    with pytest.raises(BadInput, match=r"shop\.g is not in .*shop\.py any more, .*: reload the module"):
        pack(shop.g)
    with pytest.raises(BadInput, match=r"shop\.Bought is not in "):
        feed.add(key, [shop.Bought()])
    feed.add(key, [shop.f])
    backend.close()


def bound_things() -> Iterator[Any]:
    """What only a process and its own children can use; what can be pickled, and is another's elsewhere, first."""
    with multiprocessing.Manager() as manager:
        yield from (manager.dict(), manager.Lock(), manager.Queue())
    memory = SharedMemory(create=True, size=8)
    ends = multiprocessing.Pipe()
    yield from (memory, *ends)
    memory.unlink()
    for each in (memory, *ends):
        each.close()
    yield from (multiprocessing.Lock(), multiprocessing.Queue(), multiprocessing.Value("i", 1), queue.Queue())
    yield ProcessPoolExecutor(1)


def test_what_is_bound_to_this_process_is_refused_with_what_to_do() -> None:
    """Locks, queues, pipes, shared memory, pools and managers' proxies: as items, and where functions hold them."""
    for thing in bound_things():
        kind = rf"only this process and its own children can use a [\w.]*{re.escape(type(thing).__qualname__)}: \w"
        with pytest.raises(NotPicklable, match=f"cannot be pickled: {kind}"):
            pack(lambda item, thing=thing: (item, thing))
        with pytest.raises(Stays, match=kind):
            FrameWriter().add({"deep": [thing]})
        with pytest.raises(NotPicklable, match=kind):
            pack(lambda item: item, initializer=print, initargs=(thing,))


def test_a_line_that_is_no_pattern_is_an_error_in_our_file_alone(
    tmp_path: Path, at_home: Callable[[Path], None]
) -> None:
    """Git passes over it."""
    found = travelling(at_home, tmp_path, {".gitignore": "!\n*.csv\n", "shop/a.csv": "", "shop/b.txt": ""})
    assert found == ["shop/b.txt"]
    with pytest.raises(BadInput, match=r"\.starburstignore, line 2: '!' is no pattern"):
        travelling(at_home, tmp_path, {".starburstignore": "*.csv\n!\n"})


def test_links_to_nothing_and_pipes_are_no_obstacle(tmp_path: Path, at_home: Callable[[Path], None]) -> None:
    """What is no file has no content to send."""
    write(tmp_path, {"shop/a.txt": ""})
    (tmp_path / "shop" / "gone.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "shop" / "pipe")
    assert travelling(at_home, tmp_path, {}) == ["shop/a.txt"]


def test_an_edit_that_leaves_size_and_time_as_they_were_is_seen(
    tmp_path: Path, at_home: Callable[[Path], None]
) -> None:
    """However soon after a pack, and however often."""
    at_home(write(tmp_path, {"shop/__init__.py": FUNCTION, "shop/data.txt": "0"}))
    shop, file = importlib.import_module("shop"), tmp_path / "shop" / "data.txt"
    digests = set()
    for number in range(10):
        file.write_text(str(number))
        os.utime(file, (1e9, 1e9))
        digests.add(pack(shop.f).digest)
    assert len(digests) == 10


# --- installed from a folder ------------------------------------------------------------------------------------------

EDITABLE = """
import json, site, sys
site.addsitedir(sys.argv[1])  # what starburst itself needs
sys.path.insert(0, sys.argv[2])
import {module}
from starburst_common.code.pack import pack_function
import zipfile, io
packed = pack_function({module}.f, style="one", retry_on=(Exception,))
print(json.dumps([zipfile.ZipFile(io.BytesIO(packed.bundle.archive)).namelist(), {finder} in repr(sys.meta_path)]))
"""


@pytest.mark.parametrize(
    ("backend", "module", "layout"),
    [
        *(("setuptools", "flat", "."), ("setuptools", "beneath", "src"), ("hatchling", "hatched", "src")),
        ("setuptools", "corp.part", "src"),  # a namespace's
    ],
)
def test_a_package_installed_editable_travels(tmp_path: Path, backend: str, module: str, layout: str) -> None:
    """By a line in a .pth file or by a finder, as installers do it: its files are here and change."""
    inside = module.replace(".", "/")
    project = write(
        tmp_path / "project",
        {
            "pyproject.toml": (
                f'[build-system]\nrequires = ["{backend}"]\n'
                f'build-backend = "{backend}.build{"" if backend == "hatchling" else "_meta"}"\n'
                f'[project]\nname = "{module}"\nversion = "1"\n'
                + (f'[tool.setuptools]\npackages = ["{module}"]\npackage-dir = {{"" = "src"}}\n' * ("." in module))
            ),
            f"{layout}/{inside}/__init__.py": FUNCTION,
            f"{layout}/{inside}/data.txt": "1",
        },
    )
    venv = tmp_path / "venv"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, venv], check=True, timeout=60)
    python = venv / "bin" / "python"
    subprocess.run([*uv, "pip", "install", "--python", python, "-e", project], check=True, timeout=120)
    finder = "'__editable__'" if module in ("flat", "corp.part") else "'[<'"
    here = [str(Path(pytest.__file__).parents[1]), str(Path(__file__).parents[1])]
    script = EDITABLE.format(module=module, finder=finder)
    done = subprocess.run(
        [python, "-P", "-c", script, *here], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    files, with_finder = json.loads(done.stdout)
    assert with_finder
    assert {f"{inside}/__init__.py", f"{inside}/data.txt"} == {name for name in files if "-info/" not in name}
    assert f"{module.replace('.', '_')}-1.dist-info/METADATA" in files
    assert not [name for name in files if "RECORD" in name or "direct_url" in name]


class Streams:
    """Yields where it is called."""

    def __call__(self, item: int) -> Any:
        yield item


def test_a_function_that_gives_a_generator_is_refused() -> None:
    """Before anything is launched, however it is wrapped: what it gives could not be sent back."""

    def yields(base: int, item: int = 0) -> Any:
        yield item

    async def streams(item: int) -> Any:
        yield item

    for function in (yields, partial(yields, 1), streams, Streams(), Streams().__call__):
        with pytest.raises(BadInput, match=r"gives a generator.*return a list"):
            pack(function)


def test_a_random_generator_that_is_closed_over_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """It is the same on every worker; deep in what is closed over too, and not where one is only named."""

    class Loaded(random.Random):
        """A kind of a kind."""

    dice, held = Loaded(1), {"a": [np.random.default_rng(1), np.random.RandomState(1)]}

    def rolls(item: int) -> Any:
        return dice.random(), held

    def names(item: int) -> Any:
        return random.Random(item).random() + np.random.Generator(np.random.PCG64(item)).random()

    seeds, bits = np.random.SeedSequence(1), np.random.PCG64(1)
    with caplog.at_level("WARNING", "starburst"):
        pack(names), pack(rolls), pack(rolls), pack(lambda item: seeds), pack(lambda item: bits)
    said, *bare = [record.getMessage() for record in caplog.records if "random generator" in record.getMessage()]
    assert ["(SeedSequence)" in bare[0], "(BitGenerator)" in bare[1]] == [True, True]
    assert "rolls closes over" in said and "(Generator, Random, RandomState)" in said and "item_seed()" in said
