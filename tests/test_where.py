"""What does not unpickle is named with the way to it, from the pickle alone."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from starburst_common.pickling.byvalue import dumps
from starburst_common.pickling.where import where_it_fails


class Odd:
    """Pickles, and does not unpickle."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


ODD = Odd()


def held(odd: Any) -> dict[str, Callable[..., Any]]:
    """Functions that hold it, by the way there."""
    one, two, plain = [1], {"x": 1, "deep": [3, odd], "y": 2}, 3

    class Bag:
        """Has it too."""

        inside = odd

    return {
        "in the variable 'odd' of held.<locals>.<lambda>": lambda: (one, odd, plain),
        "in the variable 'two' of held.<locals>.<lambda>, at 'deep'": lambda: (one, two),
        "in the variable 'Bag' of held.<locals>.<lambda>, at 'inside'": lambda: Bag,
        "in the global 'ODD' of held.<locals>.<lambda>": lambda: ODD,
        "in the defaults of held.<locals>.<lambda>": lambda given=odd: given,
        "in the default 'given' of held.<locals>.<lambda>": lambda *, given=odd: given,
    }


@pytest.mark.parametrize(("way", "function"), held(ODD).items())
def test_the_way_from_a_function_is_told(way: str, function: Callable[..., Any]) -> None:
    """Its global, variable or default, and the keys from there."""
    assert where_it_fails(dumps((function, (ValueError,), None))) == f"unpickling an int, {way}: "


@pytest.mark.parametrize(
    ("item", "way"),
    [
        ({"a": "b", "c": [1, {"deep": ODD}]}, ", at 'c', 'deep'"),
        ({"a": "b", "c": ("name", 5, ODD)}, ""),
        (["a", "b", ODD], ""),
    ],
)
def test_the_way_in_an_item_is_told(item: Any, way: str) -> None:
    """The keys, where there are some."""
    assert where_it_fails(pickle.dumps(item, 5)) == f"unpickling an int{way}: "


def test_what_unpickles_has_no_way_to_what_does_not() -> None:
    """Nor has what is no pickle at all."""
    assert where_it_fails(pickle.dumps({"a": 1})) == where_it_fails(b"none") == ""
