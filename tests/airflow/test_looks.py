"""What triggers cost the triggerer that they share with all others."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_starburst.hooks.starburst import StarburstHook
from airflow_provider_starburst.triggers.starburst import driving, stepped
from airflow_provider_starburst.where import Where
from starburst_common import RunState, attach
from starburst_common.ports import Backend
from tests.airflow.stage import again, context, deferred, event_of, operator
from tests.airflow.work import sleeps
from tests.ports import Port, counting

MANY = 30  #: triggers
SLOW = {"python_callable": sleeps, "op_args": None, "deferrable": True}


def opening(monkeypatch: pytest.MonkeyPatch, made: Callable[[Backend], Backend]) -> None:
    """From now on each backend that is opened for Airflow is another one."""
    real = Where.open
    monkeypatch.setattr(Where, "open", lambda where, new_session=None: made(real(where, new_session)))


def test_an_idle_look_is_two_requests(place: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answered, and who cancelled: so it is asked for while items run and workers are as they should be."""
    run = deferred(operator(items=[600.0], **SLOW), context()).trigger.run_id
    calls: Counter[str] = Counter()

    def counted(backend: Backend) -> Backend:
        nonlocal calls
        counted, calls = counting(backend.paced(tick_s=0.0, look_s=600.0))
        return counted

    opening(monkeypatch, counted)
    driver, held = driving(StarburstHook().where(), run)
    while not driver.books.at_work:
        stepped(driver, held)
    for _ in range(3):
        calls.clear()
        over, status = stepped(driver, held)
        assert (over, status.workers) == (False, 1)
    assert calls.total() == 2
    attach(run, backend=place).cancel()
    assert stepped(driver, held)[1].state is RunState.CANCELLED


def test_a_slow_store_holds_up_no_loop(place: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triggers wait for it on threads that all of them share: the loop goes on, and lets it answer in the end."""
    trigger = deferred(operator(items=[0.0], **SLOW), context()).trigger
    asked, answers, unanswered = threading.Semaphore(0), threading.Event(), list[str]()

    def held_up(method: str, first: Any) -> None:
        asked.release()
        if not answers.wait(60):
            unanswered.append(method)

    opening(monkeypatch, lambda backend: replace(backend, store=Port(backend.store, held_up)))
    before = threading.active_count()

    async def waiting() -> list[dict[str, Any]]:
        events = asyncio.gather(*(event_of(again(trigger)) for _ in range(MANY)))
        while not asked.acquire(blocking=False):
            await asyncio.sleep(0.01)
        for _ in range(100):
            await asyncio.sleep(0)
        assert threading.active_count() - before < MANY, "a thread of its own for each"
        answers.set()
        return await events

    events = asyncio.run(waiting())
    assert [event["status"] for event in events] == ["over"] * MANY
    assert unanswered == []
