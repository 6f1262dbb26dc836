"""The environment in, a running supervisor out; its exit code is the worker's."""

from __future__ import annotations

import gc
import logging
import os
import platform
import signal
import sys
from pathlib import Path
from typing import NoReturn

from starburst_common.backends import local_at
from starburst_common.errors import Denied, Refused, Unavailable, UnknownVersion
from starburst_common.ports import Backend
from starburst_common.wire.keys import KeyRing
from starburst_common.wire.seals import misfit_exit
from starburst_worker.duty import Duty
from starburst_worker.ending import EXIT_BROKEN, EXIT_DRAINED, broken_exit
from starburst_worker.gpus import GPUS
from starburst_worker.guard import Guards, adopt_orphans
from starburst_worker.private import keep_private, others_with, take
from starburst_worker.seat import Seat, SlotMain
from starburst_worker.supervisor import Supervisor

_log = logging.getLogger("starburst.worker")

_KEY = "STARBURST_KEY"  #: in the environment; slots, which run the user's code, do without


def _backend_of(duty: Duty) -> Backend:
    """With its fleet's key to sign by, whatever is the newest. Raises `Refused` where that is known no more."""
    opened = _opened(duty)
    if not duty.key or not isinstance(opened.key, KeyRing):
        return opened
    if (own := opened.key.named(duty.key)) is None:
        raise Refused(f"its fleet's key, {duty.key}, was revoked: start another run")
    return opened.keyed(own)


def _opened(duty: Duty) -> Backend:
    if duty.backend == "local":
        return local_at(Path(duty.home))
    from starburst_common.aws import aws_backend_at
    from starburst_common.aws.clients import Clients
    from starburst_common.aws.contact import unconnected

    assert duty.address is not None, "`Duty.read` sees to it"
    for process in others_with(_KEY):
        _log.warning(
            "functions can read the site's key in the environment of process %s: have the image's entry point `exec` "
            "the worker, so that nobody stands above it",
            process,
        )
    key = KeyRing.of(take(_KEY).encode())
    clients = Clients(duty.address.region, owner=duty.address.account)
    if (way := unconnected(clients, duty.pace.lease_s)) is not None:
        _log.error("stopped: %s takes no connection: the worker's network does not lead there", way.name)
        sys.exit(way.exit_code)
    return aws_backend_at(duty.address, key, clients)


def main() -> NoReturn:
    """Be the worker that the environment describes."""
    if os.getpid() == 1:  # a container's first process, which nothing ends that it does not hear
        signal.signal(signal.SIGTERM, lambda *_: os._exit(EXIT_DRAINED))
    if "STARBURST_WORKER" not in os.environ:
        sys.exit("STARBURST_WORKER is not set: this is a worker, which starburst starts with its orders in there")
    work(os.environ["STARBURST_WORKER"])


def work(orders: str, slot: SlotMain | None = None) -> NoReturn:
    """Be the worker of these orders; with what runs in a slot, its first ones are forked.

    That is while this process has no thread, no key and no log.
    """
    adopt_orphans()
    scratch = Path.cwd()
    duty = _read(orders)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # for the slots; what is set holds
        os.environ.setdefault(name, str(max(1, int(duty.cpu) // duty.slots)))
    if duty.gpus:
        os.environ[GPUS] = f"{duty.gpus}/{duty.slots}"
    guards = Guards()
    seats = [Seat(number, scratch, guards, slot=slot) for number in range(duty.slots if slot else 0)]
    keep_private()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("starburst").setLevel(logging.INFO)
    _log.info(
        "worker %s: %d slots, Python %s, %s", duty.worker, duty.slots, platform.python_version(), platform.machine()
    )
    code = EXIT_BROKEN
    try:
        supervisor = Supervisor(_backend_of(duty), duty, scratch, guards, seats)
        gc.freeze()
        gc.enable()
        code = supervisor.run()
        _log.info("worker %s ends with %d", duty.worker, code)
    except Denied as error:
        code = broken_exit(error)
    except Exception:
        _log.exception("worker %s failed", duty.worker)
    logging.shutdown()
    if duty.backend == "local":
        from starburst_common.local.compute import note_end  # with the store's library, which others need not load

        note_end(scratch, code)
    os._exit(code)  # whatever thread still waits for something, waits in vain


def _read(orders: str) -> Duty:
    try:
        return Duty.read(orders)
    except UnknownVersion as error:
        sys.stderr.write(f"stopped: {error}\n")
        sys.exit(misfit_exit())
    except (Refused, Unavailable) as error:
        sys.exit(f"stopped: {error}")
