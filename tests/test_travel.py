"""Functions and the user's own modules travel to workers that have never seen them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest


def run_in(project: Path, script: str, *, stdin: bool = False) -> str:
    """A script in a project folder, as a user runs it; what it prints."""
    env = {**os.environ, "STARBURST_HOME": str(project.parent / "home")}
    (project / "main.py").write_text(dedent(script))
    command = [sys.executable, "-"] if stdin else [sys.executable, "main.py"]
    done = subprocess.run(
        command,
        cwd=project,
        env=env,
        input=dedent(script) if stdin else None,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a package (relative imports, data), a sibling module, and one imported only when called."""
    folder = tmp_path / "project"
    (folder / "mylib" / "deep").mkdir(parents=True)
    (folder / "mylib" / "__init__.py").write_text("from .core import f, Point\n")
    (folder / "mylib" / "core.py").write_text(
        "from dataclasses import dataclass\nfrom pathlib import Path\nfrom .deep.more import add\nimport sibling\n"
        "@dataclass\nclass Point:\n    x: int\n"
        "def f(x):\n    scale = int((Path(__file__).parent / 'scale.txt').read_text())\n"
        "    return add(sibling.double(x), scale)\n"
    )
    (folder / "mylib" / "scale.txt").write_text("100")
    (folder / "mylib" / "deep" / "__init__.py").write_text("")
    (folder / "mylib" / "deep" / "more.py").write_text("def add(a, b):\n    return a + b\n")
    (folder / "sibling.py").write_text("def double(x):\n    import lazily\n    return lazily.twice(x)\n")
    (folder / "lazily.py").write_text("def twice(x):\n    return 2 * x\n")
    return folder


def test_a_function_of_a_local_package(project: Path) -> None:
    """`from mylib import f; starburst_map(f, xs)` works from the project's folder, with its imports and data files."""
    out = run_in(
        project,
        """
        from mylib import f
        from starburst_common import starburst_map
        if __name__ == "__main__":
            print(starburst_map(f, range(4), workers=1, progress=False))
        """,
    )
    assert out.strip() == "[100, 102, 104, 106]"


def test_functions_of_the_script_itself(project: Path) -> None:
    """From `__main__`: a function with globals, a lambda, a closure, a class of its own, and no `if __name__` guard."""
    out = run_in(
        project,
        """
        from dataclasses import dataclass
        from starburst_common import Cluster
        import sibling
        OFFSET = 1000

        @dataclass
        class Pair:
            a: int
            b: int

        def with_globals(x):
            return sibling.double(x) + OFFSET

        def closure(k):
            return lambda x: x * k

        def swap(pair):
            return Pair(pair.b, pair.a)

        with Cluster(workers=1, progress=False) as cluster:
            print(cluster.map(with_globals, range(3)), cluster.map(closure(7), range(3)))
            swapped = cluster.map(swap, [Pair(1, 2)])
            print(swapped, isinstance(swapped[0], Pair))
        """,
    )
    assert out.splitlines() == ["[1000, 1002, 1004] [0, 7, 14]", "[Pair(a=2, b=1)] True"]


def test_code_without_a_file(project: Path) -> None:
    """As in a notebook or a REPL: the source is nowhere, and items are of a local module's class."""
    out = run_in(
        project,
        """
        from mylib import Point
        from starburst_common import starburst_map
        print(starburst_map(lambda p: p.x + 1, [Point(1), Point(2)], workers=1, progress=False))
        """,
        stdin=True,
    )
    assert out.strip() == "[2, 3]"


def test_edited_code_is_what_runs_next(project: Path) -> None:
    """Between two maps of one warm cluster a module is edited and reloaded: workers run the new version."""
    out = run_in(
        project,
        """
        import importlib, pathlib, sibling, lazily
        from starburst_common import Cluster
        with Cluster(workers=1, progress=False) as cluster:
            print(cluster.map(sibling.double, [1]))
            pathlib.Path("lazily.py").write_text("def twice(x):\\n    return 20 * x\\n")
            print(cluster.map(sibling.double, [1]))
        """,
    )
    assert out.splitlines() == ["[2]", "[20]"]


def test_a_bundle_is_stored_once(project: Path) -> None:
    """Each run has its code once, whatever its functions; the key is the content, so it is the same in both."""
    script = """
        from mylib import f
        from starburst_common import starburst_map
        print(sum(starburst_map(f, range(4), workers=1, progress=False)))
        """
    run_in(project, script)
    run_in(project, script)
    stored = list((project.parent / "home" / "store" / "runs").glob("*/code/*"))
    assert len(stored) == len({bundle.parent for bundle in stored}) == 2
    assert len({bundle.name for bundle in stored}) == 1


