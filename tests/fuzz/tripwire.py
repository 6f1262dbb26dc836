"""What tells when it is unpickled; harmless."""

from __future__ import annotations

sprung: list[str] = []


class Wire:
    """Unpickling it says so."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return spring, ("unpickled",)


def spring(how: str) -> str:
    """Called by whoever unpickles a wire."""
    sprung.append(how)
    return how
