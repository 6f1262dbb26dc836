"""The driver dies between any two of its calls: another one finishes the run, or there was none yet."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import pytest

from starburst_common import InputLost, NotFound, RunState, attach
from starburst_common.prune import prune
from tests.faults.conftest import Bed

CRASHING = """
import os, sys, threading
from dataclasses import replace
from starburst_common import starburst_map
from tests.places import open_place

calls, lock, crash_at = [0], threading.Lock(), int(sys.argv[2])

class Crashing:
    '''A port that ends this process at its so-many-th call.'''
    def __init__(self, port):
        self.port = port
    def __getattr__(self, name):
        real = getattr(self.port, name)
        def call(*args, **kwargs):
            with lock:
                calls[0] += 1
                mine = calls[0]
            if mine == crash_at:
                os._exit(9)
            return real(*args, **kwargs)
        return call

backend = replace(open_place(sys.argv[1]), idle_s=1.0)
ports = {name: Crashing(getattr(backend, name)) for name in ("store", "queue", "compute")}
crashing = replace(backend, **ports)
values = starburst_map(lambda item: item * 2, range(40), workers=2, backend=crashing, progress=False)
assert values == [2 * item for item in range(40)]
print(calls[0])
"""


@pytest.mark.parametrize("crash_at", range(1, 45))
def test_a_crash_between_any_two_calls_loses_and_leaks_nothing(bed: Bed, crash_at: int) -> None:
    """Whatever the driver did last, an attached one answers every item, or says that the input was never whole.

    What is left of a driver nobody replaces is idle workers, which stop themselves, and records, which are pruned.
    """
    died = subprocess.run(
        [sys.executable, "-c", CRASHING, bed.text, str(crash_at)], capture_output=True, text=True, timeout=60
    )
    assert died.returncode == (9 if died.stdout == "" else 0), died.stderr
    backend = replace(bed.backend, idle_s=1.0)
    for name in backend.store.folders("runs/"):
        try:
            run = attach(name, backend=backend)
            assert run.results(timeout=60) == [2 * item for item in range(40)]
            assert run.wait().state is RunState.SUCCEEDED
        except (InputLost, NotFound):
            continue  # `starburst_map` had not even stored its input, or what was asked
    bed.until(lambda: not bed.workers(), within_s=15)
    prune(bed.backend, now=time.time() + 30 * 86400)
    assert bed.backend.store.folders("runs/") == []
