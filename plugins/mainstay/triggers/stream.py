"""Waits on a streaming job: until there is something to do, or until it rests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.engine.errors import TransientError
from include.engine.streaming import Life
from include.engine.verbs.stream import Watched, decide
from mainstay.hooks.mainstay import MainstayHook


class StreamTrigger(BaseTrigger):
    """Fire when a job needs something, or when *until* is over.

    It looks at progress, not at the engine's state: hung and crash-looping drivers say that they run.  It does nothing itself:
    two triggerers would do it twice.

    :param job: ``<system>/<name>``
    :param watched: what was seen so far, a ``Watched``
    :param until: seconds since the epoch
    :param poll_interval: seconds between two looks
    """

    def __init__(self, *, job: str, watched: dict[str, Any], until: float, poll_interval: float = 5.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job = job
        self.watched = watched
        self.until = until
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what another triggerer needs to go on."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"job": self.job, "watched": self.watched, "until": self.until, "poll_interval": self.poll_interval},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll, in a thread: the clients block."""
        job = await asyncio.to_thread(lambda: MainstayHook().stream(self.job))
        watched = msgspec.convert(self.watched, Watched)
        while True:
            due = time.time() >= self.until
            try:
                seen = await asyncio.to_thread(job.look, _clock)
            except TransientError as error:  # nobody knows how it is, so nobody may do anything
                self.log.info("%s: %s", self.job, error.message)
            else:
                watched = watched.after(seen)
                decision = decide(seen, watched, job.policy)
                due = due or not decision.waits(seen)
                self.log.info("%s: %s", self.job, decision.why)
            if due:
                yield TriggerEvent({"watched": msgspec.to_builtins(watched), "until": self.until})
                return
            await asyncio.sleep(self.poll_interval)


class AtRestTrigger(BaseTrigger):
    """Fire when a job runs no more, or when *until* is over.

    :param job: ``<system>/<name>``
    :param until: seconds since the epoch
    :param poll_interval: seconds between two looks
    """

    def __init__(self, *, job: str, until: float, poll_interval: float = 2.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job = job
        self.until = until
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what another triggerer needs to go on."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"job": self.job, "until": self.until, "poll_interval": self.poll_interval},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll, in a thread: the clients block."""
        job = await asyncio.to_thread(lambda: MainstayHook().stream(self.job))
        behind, end = -1, ""
        while True:
            rests = False
            try:
                seen = await asyncio.to_thread(job.look, _clock)
                rests, behind, end = seen.life is Life.ABSENT, seen.behind, seen.end
            except TransientError as error:
                self.log.info("%s: %s", self.job, error.message)
            if rests or time.time() >= self.until:
                yield TriggerEvent({"rests": rests, "behind": behind, "end": end})
                return
            await asyncio.sleep(self.poll_interval)


def _clock() -> datetime:
    return datetime.now(UTC)
