"""What can go wrong, as types: each says what, by how much, and what to do. All survive pickling."""

from __future__ import annotations

import _pickle


class StarburstError(Exception):
    """Anything starburst raises on its own behalf."""


class BadInput(StarburstError, ValueError):
    """An argument, option or item is wrong. Raised before anything is launched or paid for."""


class NotPicklable(BadInput, _pickle.PicklingError):
    """The function, or an item, cannot be pickled: it holds a connection, a file or a lock."""


class UnknownOption(BadInput, TypeError):
    """There is no option of this name."""


class NotFound(StarburstError, LookupError):
    """No such run, item or object."""

    @classmethod
    def written_anew(cls, uri: str) -> NotFound:
        """What lies there is not what it was when a run found it."""
        return cls(f"{uri} was written anew since the run began: start another run for what it is now")


class Exists(StarburstError):
    """The key is taken: somebody else wrote it first."""


class Refused(StarburstError):
    """A payload or message that we did not sign. Nothing in it was unpickled."""


class Unsigned(Refused):
    """None of the keys that are known here has signed it: it is nobody's, or of a key that was revoked."""


class AnswersLost(Refused):
    """Answers were stored, are damaged since, and the run is over: start a new one for the items that it names."""


class UnknownVersion(Refused):
    """A payload written by another wire version: use the same starburst release on both ends."""


class Unavailable(StarburstError, OSError):
    """A service cannot be reached, is throttled, or our credentials have expired: the same call may succeed later."""


class NoSpace(Unavailable):
    """A disk is full: whoever can wait does so, until there is room."""

    @classmethod
    def on(cls, home: str) -> NoSpace:
        """In a home of this machine's backend; as it is said of what a run waits for, too."""
        return cls(f"space in {home}: make room there, or set STARBURST_HOME to a folder on another disk")


class Denied(StarburstError):
    """We are not allowed to, or have no credentials: somebody must grant it first."""


class CannotLaunch(StarburstError):
    """No worker can start, however often it is tried: an image, a role or a network that is wrong."""


class RunStopped(StarburstError):
    """The run was ended: more failures than tolerated, the first items all failing alike, or no way to go on."""


class RunCancelled(StarburstError):
    """The run was cancelled; what was answered before is still there."""


class InputLost(RunStopped):
    """The process that stored the input died, or stopped, before all was stored: later items were never submitted."""


class ItemFailed(StarburstError):
    """An item has a failure in place of a value, for a reason other than an exception of the user's function."""

    index: int | None = None  #: which item; the text begins with it


class WorkerLost(ItemFailed):
    """The process that ran the item died (exit, signal, Spot) more often than is forgiven."""


class OutOfMemory(ItemFailed, MemoryError):
    """The item needed more memory than its worker had: give it more `memory`, or fewer `slots`."""


class ItemTimeout(ItemFailed, TimeoutError):
    """The item ran longer than `timeout` and its slot was killed."""


class EnvironmentMismatch(ItemFailed, ImportError):
    """The worker cannot run the function: another Python minor, wire version, or a module it lacks."""


class UnpicklableResult(ItemFailed, TypeError):
    """The function returned, or raised, something that cannot be sent back."""


class ItemCancelled(ItemFailed):
    """The item had no turn: its run was cancelled or stopped. In place of a value where exceptions are asked for."""


class CannotBuild(StarburstError):
    """An image cannot be built: a package that cannot be had, a step that fails, a registry that refuses."""
