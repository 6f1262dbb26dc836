"""What this process imports, wherever it has it from, a worker imports: the same modules under the same names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.test_code import write

#: What lies where, in a project that uses every way to be imported that there is.
PLACES = {
    "app/statistics.py": "def mean(values):\n    return 'mine'\n",
    "app/queue.py": "from _queue import Empty, SimpleQueue\nclass Queue:\n    own = True\n",
    "app/random.py": "from _random import Random\n\ndef random():\n    return 4\n",
    "app/colorsys.py": "def late():\n    return 'late'\n",
    "app/rich.py": "SHADOW = 1\n",
    "app/uses_std.py": (
        "import statistics, random, queue, json\n"
        "def f(x):\n    import colorsys\n"
        "    return statistics.mean([1]), random.random(), queue.Queue.own, colorsys.late(), json.dumps(x)\n"
    ),
    "app/shadows.py": "import rich\ndef f(x):\n    return rich.SHADOW\n",
    "own/own.egg-info/PKG-INFO": "Metadata-Version: 2.1\nName: own\nVersion: 2.5\n",
    "own/own.egg-info/entry_points.txt": "[own.plugins]\nfirst = own_plugin:load\n",
    "other/other.egg-info/PKG-INFO": "Metadata-Version: 2.1\nName: other\nVersion: 1\n",
    "other/other.egg-info/entry_points.txt": (
        "[console_scripts]\nx = never:x\n[own.plugins]\nsecond = other_plugin:load\n"
    ),
    "other/other_plugin.py": "def load():\n    return 'another'\n",
    "own/own_plugin.py": "def load():\n    return 'loaded'\n",
    "own/own.py": (
        "from importlib.metadata import entry_points, version\n__version__ = version('own')\n"
        "def f(x):\n    return __version__, sorted(each.load()() for each in entry_points(group='own.plugins'))\n"
    ),
    "venv/site-packages/rusty-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: rusty\nVersion: 1.5\n",
    "venv/site-packages/rusty-1.dist-info/RECORD": "rusty/__init__.py,,\nrusty/_compiled.py,sha256=x,9\n",
    "venv/site-packages/rusty/__init__.py": (
        "from importlib.metadata import version\nfrom ._compiled import ANSWER\n"
        "def f(x):\n    return ANSWER, version('rusty')\n"
    ),
    "venv/site-packages/rusty/_compiled.py": "ANSWER = 42\n",
    "a/src/corp/a/__init__.py": "def f(x):\n    from corp import b, c\n    return b.NAME, c.NAME\n",
    "b/src/corp/b.py": "NAME = 'b'\n",
    "b/src/corp/a/never.py": "raise RuntimeError\n",
    "c/src/corp/c.py": "NAME = 'c'\n",
    "c/src/corp/table.csv": "1",
    "extended/plug/__init__.py": (
        "from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n"
        "def f(x):\n    from plug.more import NAME\n    return NAME\n"
    ),
    "extended2/plug/more.py": "NAME = 'more'\n",
    "odd/lib/__init__.py": "from .inner import g\ndef f(x):\n    return g(), __name__\n",
    "odd/lib/inner.py": "def g():\n    return 'inner'\n",
    "odd/built/core.py": "NAME = 'built'\n",
    "odd/single-file.py": "def f(x):\n    return __name__\n",
    "flows/mypkg/flows.py": (
        "from .helpers import helper\n"
        "def rel(x):\n    from .lazy import late\n    from .deep import name\n    return helper(x), late(), name()\n"
    ),
    "flows/mypkg/helpers.py": "from .below import BELOW\ndef helper(x):\n    return x, BELOW\n",
    "flows/mypkg/below.py": "BELOW = 'below'\n",
    "flows/mypkg/lazy.py": "def late():\n    return 'late'\n",
    "flows/mypkg/deep/__init__.py": "from .. import helpers\nfrom .data import name\n",
    "flows/mypkg/deep/data.py": (
        "from pathlib import Path\ndef name():\n    return (Path(__file__).parent / 'n').read_text()\n"
    ),
    "flows/mypkg/deep/n": "deep",
    "dags/daily.py": "from dag_helpers import NAME\ndef f(x):\n    return NAME, __name__\n",
    "dags/dag_helpers.py": "NAME = 'helpers'\n",
    "plugged/by_text.py": "def f():\n    return 'text'\n",
    "plugged/by_call.py": "def f():\n    return 'call'\n",
    "plugged/configured/models.py": "class Net:\n    pass\n",
    "plugged/configured/__init__.py": "",
    "plugged/größe.py": "class Maß:\n    def __repr__(self):\n        return 'Maß'\n",
}

#: Packs each function beside its name.
HOME = """
import importlib, importlib.machinery, importlib.util, json, os, sys
from pathlib import Path

