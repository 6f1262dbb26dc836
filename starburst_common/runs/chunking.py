"""How many items there are, slots and items of a call in; how many items a chunk starts with out. Pure."""

from __future__ import annotations

CHUNK_ITEMS = 20_000
_CHARGED_ITEMS = 50_000  #: where messages cost
_CHUNKS_A_SLOT = 3


def chunk_items(items: int, slots: int, batch: int = 1) -> int:
    """How many items a chunk starts with when their number is known: a few chunks a slot.

    Nobody knows yet how long an item takes. A worker whose chunk turns out long settles what it has and hands the rest
    back in pieces of the right length, so this number decides only the number of messages, not the balance.

    >>> chunk_items(10_000, 2), chunk_items(16, 2), chunk_items(1_000_000, 2), chunk_items(100, 200)
    (1667, 3, 20000, 1)

    Where a call is given several items, a chunk holds no part of a `batch`.

    >>> chunk_items(10_000, 2, 50), chunk_items(16, 2, 64)
    (1700, 64)
    """
    return _whole_batches(-(-items // (slots * _CHUNKS_A_SLOT)), batch)


def charged_chunk_items(fed: int, items: int, slots: int, batch: int = 1) -> int:
    """The same where messages cost: one for each slot, of which a worker soon hands back what turns out to be long.

    >>> charged_chunk_items(0, 10_000, 2), charged_chunk_items(0, 1_000_000, 2), charged_chunk_items(0, 16, 20)
    (5000, 50000, 1)
    >>> [charged_chunk_items(fed, 6, 4) for fed in (0, 2, 4, 5)], [charged_chunk_items(fed, 6, 2, 2) for fed in (0, 4)]
    ([2, 2, 1, 1], [4, 2])
    """
    each, more = divmod(-(-items // batch), slots)
    longer = fed < more * (each + 1) * batch
    return _whole_batches((each + longer) * batch, batch, _CHARGED_ITEMS)


def growing_chunk_items(fed: int, slots: int, batch: int = 1) -> int:
    """The same where the number is not known: single items first, then ever more.

    >>> [growing_chunk_items(fed, 2) for fed in (0, 7, 80, 8_000, 10_000_000)]
    [1, 1, 13, 1333, 20000]
    """
    return _whole_batches(fed // (slots * _CHUNKS_A_SLOT), batch)


def _whole_batches(items: int, batch: int, most: int = CHUNK_ITEMS) -> int:
    """So many items, one at least and not too many, up to a multiple of a batch."""
    return -(-max(1, min(items, most)) // batch) * batch
