"""A launch in, as it is written down; what ECS is asked for it, and what of it was granted, written down too, out."""

from __future__ import annotations

from collections.abc import Callable

from starburst_common.aws.answers import said_in, speaking
from starburst_common.aws.clients import Clients
from starburst_common.aws.definitions import Definitions
from starburst_common.aws.launches import Launch, Launches
from starburst_common.aws.pace import Bucket
from starburst_common.aws.refusals import AGAIN_S, NewRoles, Refusal, explained, refusal, waiting_for
from starburst_common.aws.requests import on_ec2, placed, ways
from starburst_common.aws.zones import Zones
from starburst_common.errors import CannotLaunch, StarburstError, Unavailable
from starburst_common.model import FleetId
from starburst_common.ports import ObjectStore, Wait
from starburst_common.sites.site import Site


class Asking:
    """Asks one cluster for tasks, for any number of threads."""

    def __init__(
        self,
        site: Site,
        clients: Clients,
        store: ObjectStore,
        launches: Launches,
        definitions: Definitions,
        *,
        clock: Callable[[], float],
        pace: Callable[[], float],
    ) -> None:
        self._site, self._clients, self._store, self._clock = site, clients, store, clock
        self._launches, self._definitions = launches, definitions
        self.roles = NewRoles()  #: what ECS has said of them lately
        self._zones = Zones()
        # Source: Amazon ECS Developer Guide, "AWS Fargate throttling quotas", RunTask; read 2026-11-22
        self._calls = Bucket(burst=20, each_s=20, clock=pace)

    def ask(self, fleet: FleetId, launch: Launch) -> tuple[int, Wait | None]:
        """Ask ECS for a launch's tasks, here and there and at last for fewer, and write down what it gave: how many."""
        tasks: list[str] = []
        refused: tuple[Refusal, str, str] | None = None
        lacked, full = False, set[bool]()  # capacities whose quota is used up, in whatever zone
        for way, (on_spot, subnets) in enumerate(ways(launch.spot, self._site.subnets, ec2=on_ec2(launch.request))):
            if on_spot in full:
                continue
            asked = launch.count - len(tasks)
            while asked and len(tasks) < launch.count:
                try:
                    more, said = self._run_task(launch, way, asked, on_spot, subnets)
                except BaseException:
                    if tasks:  # asking anew, with quota freed meanwhile, might go another way
                        self._launches.answer(fleet, launch, tasks)
                    raise
                tasks += more
                refused = said or refused
                lacked |= said is not None and said[0] is Refusal.CAPACITY
                if said is not None and (more or said[0] is not Refusal.QUOTA):
                    break
                asked //= 2  # refused as a whole, there may be room for fewer; granted then, for some beside them
            if len(tasks) == launch.count:
                refused = None
                break
            if refused is not None and refused[0] in (Refusal.QUOTA, Refusal.NO_SPOT):
                full.add(on_spot)
            elif refused is not None and refused[0] is not Refusal.CAPACITY:
                break
        self._launches.answer(fleet, launch, tasks)
        if lacked and len(tasks) == launch.count:
            self._zones.lack(spot=launch.spot, now=self._clock())
        return len(tasks), None if refused is None else self._wait(launch, *refused)

    def _wait(self, launch: Launch, why: Refusal, code: str, text: str) -> Wait:
        """For what is to be waited. Raises `CannotLaunch` where that does not help, or has not for long."""
        why = self.roles.judged(why, self._clock())
        if why is Refusal.GONE:
            why = self._definitions.gone(self._store)
        if why not in AGAIN_S:
            raise CannotLaunch(explained(code, text))
        vcpu = int(launch.request["overrides"]["cpu"]) / 1024
        kind = f"{'EC2' if on_ec2(launch.request) else 'Fargate'}{' Spot' * launch.spot}"
        return Wait(waiting_for(why, text, vcpu, kind), AGAIN_S[why])

    def _run_task(
        self, launch: Launch, way: int, count: int, spot: bool, subnets: tuple[str, ...]
    ) -> tuple[list[str], tuple[Refusal, str, str] | None]:
        request = placed({**launch.request, "count": count}, self._site, spot=spot, subnets=subnets)
        self._calls.wait()
        try:
            with speaking("ecs:RunTask"):
                answer = self._clients.launching.run_task(**request, clientToken=f"{launch.token}-{way}-{count}")
                started = [task["taskArn"] for task in answer["tasks"]]
                self._zones.started((task.get("availabilityZone", "") for task in answer["tasks"]), self._clock())
                self.roles = NewRoles()
        except StarburstError as ours:
            code, text = said_in(ours)
            if not code:
                raise
            why = refusal(code, text)
            if why is Refusal.FATAL and isinstance(ours, Unavailable):  # as with credentials that have expired
                raise
            return [], (why, code, text)
        if answer.get("failures"):
            failure = answer["failures"][0]
            code, text = failure.get("reason", ""), failure.get("detail", "")
            return started, (refusal(code, text), code, text)
        if len(started) < count:
            return started, (Refusal.CAPACITY, "", "")
        return started, None
