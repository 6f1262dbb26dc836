"""Actors in, one interleaving of their calls out: each stops before every call of a port, until it is its turn.

The actors run the real code in threads of their own, of which one goes on at a time, so that the choices alone decide
what happens. A choice may also be that an actor dies there, that its call is made and it never hears of it, or that
time passes for the leases of all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

_LOOKS = ("get", "list", "receive", "depth")  #: what changes nothing for others is left out of the story


class Died(BaseException):
    """The process is gone: no code of its own runs any more."""


class Move(StrEnum):
    """What becomes of the actor whose turn it is."""

    GO = "go"
    DIE = "dies before the call"
    DIE_AFTER = "dies after the call"
    FREEZE = "sleeps past its leases"


class Actor:
    """One process of the protocol, as a thread."""

    def __init__(self, stage: Stage, name: str, body: Callable[[], None]) -> None:
        self.stage, self.name, self.body = stage, name, body
        self.over = False
        self.dead = False  #: it does nothing more, whatever its code tries
        self.die_after = False
        self.number = 0  #: chosen for this turn, for whoever has something of its own to choose
        self.error: BaseException | None = None
        self.turn = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.turn.acquire()
        try:
            if not self.dead:
                self.body()
        except Died:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.over = True
            self.stage.back.release()

    def pause(self) -> None:
        """Let others go on; returns at our next turn. Raises `Died`."""
        if self.dead:
            raise Died
        self.stage.back.release()
        self.turn.acquire()
        if self.dead:
            raise Died


class Stage:
    """All actors, the time on the leases' clock, and what happened."""

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.back = threading.Semaphore(0)
        self.now = 0.0
        self.story: list[str] = []

    def add(self, name: str, body: Callable[[], None]) -> Actor:
        """One more process, which begins when it is chosen."""
        actor = Actor(self, name, body)
        self.actors.append(actor)
        return actor

    @property
    def me(self) -> Actor | None:
        """The actor whose code this is."""
        thread = threading.current_thread()
        return next((actor for actor in self.actors if actor._thread is thread), None)

    @property
    def living(self) -> list[Actor]:
        """Who still has something to do."""
        return [actor for actor in self.actors if not actor.over]

    def step(self, actor: Actor, move: Move = Move.GO, number: int = 0, *, sleep_s: float = 0.0) -> None:
        """One actor goes on to its next call."""
        actor.number = number
        if move is Move.DIE:
            actor.dead = True
        elif move is Move.DIE_AFTER:
            actor.die_after = True
        elif move is Move.FREEZE:
            self.now += sleep_s
        if move is not Move.GO:
            self.story.append(f"{actor.name} {move}")
        actor.turn.release()
        self.back.acquire()

    def end(self) -> None:
        """Nobody is left waiting."""
        for actor in self.living:
            actor.dead = True
            actor.turn.release()
            self.back.acquire()


class Staged:
    """A port whose calls of some names wait for their turn."""

    def __init__(self, stage: Stage, port: Any, names: Sequence[str]) -> None:
        self._stage, self._port, self._names = stage, port, names

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)
        if name not in self._names:
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            actor = self._stage.me
            if actor is None:
                return attribute(*args, **kwargs)
            actor.pause()
            if name not in _LOOKS:
                self._stage.story.append(f"{actor.name}: {name} {args[0]}")
            try:
                return attribute(*args, **kwargs)
            finally:
                if actor.die_after:
                    actor.dead = True
                    raise Died

        return call
