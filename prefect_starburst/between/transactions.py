"""The values of the transactions round a call in, such transactions on the worker out, and what is set there home."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from prefect.transactions import Transaction, get_transaction

from prefect_starburst.internals import BaseTransaction, stored_values
from starburst_common.spi import dumps

Values = dict[str, Any]


def around() -> list[BaseTransaction]:
    """The transactions that the caller is in, outermost first; within the engine the last is the task run's own."""
    found: dict[int, BaseTransaction] = {}
    transaction = get_transaction()
    while transaction is not None and id(transaction) not in found:
        found[id(transaction)] = transaction
        transaction = transaction.get_parent()
    return list(found.values())[::-1]


def packed(transactions: list[BaseTransaction]) -> bytes:
    """Their values as they travel; one that cannot be pickled stays at home, and is unknown on the worker."""
    levels = [{k: v for k, v in stored_values(each).items() if _travels(v)} for each in transactions]
    return dumps(levels) if len(levels) > 1 or any(levels) else b""


def set_again(transactions: list[BaseTransaction], changed: list[Values]) -> None:
    """Set at home what was set on the worker."""
    for transaction, values in zip(transactions, changed, strict=False):
        for name, value in values.items():
            transaction.set(name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """The transactions on the worker, outermost first, and what they were entered with."""

    transactions: list[Transaction]
    before: list[Values]

    def changed(self) -> list[Values]:
        """What the call has set, for each transaction."""
        nothing = object()
        return [
            {k: v for k, v in stored_values(each).items() if before.get(k, nothing) is not v}
            for each, before in zip(self.transactions, self.before, strict=True)
        ]

    def roll_back(self) -> None:
        """Roll back what the failed call has left to be committed within the task run's transaction."""
        self.transactions[-1].rollback()


@contextmanager
def entered(levels: bytes) -> Iterator[Entered]:
    """Enter transactions with such values; what the call leaves in them is committed at the end."""
    before: list[Values] = pickle.loads(levels) if levels else [{}]
    with ExitStack() as stack:
        transactions = [stack.enter_context(Transaction()) for _ in before]
        for transaction, values in zip(transactions, before, strict=True):
            stored_values(transaction).update(values)
        yield Entered(transactions=transactions, before=before)


def _travels(value: Any) -> bool:
    try:
        dumps(value)
    except Exception:
        return False
    return True
