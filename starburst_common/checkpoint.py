"""What an item has done so far, in; kept outside its worker, for whoever goes on with it when that is taken away.

A function that runs for long calls `load` first, and `save` now and then, or when `leaving` says that its worker is
about to go, as one on Spot has two minutes to do:

    from starburst_common import checkpoint

    def train(case):
        model = checkpoint.load() or Model(case)
        while not model.good_enough():
            model.step()
            if checkpoint.leaving():
                checkpoint.save(model)
        return model.score()
"""

from __future__ import annotations

import pickle
from typing import Any

from starburst_common.pickling.within import around

__all__ = ["leaving", "load", "save"]


def load(default: Any = None) -> Any:
    """What was last saved of the item that is running, by whichever worker; else the default, as at home.

    Raises `Unavailable` where nobody knows.

    >>> load(0), leaving(), save(1)
    (0, False, None)
    """
    if around.checkpoints is None:
        return default
    kept = around.checkpoints.load()
    return default if kept is None else pickle.loads(kept)


def save(state: Any) -> None:
    """Keep this of the item that is running, in place of what was saved before; at home nothing is kept.

    It is stored when the call returns. Where the worker is leaving, it does not return: another worker goes on.
    Raises what pickling raises, and `Unavailable` where it could not be stored.
    """
    if around.checkpoints is not None:
        import cloudpickle

        around.checkpoints.save(cloudpickle.dumps(state, protocol=5))


def leaving() -> bool:
    """Whether the worker must go: its capacity is taken back, or somebody stops it. Cheap enough for a tight loop.

    An item that has called `load` or `save` then has a minute and a half to save; others are given up at once.
    """
    return around.checkpoints is not None and around.checkpoints.leaving()