def test_the_modules_of_items_travel_whichever_item_brings_them(project: Path) -> None:
    """A later item's class, one in a container or a keyword, a function that imports; in maps, streams and calls."""
    for name in "abcdefgh":
        (project / f"m{name}.py").write_text(f"class Thing:\n    def name(self):\n        return {name!r}\n")
    (project / "statistics.py").write_text("class Thing:\n    def name(self):\n        return 'mine'\n")
    out = run_in(
        project,
        """
        import ma, mb, mc, md, me, mf, mg, statistics
        from starburst_common import Cluster

        def name(thing):
            return thing.name() if thing else None

        def late():
            import mh
            return mh.Thing().name()

        def stream():
            yield from (0 for _ in range(5_000))
            yield {"deep": [(1, me.Thing())]}

        with Cluster(workers=1, progress=False) as cluster:
            print(cluster.map(name, [None, ma.Thing(), mb.Thing(), None, statistics.Thing()]))
            print(sum(map(bool, cluster.map(lambda item: item and item["deep"][0][1].name(), stream()))))
            print([cluster.submit(name, thing).result() for thing in (mc.Thing(), 0, md.Thing(), statistics.Thing())])
            print(cluster.submit(lambda *, thing: thing[0].name(), thing=[mf.Thing()]).result())
            print(cluster.submit(lambda *things: [each.name() for each in things], mc.Thing(), mg.Thing()).result())
            print(cluster.map(lambda call: call and call(), [None, late]))
        """,
    )
    assert out.splitlines() == [
        "[None, 'a', 'b', None, 'mine']",
        "1",
        "['c', None, 'd', 'mine']",
        "f",
        "['c', 'g']",
        "[None, 'h']",
    ]


def test_whatever_a_script_defines_is_there_what_it_is_here(tmp_path: Path) -> None:
    """Classes, slots, enums, sentinels, caches, generics and what else goes by value: as function, item and result."""
    env = {**os.environ, "STARBURST_HOME": str(tmp_path / "home")}
    script = Path(__file__).parent / "kinds.py"
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_what_is_one_of_its_kind_in_a_module_is_that_one_there(project: Path) -> None:
    """A sentinel, and what cannot be pickled at all: a worker takes its own; what has a state goes by value."""
    (project / "sibling.py").write_text(
        "import threading\nfrom types import SimpleNamespace\nNOTHING = object()\nlock = threading.Lock()\n"
        "settings = SimpleNamespace(scale=1)\ndef given(x=NOTHING):\n    return x is not NOTHING\n"
    )
    out = run_in(
        project,
        """
        import sibling
        from secrets import randbelow
        from sibling import NOTHING, given, lock, settings
        from starburst_common import BadInput, Cluster

        def asked(x):
            with lock:
                return lock is sibling.lock, given(NOTHING), x, settings.scale, randbelow(1)

        class Gone:
            def __reduce__(self):
                return "NOWHERE"

        settings.scale = 7
        gone, main = Gone(), __import__("__main__")
        with Cluster(workers=1, backend="local", progress=False) as cluster:
            print(cluster.map(asked, [1]))
            for function in (lambda x: gone, lambda x: main):
                try:
                    cluster.map(function, [1])
                except BadInput as error:
                    print(error)
        """,
    )
    first, gone, main = out.splitlines()
    assert first == "[(True, False, 1, 7, 0)]"
    assert "'NOWHERE' of __main__ is sent as a name, which workers do not have" in gone
    assert "the module '__main__' itself" in main


def test_what_does_not_unpickle_there_is_named_with_the_way_to_it(project: Path) -> None:
    """It pickles, so only a worker can see it: by the variable of a function, or the keys in an item."""
    out = run_in(
        project,
        """
        from starburst_common import Cluster

        class Odd:
            def __reduce__(self):
                return int, ("no number",)

        def named(template):
            return lambda item: (item, template)

        with Cluster(workers=1, backend="local", progress=False) as cluster:
            for function, item in ((named([1, Odd()]), 1), (id, {"a": [1, {"deep": Odd()}]})):
                try:
                    cluster.map(function, [item])
                except Exception as error:
                    print(error, getattr(error, "__notes__", []))
        """,
    )
    function, item = out.splitlines()
    assert "unpickling an int, in the variable 'template' of named.<locals>.<lambda>: invalid literal" in function
    assert "unpickling an int, at 'a', 'deep': so the item cannot be had: give plain data" in item


MODELS = """
import ctypes
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, declarative_base, mapped_column, relationship
from starburst_common import Cluster
import sibling

class Base(DeclarativeBase):
    pass

class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    addresses: Mapped[list["Address"]] = relationship(back_populates="user")

class Address(Base):
    __tablename__ = "addresses"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    user: Mapped["User"] = relationship(back_populates="addresses")

Old = declarative_base()

class Note(Old):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)

class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int)]

def stored(number):
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(User(id=number, addresses=[Address(id=sibling.double(number))]))
        session.commit()
        return [address.id for address in session.scalars(select(User)).one().addresses]

def beside(user):
    return user.addresses[0], Point(user.id), Old
"""


