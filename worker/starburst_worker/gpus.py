"""A worker's GPUs, and its slots, in; which of them a slot sees out: its own, as far as there are enough."""

from __future__ import annotations

import os
import re
from pathlib import Path

GPUS = "STARBURST_GPUS"  #: in the environment of slots: how many GPUs their worker has, and how many slots


def see_own(board: Path) -> None:
    """In a slot, by the name of its board; before anything of the user's looks for GPUs."""
    told, number = os.environ.pop(GPUS, ""), re.match(r"slot-(\d+)-", board.name)
    if told and number:
        gpus, slots = map(int, told.split("/"))
        os.environ["CUDA_VISIBLE_DEVICES"] = visible(int(number[1]), slots=slots, gpus=gpus)


def visible(slot: int, *, slots: int, gpus: int) -> str:
    """What CUDA_VISIBLE_DEVICES is in a slot. Source: CUDA C++ Programming Guide, "CUDA Environment Variables".

    >>> [visible(slot, slots=2, gpus=2) for slot in range(2)], visible(0, slots=1, gpus=4)
    (['0', '1'], '0,1,2,3')
    >>> [visible(slot, slots=4, gpus=2) for slot in range(4)]
    ['0', '1', '0', '1']
    """
    each = max(gpus // slots, 1)
    first = slot * each % gpus
    return ",".join(str(number) for number in range(first, min(first + each, gpus)))
