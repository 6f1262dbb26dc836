"""Workers as tasks on Amazon ECS with Fargate, launched in tens, swept a hundred at a time, never polled one by one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from starburst_common.aws.abreast import abreast
from starburst_common.aws.accounts import close_account
from starburst_common.aws.answers import said_in, speaking
from starburst_common.aws.clients import Clients
from starburst_common.aws.definitions import Definitions
from starburst_common.aws.ecs_tasks import task_id, worker_state
from starburst_common.aws.launch_rate import Swaps, launch_rates
from starburst_common.aws.launches import Launch, Launches, free_steps, unanswered
from starburst_common.aws.pace import Bucket
from starburst_common.aws.refusals import AGAIN_S, NewRoles, Refusal, explained, refusal, waiting_for
from starburst_common.aws.requests import RUN_TASK_MOST, alike, log_stream, placed, run_task, ways
from starburst_common.errors import CannotLaunch, Denied, NotFound, StarburstError, Unavailable
from starburst_common.model import FleetId, WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.phrases import our_log
from starburst_common.ports import ObjectStore, Wait, WorkerSpec
from starburst_common.sites.site import Site
from starburst_common.sites.tagging import refuse_many

_log = our_log("starburst.aws")

_DESCRIBE_MOST = 100  #: tasks a call. Source: Amazon ECS API reference, DescribeTasks
_TAIL_LINES = 50
_UNANSWERED_S = 90.0  #: a launch without an answer for so long was left by a driver that died; a call takes less
_ABANDONED_S = 3600.0  #: and after so long nobody is about to finish it
_UNSEEN_S = 60.0  #: ECS may not know a task it has just started for so long
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
    ) -> None:
        self._site, self._clients, self._store, self._key, self._clock = site, clients, store, key, clock
        self._launches = Launches(store, key, clock=clock)
        self._roles = NewRoles()
        self.definitions = Definitions(site, clients)
        # Rates: Amazon ECS and AWS Fargate, "Request throttling" and "Service quotas", read 2026-11-22.
        self._calls = Bucket(burst=20, each_s=20, clock=pace)  # RunTask on Fargate
        self._stops = Bucket(burst=80, each_s=40, clock=pace)  # of what StopTask and RunTask have together
        self._starts = launch_rates(swaps, clock=clock, pace=pace)
        self._looks = Bucket(burst=100, each_s=20, clock=pace)  # DescribeTasks and ListTasks

    def prepare(self, spec: WorkerSpec) -> None:
        """Containers are started by ECS alone. Raises `BadInput` for more tags than a task may have with the site's."""
        refuse_many(spec.resources.aws_tags, dict(each.split("=", 1) for each in self._site.tags))

    def alike(self, spec: WorkerSpec) -> str:
        return alike(self._site, spec)

    def launch(self, spec: WorkerSpec, ordinals: Sequence[int]) -> Wait | None:
        try:
            definition = self.definitions.ensure(spec.resources.image or self._site.image)
        except Unavailable:
            raise
        except StarburstError as error:
            code, text = said_in(error)
            if self._roles.judged(refusal(code, text), self._clock()) is Refusal.ROLE:
                return Wait(waiting_for(Refusal.ROLE, text, 0.0, spot=False), AGAIN_S[Refusal.ROLE])
            raise CannotLaunch(f"no worker can start: {error}") from error
        launches, _ = self._launches.read(spec.fleet)
        steps = free_steps(ordinals, launches, most=RUN_TASK_MOST)
        if steps and any(launch.tasks is None for launch in launches):
            return _ANOTHER  # whose answer may free ordinals: until then two drivers would see different ones free
        starts, wanted = self._starts[spec.resources.spot], sum(count for _, count in steps)
        left = taken = starts.take(spec.fleet, wanted, spec.priority) if steps else 0
        try:
            for lo, count in steps:
                if not (allowed := min(count, left)):
                    break
                request = run_task(self._site, definition, spec, allowed)
                claimed = self._launches.claim(spec.fleet, lo, allowed, request, spot=spec.resources.spot)
                if claimed is None:
                    return _ANOTHER
                granted, wait = self._ask(spec.fleet, claimed)
                left -= granted
                if wait is not None:
                    return wait
        finally:
            starts.give_back(left)
        return starts.wait if taken < wanted else None

    def workers(self, fleet: FleetId) -> list[WorkerState]:
        launches, stops = self._launches.read(fleet)
        seen, fresh = self._granted(launches, stops)
        asked = self._asked_for(fleet, launches, _ABANDONED_S)
        return sorted([*asked, *seen, *fresh], key=lambda state: state.ordinal)

    def tend(self, fleet: FleetId) -> list[WorkerState]:
        launches, stops = self._launches.read(fleet)
        for launch in launches:
            if launch.tasks is None and self._clock() - launch.at > _UNANSWERED_S:
                _log.info("asking again for workers %d to %d of %s", launch.lo, launch.hi - 1, fleet)
                with suppress(CannotLaunch):  # who next wants these workers is told
                    self._ask(fleet, launch)
        seen, fresh = self._granted(launches, stops)
        ended = [state for state in fresh if state.phase is WorkerPhase.STOPPED]
        if any(state.end is WorkerEnd.UNSTARTABLE for state in ended):
            self.definitions.doubt()
        self._launches.stopped(fleet, ended)
        asked = self._asked_for(fleet, launches, math.inf)
        return sorted([*asked, *seen, *fresh], key=lambda state: state.ordinal)

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
        if any(wanted.intersection(unanswered(fleet, launch)) for launch in launches):
            alive += [arn for arn in self._living(fleet) if arn not in arns]
        abreast(self._stop, alive, at_once=_AT_ONCE)

    def tail(self, fleet: FleetId, worker: WorkerId) -> str:
        try:
            with speaking("logs:GetLogEvents"):
                found = self._clients.logs.get_log_events(
                    logGroupName=self._site.log_group,
                    logStreamName=log_stream(worker),
                    limit=_TAIL_LINES,
                    startFromHead=False,
                )
                return "\n".join(event["message"] for event in found["events"])
        except NotFound:
            return ""

    def forget(self, fleet: FleetId) -> None:
        """Its account is closed, and what ECS itself still runs for it is stopped: nobody would find it any more."""
        self._close_account(fleet)
        abreast(self._stop, self._living(fleet), at_once=_AT_ONCE)
        self._launches.forget(fleet)

    def _close_account(self, fleet: FleetId) -> None:
        launches, stops = self._launches.read(fleet)
        seen, fresh = self._granted(launches, stops)
        if workers := sorted([*seen, *fresh], key=lambda state: state.ordinal):
            close_account(self._store, self._key, fleet, workers, self._clock())

    def fleets(self) -> list[FleetId]:
        return self._launches.fleets()

    # --- launching ----------------------------------------------------------------------------------------------------

    def _ask(self, fleet: FleetId, launch: Launch) -> tuple[int, Wait | None]:
        """Ask ECS for a launch's tasks, here and there and at last for fewer, and write down what it gave: how many."""
        tasks: list[str] = []
        refused: tuple[Refusal, str, str] | None = None
        full: set[bool] = set()  # capacities whose quota is used up, in whatever zone
        for way, (on_spot, subnets) in enumerate(ways(launch.spot, self._site.subnets)):
            if on_spot in full:
                continue
            asked = launch.count - len(tasks)
            while asked:
                try:
                    more, said = self._run_task(launch, way, asked, on_spot, subnets)
                except BaseException:
                    if tasks:  # asking anew, with quota freed meanwhile, might go another way
                        self._launches.answer(fleet, launch, tasks)
                    raise
                tasks += more
                refused = said or refused
                if more or said is None or said[0] is not Refusal.QUOTA:
                    break
                asked //= 2
            if len(tasks) == launch.count:
                refused = None
                break
            if refused is not None and refused[0] in (Refusal.QUOTA, Refusal.NO_SPOT):
                full.add(on_spot)
            elif refused is not None and refused[0] is not Refusal.CAPACITY:
                break
        self._launches.answer(fleet, launch, tasks)
        return len(tasks), None if refused is None else self._wait(launch, *refused)

    def _wait(self, launch: Launch, why: Refusal, code: str, text: str) -> Wait:
        """For what is to be waited. Raises `CannotLaunch` where that does not help, or has not for long."""
        why = self._roles.judged(why, self._clock())
        if why is Refusal.GONE:
            why = self.definitions.gone(self._store)
        if why not in AGAIN_S:
            raise CannotLaunch(explained(code, text))
        vcpu = int(launch.request["overrides"]["cpu"]) / 1024
        return Wait(waiting_for(why, text, vcpu, launch.spot), AGAIN_S[why])

    def _run_task(
        self, launch: Launch, way: int, count: int, spot: bool, subnets: tuple[str, ...]
    ) -> tuple[list[str], tuple[Refusal, str, str] | None]:
        request = placed({**launch.request, "count": count}, self._site, spot=spot, subnets=subnets)
        self._calls.wait()
        try:
            with speaking("ecs:RunTask"):
                answer = self._clients.launching.run_task(**request, clientToken=f"{launch.token}-{way}-{count}")
                started = [task["taskArn"] for task in answer["tasks"]]
                self._roles = NewRoles()
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
        return seen, list(self._look({arn: n for arn, n in ordinals.items() if task_id(arn) not in stops}, launches))

    def _look(self, ordinals: dict[str, int], launches: Sequence[Launch]) -> Iterator[WorkerState]:
        """Several calls at once: a large fleet takes many, and what launches waits meanwhile."""
        arns = list(ordinals)
        launched_at = {arn: launch.at for launch in launches for arn in launch.tasks or ()}
        batches = [arns[at : at + _DESCRIBE_MOST] for at in range(0, len(arns), _DESCRIBE_MOST)]
        for states, gone_arns in abreast(lambda batch: self._described(batch, ordinals), batches, at_once=_AT_ONCE):
            yield from states
            for arn in gone_arns:
                gone = self._clock() - launched_at[arn] > _UNSEEN_S
                phase, end = (WorkerPhase.STOPPED, WorkerEnd.DONE) if gone else (WorkerPhase.STARTING, None)
                why = "it stopped so long ago that ECS has forgotten it" if gone else ""
                yield WorkerState(id=task_id(arn), ordinal=ordinals[arn], phase=phase, end=end, reason=why)

    def _described(self, arns: list[str], ordinals: Mapping[str, int]) -> tuple[list[WorkerState], list[str]]:
        """Those that ECS knows, and those that it does not."""
        self._looks.wait()
        with speaking("ecs:DescribeTasks"):
            found: Any = self._clients.ecs.describe_tasks(cluster=self._site.cluster, tasks=arns)
            states = [worker_state(task, ordinals[task["taskArn"]]) for task in found["tasks"]]
            return states, [failure["arn"] for failure in found["failures"] if failure["arn"] in ordinals]

    def _living(self, fleet: FleetId) -> list[str]:
        """Tasks of a fleet that are not about to end, as ECS lists them: also those that no record knows."""
        self._looks.wait()
        try:
            with speaking("ecs:ListTasks"):
                pages = self._clients.ecs.get_paginator("list_tasks").paginate(
                    cluster=self._site.cluster, startedBy=fleet
                )
                return [arn for page in pages for arn in page["taskArns"]]
        except Denied as error:  # a policy from before this was asked for
            _log.warning("workers that no record knows of end by themselves, when they are idle: %s", error)
        except NotFound:  # the cluster
            pass
        return []

    def _stop(self, arn: str) -> None:
        self._stops.wait()
        unknown = self._clients.ecs.exceptions.InvalidParameterException
        with suppress(NotFound), speaking("ecs:StopTask"), suppress(unknown):
            self._clients.ecs.stop_task(cluster=self._site.cluster, task=arn, reason="starburst: no longer needed")
