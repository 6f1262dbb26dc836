"""Workers as tasks on Amazon ECS with Fargate, launched in tens, swept a hundred at a time, never polled one by one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from starburst_common.aws.abreast import abreast
from starburst_common.aws.accounts import close_account
from starburst_common.aws.answers import said_in, speaking
from starburst_common.aws.asking import Asking
from starburst_common.aws.clients import Clients
from starburst_common.aws.definitions import Definitions
from starburst_common.aws.ecs_tasks import task_id, worker_state
from starburst_common.aws.forgotten import as_they_said
from starburst_common.aws.launch_rate import Rate, Swaps, launch_rates
from starburst_common.aws.launches import Launch, Launches, free_steps, unanswered
from starburst_common.aws.pace import Bucket
from starburst_common.aws.possible import refuse_impossible
from starburst_common.aws.refusals import AGAIN_S, Refusal, refusal, waiting_for
from starburst_common.aws.requests import RUN_TASK_MOST, alike, log_stream, run_task
from starburst_common.aws.seen import SeenTasks
from starburst_common.aws.spot import NONE_CAME, in_vain, lacking, parts_on_spot, room
from starburst_common.errors import CannotLaunch, NotFound, StarburstError, Unavailable
from starburst_common.model import FleetId, WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.phrases import our_log
from starburst_common.ports import Limit, ObjectStore, Wait, WorkerSpec
from starburst_common.sites.site import Site

_log = our_log("starburst.aws")

_TAIL_LINES = 50
_UNANSWERED_S = 90.0  #: a launch without an answer for so long was left by a driver that died; a call takes less
#: After so long nobody is about to finish it, and ECS, which knows a token for an hour after its last task has stopped,
#: may start others. Source: Amazon ECS API reference, "Ensuring idempotency", read 2026-11-30
_ABANDONED_S = 3600.0
_AT_ONCE = 8  #: calls
_ANOTHER = Wait("another driver's launch to be answered", 1.0)


class EcsCompute:
    """`Compute` on one cluster; see `starburst_common.ports` for what it promises."""

    def __init__(
        self,
        site: Site,
        clients: Clients,
        store: ObjectStore,
        key: bytes,
        *,
        swaps: Swaps | None = None,
        clock: Callable[[], float] = time.time,
        pace: Callable[[], float] = time.monotonic,
        limits: Callable[..., Sequence[Limit]] | None = None,
    ) -> None:
        """`limits` tells what quotas of the account are left, as those of `Quotas`."""
        self._site, self._clients, self._store, self._key, self._clock = site, clients, store, key, clock
        self._limits = limits
        self._launches = Launches(store, key, clock=clock)
        self.definitions = Definitions(site, clients)
        self._asking = Asking(site, clients, store, self._launches, self.definitions, clock=clock, pace=pace)
        # Source: Amazon ECS API reference, "Request throttling", StopTask; read 2026-11-22
        self._stops = Bucket(burst=80, each_s=40, clock=pace)
        self._starts = launch_rates(swaps, clock=clock, pace=pace)
        self._seen = SeenTasks(site, clients, clock=clock, pace=pace)

    def prepare(self, spec: WorkerSpec) -> None:
        """Containers are started by ECS alone."""

    def alike(self, spec: WorkerSpec) -> str:
        return alike(self._site, spec)

    def launch(self, spec: WorkerSpec, ordinals: Sequence[int]) -> Wait | None:
        definition = self._definition(spec)
        if isinstance(definition, Wait):
            return definition
        launches, _ = self._launches.read(spec.fleet)
        steps = free_steps(ordinals, launches, most=RUN_TASK_MOST)
        if steps and any(launch.tasks is None for launch in launches):
            return _ANOTHER  # whose answer may free ordinals: until then two drivers would see different ones free
        starts, wanted = self._rate(spec), sum(count for _, count in steps)
        left = taken = starts.take(spec.fleet, wanted, spec.priority) if steps else 0
        try:
            for lo, count, spot in parts_on_spot(steps, self._spot_room(spec)):
                if not (allowed := min(count, left)):
                    break
                request = run_task(self._site, definition, spec, allowed)
                claimed = self._launches.claim(spec.fleet, lo, allowed, request, spot=spot)
                if claimed is None:
                    return _ANOTHER
                granted, wait = self._asking.ask(spec.fleet, claimed)
                left -= granted
                if wait is not None:
                    return wait
        finally:
            starts.give_back(left)
        return starts.wait if taken < wanted else None

    def _definition(self, spec: WorkerSpec) -> str | Wait:
        """The task definition of such workers. Raises `CannotLaunch`."""
        resources = spec.resources
        try:
            refuse_impossible(self._site, self._clients, replace(resources, task_role=""))  # settings may have changed
            return self.definitions.ensure(resources.image or self._site.image, ec2=resources.on_ec2)
        except Unavailable:
            raise
        except StarburstError as error:
            code, text = said_in(error)
            if self._asking.roles.judged(refusal(code, text), self._clock()) is Refusal.ROLE:
                return Wait(waiting_for(Refusal.ROLE, text), AGAIN_S[Refusal.ROLE])
            raise CannotLaunch(f"no worker can start: {error}") from error

    def _rate(self, spec: WorkerSpec) -> Rate:
        """How fast such workers may be launched."""
        return self._starts["EC2" if spec.resources.on_ec2 else "FARGATE_SPOT" if spec.resources.spot else "FARGATE"]

    def _spot_room(self, spec: WorkerSpec) -> float:
        """How many more such workers are to be asked for on Spot; of Fargate's ECS says at once how many it has."""
        resources = spec.resources
        if not resources.spot:
            return 0
        if not resources.on_ec2 or not self._site.falls_back(gpus=resources.gpus):
            return math.inf
        seen, fresh = self._granted(*self._launches.read(spec.fleet))
        if lacking([*seen, *fresh], self._clock()):
            return 0
        limits = self._limits(spot=True, ec2=True, gpus=resources.gpus > 0) if self._limits is not None else []
        return room([each for each in limits if each.capacity in self._site.spot_providers], fresh, resources.cpu)

    def workers(self, fleet: FleetId) -> list[WorkerState]:
        launches, stops = self._launches.read(fleet)
        seen, fresh = self._granted(launches, stops)
        asked = self._asked_for(fleet, launches, _ABANDONED_S)
        lost = self._unrecorded(fleet, launches) if not asked else []
        return sorted([*asked, *seen, *fresh, *lost], key=lambda state: state.ordinal)

    def tend(self, fleet: FleetId) -> list[WorkerState]:
        launches, stops = self._launches.read(fleet)
        for launch in launches:
            if launch.tasks is None and self._clock() - launch.at > _UNANSWERED_S:
                self._ask_again(fleet, launch)
        seen, fresh = self._granted(launches, stops)
        fresh = as_they_said(self._clients.logs, self._site.log_group, fresh)
        ended = [state for state in fresh if state.phase is WorkerPhase.STOPPED]
        if any(state.end is WorkerEnd.UNSTARTABLE for state in ended):
            self.definitions.doubt()
        self._launches.stopped(fleet, ended)
        self._let_go(fleet, launches, fresh)
        asked = self._asked_for(fleet, launches, math.inf)
        return sorted([*asked, *seen, *fresh], key=lambda state: state.ordinal)

    def _let_go(self, fleet: FleetId, launches: Sequence[Launch], workers: Sequence[WorkerState]) -> None:
        """Of those for whom no instance on Spot comes; they are missing then, and others are launched."""
        arns = {task_id(arn): (arn, launch.at) for launch in launches for arn in launch.tasks or ()}
        if late := in_vain(workers, {worker: at for worker, (_, at) in arns.items()}, self._clock()):
            _log.info("EC2 Spot has no instance for %d workers of %s: others are asked for on demand", len(late), fleet)
            abreast(lambda worker: self._stop(arns[worker][0], NONE_CAME), late, at_once=_AT_ONCE)

    def _ask_again(self, fleet: FleetId, launch: Launch) -> None:
        """Of a launch that its driver left; workers that have ended for long are not launched anew."""
        if self._clock() - launch.at > _ABANDONED_S and not self._seen.living(fleet):
            self._launches.answer(fleet, launch, [])
        else:
            _log.info("asking again for workers %d to %d of %s", launch.lo, launch.hi - 1, fleet)
            with suppress(CannotLaunch):  # who next wants these workers is told
                self._asking.ask(fleet, launch)

    def ended(self, fleet: FleetId, worker: WorkerId) -> WorkerState | None:
        """As a driver has written it down; nothing is asked of ECS."""
        _, stops = self._launches.read(fleet)
        return stops.get(worker)

    def stop(self, fleet: FleetId, ids: Iterable[WorkerId], *, grace_s: float) -> None:
        """ECS sends SIGTERM now and, where that is not heard, SIGKILL two minutes later, whoever still watches."""
        wanted = set(ids)
        launches, stops = self._launches.read(fleet)
        arns = [arn for launch in launches for arn in launch.tasks or ()]
        alive = [arn for arn in arns if task_id(arn) in wanted and task_id(arn) not in stops]
        if wanted - {*map(task_id, arns)}:  # of a launch without an answer, or of records that count for nothing
            under_way = any(wanted.intersection(unanswered(fleet, launch)) for launch in launches)
            others = [task["taskArn"] for task in self._seen.living(fleet) if task["taskArn"] not in arns]
            alive += [arn for arn in others if under_way or task_id(arn) in wanted]
        abreast(self._stop, alive, at_once=_AT_ONCE)

    def tail(self, fleet: FleetId, worker: WorkerId) -> str:
        try:
            with speaking("logs:GetLogEvents"):
                logs, group, stream = self._clients.logs, self._site.log_group, log_stream(worker)
                found = logs.get_log_events(logGroupName=group, logStreamName=stream, limit=_TAIL_LINES)  # the last
                return "\n".join(event["message"] for event in found["events"])
        except NotFound:
            return ""

    def forget(self, fleet: FleetId) -> None:
        """Its account is closed, and what ECS itself still runs for it is stopped: nobody would find it any more."""
        self._close_account(fleet)
        abreast(self._stop, [task["taskArn"] for task in self._seen.living(fleet)], at_once=_AT_ONCE)
        self._launches.forget(fleet)

    def _close_account(self, fleet: FleetId) -> None:
        launches, stops = self._launches.read(fleet)
        seen, fresh = self._granted(launches, stops)
        lost = self._unrecorded(fleet, launches)
        if workers := sorted([*seen, *fresh, *lost], key=lambda state: state.ordinal):
            close_account(self._store, self._key, fleet, workers, self._clock())

    def fleets(self) -> list[FleetId]:
        return self._launches.fleets()

    def _asked_for(self, fleet: FleetId, launches: Sequence[Launch], most_s: float) -> list[WorkerState]:
        """The workers of launches that were not answered yet, and are no older."""
        return [
            WorkerState(id=name, ordinal=ordinal, phase=WorkerPhase.STARTING)
            for launch in launches
            if self._clock() - launch.at <= most_s
            for ordinal, name in enumerate(unanswered(fleet, launch), launch.lo)
        ]

    # --- looking and stopping -----------------------------------------------------------------------------------------

    def _granted(
        self, launches: Sequence[Launch], stops: Mapping[WorkerId, WorkerState]
    ) -> tuple[list[WorkerState], list[WorkerState]]:
        """The workers that were granted: those whose end is written down, and the others as they are now."""
        ordinals = {arn: n for launch in launches for n, arn in enumerate(launch.tasks or (), launch.lo)}
        seen = [stops[task_id(arn)] for arn in ordinals if task_id(arn) in stops]
        launched = {arn: launch for launch in launches for arn in launch.tasks or ()}
        fresh = {arn: n for arn, n in ordinals.items() if task_id(arn) not in stops}
        return seen, [*self._seen.workers(fresh, launched)]

    def _unrecorded(self, fleet: FleetId, launches: Sequence[Launch]) -> list[WorkerState]:
        """Where records are signed by no key that is known, as of one that was revoked: workers that ECS knows."""
        if not self._launches.unsigned(fleet):
            return []
        known = {arn for launch in launches for arn in launch.tasks or ()}
        first = max((launch.hi for launch in launches), default=0)
        tasks = [task for task in self._seen.living(fleet) if task["taskArn"] not in known]
        return [worker_state(task, ordinal) for ordinal, task in enumerate(tasks, first)]

    def _stop(self, arn: str, why: str = "starburst: no longer needed") -> None:
        self._stops.wait()
        unknown = self._clients.ecs.exceptions.InvalidParameterException
        with suppress(NotFound), speaking("ecs:StopTask"), suppress(unknown):
            self._clients.ecs.stop_task(cluster=self._site.cluster, task=arn, reason=why)
