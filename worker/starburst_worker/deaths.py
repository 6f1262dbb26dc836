"""How a slot's process ended, and where its board says that it was, in; why items fail for it, out. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from starburst_common.model import FailureKind
from starburst_common.runs.failures import Reason
from starburst_worker.board import SETTING_UP

CRASHES = 2  #: an item that ends its slot so often is answered with a failure; of a function, all items
CUT = Reason.ours(FailureKind.LOST, "the file it shares with its worker was cut")


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Of a slot's process; the board's numbers as they were."""

    code: int  #: its exit code; below 0 the signal
    ended: Reason | None = None  #: why we ended it, if we did
    out_of_memory: bool = False  #: the kernel has killed somebody for memory since it got its chunk
    ready: bool = True  #: it had begun to serve
    current: int = -1  #: the item that was run, or the first of those that one call was given
    last: int = -1  #: the last of these; -1 where there was one
    reached: int = -1
    steps: int = 0

    @property
    def timed_out(self) -> bool:
        """We ended it, as an item or what is called before took too long."""
        return self.ended is not None and self.ended.kind is FailureKind.TIMEOUT

    @property
    def before_items(self) -> bool:
        """What the function imports or holds has ended it, so none of its items can run."""
        return self.current < 0 and self.reached < 0 and self.ended is not CUT

    @property
    def why(self) -> Reason:
        """What its item, or each of its items, fails with.

        >>> def told(code: int = 1, **known) -> str:
        ...     kind, _, message, _ = Death(code=code, **({"current": 7, "reached": 7} | known)).why
        ...     return f"{kind}: {message}"
        >>> told()
        'lost: its process exited with code 1, 2 times'
        >>> told(-11)
        'lost: its process was killed by signal 11, 2 times'
        >>> told(-9, out_of_memory=True)
        'oom: killed by the kernel for memory: give more memory, or fewer slots'
        >>> told(-9, ended=Reason.ours(FailureKind.TIMEOUT, "ran longer than 3 s and was stopped"))
        'timeout: ran longer than 3 s and was stopped'
        >>> told(-9, ended=CUT, steps=1)
        'lost: the file it shares with its worker was cut, 2 times'
        >>> told(steps=1)
        'lost: its process exited with code 1 while the item was unpickled, 2 times'
        >>> told(current=-1, reached=-1)
        'import: its process exited with code 1 while the function was loaded, with what it imports, 2 times'
        >>> told(current=SETTING_UP, reached=-1)
        'import: its process exited with code 1 while the initializer ran, with what it imports, 2 times'
        >>> told(ready=False)
        "lost: the slot process cannot start: exit code 1; the worker's log says why"
        """
        if not self.ready:
            how = f"the slot process cannot start: exit code {self.code}; the worker's log says why"
            return Reason.ours(FailureKind.LOST, how)
        if self.ended is not None and self.ended.kind is not FailureKind.LOST:
            return self.ended
        if self.code == -9 and self.out_of_memory:
            return Reason.ours(FailureKind.OOM, "killed by the kernel for memory: give more memory, or fewer slots")
        if self.ended is not None:
            return Reason.ours(FailureKind.LOST, f"{self.ended.message}, {CRASHES} times")
        how = f"was killed by signal {-self.code}" if self.code < 0 else f"exited with code {self.code}"
        kind = FailureKind.IMPORT if self.before_items else FailureKind.LOST
        return Reason.ours(kind, f"its process {how}{self._during}, {CRASHES} times")

    @property
    def _during(self) -> str:
        """What it did, where that was not to run an item."""
        if self.before_items:
            what = "the initializer ran" if self.current == SETTING_UP else "the function was loaded"
            return f" while {what}, with what it imports"
        return " while the item was unpickled" if self.steps % 2 else ""
