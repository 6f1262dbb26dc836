"""What a function's items refer to, one after another, in; which of the user's modules travel with it so far, out."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Self

from starburst_common.code.bundle import Bundle
from starburst_common.code.differing import refuse_lacking
from starburst_common.code.files import File
from starburst_common.code.modules import bundled, loaded, own_modules
from starburst_common.code.pack import PackedFunction
from starburst_common.pickling.nowhere import SENT
from starburst_common.pickling.places import sent_by_value


@dataclass(slots=True)
class Needs:
    """A function as it is stored, and what is known of the user's modules that its items refer to."""

    key: str
    names: frozenset[str]  #: of the modules that it, or an item, names
    modules: frozenset[str]  #: those that travel
    edited: tuple[File, ...]  #: of those, since they were imported here
    grown: Bundle | None = None  #: with more modules than it is stored with
    _looked_up: set[str] = field(default_factory=set)
    _named: set[str] = field(default_factory=set)  # submodules too

    @classmethod
    def of(cls, key: str, packed: PackedFunction) -> Self:
        modules = frozenset(packed.bundle.modules if packed.bundle else ())
        return cls(key=key, names=packed.needs, modules=modules, edited=packed.edited)

    def meet(self, named: Set[bytes]) -> bool:
        """Look at the modules among names in a pickle; whether some are new that go by value, so it is made anew."""
        new = loaded(named) - self._named
        self._named |= new
        before = len(SENT)
        for name in new:
            sent_by_value(name)
        return len(SENT) > before

    def take(self, tops: Set[str], named: Set[bytes]) -> None:
        """See to it that these top-level modules travel, as far as they are the user's.

        Raises `BadInput` where they cannot, or lack what a pickle names.
        """
        if new := tops - self._looked_up:
            own = own_modules(self.names | new)
            if not own.keys() <= self.modules:
                self.grown, self.edited = bundled(own, named)
            self.names |= new & own.keys()
            self.modules = frozenset(own)
            self._looked_up |= new
        refuse_lacking(self.edited, named)