def test_classes_that_cannot_go_by_value_are_had_by_running_the_script(project: Path) -> None:
    """Such as models, which are registered as they are made, and what is made in C: in functions, items, values."""
    out = run_in(
        project,
        MODELS
        + """
if __name__ == "__main__":
    with Cluster(workers=1, backend="local", progress=False) as cluster:
        print(cluster.map(stored, [1, 2]))
        ((address, point, old),) = cluster.map(beside, [User(id=3, addresses=[Address(id=4)])])
        print(type(address) is Address, type(address.user) is User, address.id, address.user.id)
        print(type(point) is Point, point.x, old is Old, cluster.map(lambda point: point.x, [Point(5)]))
""",
    )
    assert out.splitlines() == ["[[2], [4]]", "True True 4 3", "True 3 True [5]"]


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("call(stored)", "the class \\w+ .* has no `if __name__ == .__main__.:` around what is to be run here alone"),
        (
            "if __name__ == '__main__':\n    class Late(Base):\n        __abstract__ = True\n"
            "    call(lambda x: (Late, User))",
            "the class Late .* does not make Late wherever it is run",
        ),
        ("-", "the class \\w+ .* it lies in no file"),
    ],
)
def test_a_script_that_cannot_be_run_for_its_classes_is_told_so(project: Path, rest: str, why: str) -> None:
    """Before anything is launched, with the way out."""
    call = """
def call(function):
    try:
        Cluster(workers=1, backend="local", progress=False).map(function, [1])
    except Exception as error:
        print(type(error).__name__, error)

"""
    stdin = rest == "-"
    rest = "if __name__ == '__main__':\n    call(stored)" if stdin else rest
    out = run_in(project, MODELS + call + rest, stdin=stdin)
    assert re.match(rf"NotPicklable .*{why}: put it into a module beside the script, which workers import", out), out


def test_a_spawned_childs_functions_travel(project: Path) -> None:
    """Its script is called `__mp_main__` there; and what a fork-free pool of the library runs is no other case."""
    out = run_in(
        project,
        """
        import multiprocessing
        from starburst_common import starburst_map

        class Pair(tuple):
            pass

        def swap(pair):
            return Pair(pair[::-1])

        def child(queue):
            got = starburst_map(swap, [Pair("ab")], workers=1, backend="local", progress=False)
            queue.put((got, type(got[0]) is Pair))

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            queue = context.SimpleQueue()
            process = context.Process(target=child, args=(queue,))
            process.start()
            print(queue.get())
            process.join()
        """,
    )
    assert out.strip() == "([('b', 'a')], True)"


def test_calls_run_in_the_state_at_their_submission(project: Path) -> None:
    """What a function closes over, its defaults, its object's attributes, globals and classes; stored once a state."""
    out = run_in(
        project,
        """
        from functools import partial
        from typing import get_type_hints
        import numpy as np
        from starburst_common import StarburstExecutor

        FACTOR, FACTORS = 1, [1]

        class Scale:
            shared = 1
            def __init__(self):
                self.by = 1
            def __call__(self, x):
                return self.by * x
            def times(self, x):
                return self.by * x
            def of_class(self, x):
                return Scale.shared * x

        def by_default(x, factors=[1]):
            return factors[0] * x

        def by_global(x):
            return FACTOR * x

        class Named:
            shared = 1

        def by_annotation(x: "Named"):
            return get_type_hints(by_annotation)["x"].shared * x

        def by_called(x):
            return FACTORS[0] * x

        n, deep, array, scale = [1], {"a": ({"b": [1]},)}, np.ones(1000), Scale()
        functions = {
            "closure": lambda x: n[0] * x,
            "deep": lambda x: deep["a"][0]["b"][0] * x,
            "array": lambda x: int(array[-1]) * x,
            "object": scale,
            "method": scale.times,
            "class": scale.of_class,
            "default": by_default,
            "global": by_global,
            "annotation": by_annotation,
            "called": lambda x: by_called(x),
            "partial": partial(lambda by, x: by[0] * x, n),
        }

        def submitted(executor):
            got = {name: executor.submit(function, 10) for name, function in functions.items()}
            mapped = [*executor.map(functions["closure"], [10, 20])], [*executor.map(scale, [10, 20], chunksize=2)]
            return got, mapped

        with StarburstExecutor(1, backend="local") as executor:
            executor.submit(abs, 1).result()
            futures = []
            for factor in (1, 7, 7):
                FACTOR = n[0] = FACTORS[0] = scale.by = Scale.shared = Named.shared = factor
                deep["a"][0]["b"][0] = array[-1] = by_default.__defaults__[0][0] = factor
                futures.append(submitted(executor))
            for got, mapped in futures:
                print({future.result() for future in got.values()}, mapped)
            print(executor.run_id)
        """,
    )
    *said, run = out.splitlines()
    assert said == ["{10} ([10, 20], [10, 20])"] + 2 * ["{70} ([70, 140], [70, 140])"]
    stored = list((project.parent / "home" / "store" / "runs" / run / "functions").iterdir())
    assert len(stored) == 1 + 2 * (11 + 1)