root, out = Path(sys.argv[1]), Path(sys.argv[2])
sys.path[:0] = [str(root / each) for each in
                ("app", "own", "other", "a/src", "b/src", "c/src", "extended", "extended2", "dags", "plugged",
                 "venv/site-packages")]
import uses_std
from starburst_common.code.pack import pack_function

def loaded(name, file, folders=None):
    spec = importlib.util.spec_from_file_location(name, str(root / file), submodule_search_locations=folders)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

cases = {"standard library": uses_std.f}
for name in ("shadows", "own", "rusty", "corp.a", "plug"):
    cases[name] = importlib.import_module(name).f
lib = loaded("renamed", "odd/lib/__init__.py", [str(root / "odd/lib")])
loaded("renamed.core", "odd/built/core.py")
cases["renamed"] = lib.f
cases["a build elsewhere"] = lambda x: importlib.import_module("renamed.core").NAME
cases["single"] = loaded("single", "odd/single-file.py").f
folder = str(root / "flows/mypkg")
cases["flow"] = loaded("flows", "flows/mypkg/flows.py", [folder, str(root)]).rel
cases["dag"] = loaded("unusual_prefix_0123_daily", "dags/daily.py").f

def by_text(x):
    return importlib.import_module("by_text").f(), __import__("by_call").f()
cases["import_module"] = by_text
config = "configured.models.Net"
def by_config(x):
    module, _, name = config.rpartition(".")
    return getattr(importlib.import_module(module), name).__name__
cases["a dotted text"] = by_config
import größe
thing = größe.Maß()
cases["not ASCII"] = lambda x: thing

for number, (name, function) in enumerate(cases.items()):
    packed = pack_function(function, style="one", retry_on=(Exception,))
    (out / f"{number}.function").write_bytes(packed.blob)
    (out / f"{number}.zip").write_bytes(packed.bundle.archive)
print(json.dumps([list(cases), [repr(function(0)) for function in cases.values()]]))
"""

#: Calls each in a process of its own, as it would be in a slot.
ELSEWHERE = """
import os, queue, random, sys, zipfile
from pathlib import Path
from starburst_worker.loaded import load_function

out, began_with = Path(sys.argv[1]), dict(sys.modules)
for number in range(int(sys.argv[2])):
    if os.fork() == 0:
        zipfile.ZipFile(out / f"{number}.zip").extractall(out / f"bundle-{number}")
        blob, bundle = (out / f"{number}.function").read_bytes(), str(out / f"bundle-{number}")
        print(repr(load_function(blob, bundle, began_with).function(0)), flush=True)
        os._exit(0)
    os.wait()
"""


def python(program: str, *arguments: object, cwd: Path, options: tuple[str, ...] = ()) -> str:
    """What a program prints."""
    done = subprocess.run(
        [sys.executable, "-P", *options, "-c", program, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_can_be_imported_here_can_be_imported_there(tmp_path: Path) -> None:
    """Named like the standard library's or a package's, over several folders, under other names, loaded from a path."""
    root, out = write(tmp_path / "project", PLACES), tmp_path / "out"
    origin = {"url": (root / "rusty").as_uri(), "dir_info": {"editable": True}}
    (root / "venv/site-packages/rusty-1.dist-info/direct_url.json").write_text(json.dumps(origin))
    out.mkdir()
    cases, here = json.loads(python(HOME, root, out, cwd=tmp_path))
    there = python(ELSEWHERE, out, len(cases), cwd=out).splitlines()
    assert dict(zip(cases, there, strict=False)) == dict(zip(cases, here, strict=True))


def test_what_a_run_imports_at_its_end_may_be_called_like_a_users_module(tmp_path: Path) -> None:
    """A map whose items are answered gives them, and a plan its price, beside modules of these names."""
    script = (
        "from starburst_common import Cluster, starburst_map\n"
        "print(starburst_map(abs, [-1], workers=1, progress=False))\n"
        "assert Cluster(workers=1).plan(abs, range(9), seconds=1)\n"
    )
    names = ("csv", "difflib", "shlex", "statistics", "planned", "report")
    folder = write(tmp_path, {"script.py": script, **{f"{name}.py": "MINE = 1\n" for name in names}})
    done = subprocess.run(
        [sys.executable, folder / "script.py"],
        env={**os.environ, "STARBURST_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "[1]\n"), done.stderr
