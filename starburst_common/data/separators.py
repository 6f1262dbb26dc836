"""A CSV's first line in; what separates its columns out. Pure."""

from __future__ import annotations

import re

from starburst_common.errors import BadInput

SAID = re.compile("sep=(.)")  #: a line before the first that Excel reads, and hides
_SEPARATORS = (",", ";", "\t")  #: Excel takes what its user's country has beside decimals
_QUOTED = re.compile('"[^"]*("|$)')


def separator(header: str, place: str) -> str:
    r"""What separates columns, by the first line of a table. Raises `BadInput`, with the place, where it may be either.

    >>> separator("a,b", "f"), separator('a;"b,c"', "f"), separator("a\tb", "f"), separator("a", "f")
    (',', ';', '\t', ',')
    """
    bare = _QUOTED.sub("", header)
    found = [each for each in _SEPARATORS if each in bare]
    if len(found) > 1:
        raise BadInput(
            f"{place}: columns are separated by {' or '.join(map(repr, found))}: put the names that hold "
            'the other one in quotes, as in "a, b";c'
        )
    return found[0] if found else ","
