"""A stored function's bytes in; what a slot calls for each item, and before the first, out."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from starburst_common.pickling.preferred import prefer
from starburst_common.pickling.raised import note
from starburst_common.pickling.setup import Setup
from starburst_common.pickling.sources import lay_out

if TYPE_CHECKING:
    from starburst_common.wire.items import Frames


class Loaded(NamedTuple):
    """A user's function, what to retry on, what to call before, and how many bytes all had."""

    function: Callable[..., Any]
    retry_on: tuple[type[BaseException], ...]
    setup: Setup | None
    nbytes: int


def load_function(
    blob: bytes, bundle: str | None, began_with: Mapping[str, ModuleType], buffers: Sequence[str] = ()
) -> Loaded:
    """The user's function, with the user's modules importable, also those named like ones that this process has."""
    from starburst_common.wire.functions import inflated

    if bundle is not None and bundle not in sys.path:
        prefer(bundle, began_with)
    pickled, sources = inflated(blob)
    lay_out(sources, bundle)
    identity = sys.modules.get("starburst_common.pickling.identity")  # else nothing has come by value yet
    with identity.renewing() if identity is not None else nullcontext():
        if buffers:
            from starburst_common.code.shared import loads_with

            (function, retry_on, setup), nbytes = loads_with(pickled, buffers)
        else:
            (function, retry_on, setup), nbytes = pickle.loads(pickled), len(pickled)
    return Loaded(function, retry_on, setup, nbytes)


def where_unfit(blob: bytes) -> str:
    """What of a function does not load, and where in it that is; empty where that cannot be told."""
    from starburst_common.pickling.where import where_it_fails
    from starburst_common.wire.functions import inflated

    return where_it_fails(inflated(blob)[0])


def tell_where(error: BaseException, items: Frames, index: int) -> None:
    """What keeps an item from loading is told where in it that is."""
    if not isinstance(error, Exception):
        return
    from starburst_common.pickling.where import where_it_fails

    with suppress(Exception):  # it may not be had at all
        if found := where_it_fails(*items.pickled(index)):
            note(error, f"{found}so the item cannot be had: give plain data, and make it in the function")


def caller(function: Callable[..., Any], style: str) -> Callable[[Any], Any]:
    """How an item becomes arguments: "one" argument, "star" for several, "call" for (args, kwargs)."""
    if style == "star":
        return lambda item: function(*item)
    if style == "call":
        return lambda item: function(*item[0], **item[1])
    return function
