"""What a worker was launched for: its environment in, a frozen `Duty` out."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from starburst_common.errors import Unavailable
from starburst_common.model import Address, FleetId, WorkerId
from starburst_common.ports import Pace
from starburst_common.runs.patience import bounded, patiently
from starburst_common.wire.fields import Fields, malformed
from starburst_common.wire.seals import WIRE_VERSION, unknown_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """One worker's orders; times in seconds."""

    fleet: FleetId
    worker: WorkerId
    backend: str  #: "local" or "aws"
    home: str = ""  #: the local backend's folder
    address: Address | None = None  #: where in AWS, on the backend of this name
    cpu: float = 1.0  #: vCPU
    slots: int
    memory_mib: int | None  #: limit for all slots together; None without one
    pace: Pace
    wire: int = WIRE_VERSION  #: what its work speaks
    key: str = ""  #: the id of the key to sign by; empty for the newest
    gpus: int = 0  #: of its own
    notices: bool = False  #: its instance may be taken back, and says so

    @classmethod
    def read(cls, text: str) -> Duty:
        """From the JSON in the environment. On ECS, which starts many with the same orders, the task is the name.

        Raises `UnknownVersion` where they are another release's: this worker could serve none of its runs. Raises
        `Refused` where they are malformed.
        """
        try:
            orders = Fields("its orders", json.loads(text))
        except (ValueError, RecursionError) as error:
            raise malformed("its orders", f"no JSON: {error}") from None
        if orders.given("wire") and (wire := orders.whole("wire")) != WIRE_VERSION:
            raise unknown_version("its orders", wire)
        backend = orders.text("backend")
        return cls(
            fleet=FleetId(orders.name("fleet")),
            worker=WorkerId(orders.text("worker") if orders.given("worker") else own_task()),
            backend=backend,
            home=orders.text("home") if orders.given("home") else "",
            address=_address(orders.fields("address")) if backend == "aws" else None,
            cpu=orders.number("cpu") if orders.given("cpu") else 1.0,
            slots=orders.whole("slots", least=1),
            memory_mib=orders.whole("memory_mib", least=1) if orders.given("memory_mib") else None,
            pace=Pace.read(orders),
            key=orders.text("key") if orders.given("key") else "",
            gpus=orders.whole("gpus") if orders.given("gpus") else 0,
            notices=orders.flag("notices") if orders.given("notices") else False,
        )


def _address(fields: Fields) -> Address:
    site, region, bucket, account = (fields.name(name) for name in ("site", "region", "bucket", "account"))
    return Address(site=site, region=region, bucket=bucket, account=account)


def own_task(patience_s: float = 15.0) -> str:
    """From ECS's task metadata endpoint, version 4. Raises `Refused`, or `Unavailable` where it gives none in time."""
    if not (metadata := os.environ.get("ECS_CONTAINER_METADATA_URI_V4")):
        raise malformed("its orders", "they name no worker, and this is no task of ECS, which would")
    import urllib.error
    import urllib.request  # a sixth of what a worker's start takes, which others do not need
    from http.client import HTTPException

    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # an image may have a proxy for all else

    def ask() -> str:
        try:
            with direct.open(f"{metadata}/task", timeout=5) as answer:
                return str(json.load(answer)["TaskARN"]).rsplit("/", 1)[-1]
        except (OSError, ValueError, TypeError, LookupError, HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise Unavailable(f"ECS's task metadata at {metadata}/task: {type(error).__name__}: {error}") from error

    return patiently(ask, bounded("this task's name", patience_s))
