"""What makes code and items the same, or not, from one try to the next."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from airflow_provider_starburst.identity import code_print, input_print, name_of

SOURCE = """
{comment}
import helper
OFFSET = {offset}
KNOWN = {{"a", "b", "c"}}
def inner(x):
    return x {operator} OFFSET
def work(x, k=3):
    {comment}
    return inner(x) in {{"x", "y", 3}} or helper.twice(x) or [inner(each) for each in KNOWN]
"""


def seen(folder: Path, *, helper: str = "x * 2", **changed: Any) -> str:
    """What a function is in a process of its own, whose hashes are seeded anew."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_text(SOURCE.format(**{"comment": "", "offset": 1, "operator": "+", **changed}))
    (folder / "helper.py").write_text(f"def twice(x):\n    return {helper}\n")
    script = "import mine; from airflow_provider_starburst.identity import code_print; print(code_print(mine.work))"
    env = {"PYTHONPATH": f"{folder}:{':'.join(filter(None, sys.path))}"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=60, check=True
    )
    return done.stdout.strip()


def test_code_is_the_same_wherever_it_lies_and_whatever_is_said_of_it(tmp_path: Path) -> None:
    """A versioned bundle has another path for each run; comments and hash seeds do not matter. What it does, does."""
    first = seen(tmp_path / "a")
    assert seen(tmp_path / "b" / "c", comment="# better") == first
    assert len({first, seen(tmp_path / "d", offset=2), seen(tmp_path / "e", operator="-")}) == 3
    assert seen(tmp_path / "f", helper="x * 3") != first, "a module of the user's own counts too"


def test_what_is_bound_to_the_function_is_part_of_it() -> None:
    """Arguments, closures and partials."""

    def adder(by: int) -> Any:
        return lambda item: item + by

    assert code_print(adder(1)) == code_print(adder(1)) != code_print(adder(2))
    assert code_print(partial(pow, 2)) != code_print(partial(pow, 3))
    assert code_print(pow, (2,), {}) != code_print(pow, (3,), {})


@dataclass
class Shop:
    """An item of the user's own."""

    name: str
    sizes: tuple[str, ...]


def test_items_are_the_same_if_they_are_equal() -> None:
    """Also where parts of one are one object, and of the other two; the order counts."""
    text = "".join(["ab", "c"])
    assert input_print([Shop("abc", ("abc", "abc"))]) == input_print([Shop(text, ("".join(["a", "bc"]), text))])
    assert input_print([Shop("a", ())]) != input_print([Shop("b", ())])
    assert input_print([{1, 2}, (1, None)]) != input_print([(1, None), {1, 2}])
    assert input_print([1]) != input_print([True]) and input_print(["1"]) != input_print([1])
    many = [{"id": number, "name": f"shop {number}"} for number in range(2500)]
    assert input_print(many) == input_print([dict(reversed(each.items())) for each in many])
    looped: list[Any] = [1]
    looped.append(looped)
    assert input_print([looped]) == input_print([looped])


def test_a_task_instance_has_a_name_of_its_own() -> None:
    """Parts that run together do not meet."""
    parts = [("", "d", "r", "t", -1), ("n", "d", "r", "t", -1), ("", "dr", "", "t", -1), ("", "d", "r", "t", 0)]
    assert len({name_of(*each) for each in parts}) == 4
