"""Exceptions of a project's own, in a module that imports nothing: workers import it to raise them."""

from __future__ import annotations


class Refused(Exception):
    """Carries what the flow's author asks it for."""

    def __init__(self, order: int, reason: str = "") -> None:
        super().__init__(order, reason)
        self.order = order


class Dissent(Exception):
    """With an initializer of its own, which pickle cannot call."""

    def __init__(self, who: str, *, why: str) -> None:
        super().__init__(f"{who}: {why}")
