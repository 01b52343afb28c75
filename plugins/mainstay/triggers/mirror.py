"""Waits until a mirror has caught up with a cut of its source."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.engine.errors import TransientError
from include.engine.mirroring import MirrorProgress
from mainstay.hooks.mainstay import MainstayHook


class CaughtUpTrigger(BaseTrigger):
    """Fire when everything up to *cut* is on the mirror, when a part of it has failed, or when *until* is over.

    The event is a ``MirrorProgress``.  Nothing is left anywhere when the triggerer dies: the next one asks again.

    :param mirror: ``<system>/<name>/<mirror>``
    :param cut: what the source had, as ``Mirror.cut`` gave it
    :param until: seconds since the epoch
    :param poll_interval: seconds between two looks
    """

    def __init__(self, *, mirror: str, cut: dict[str, Any], until: float, poll_interval: float = 1.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mirror = mirror
        self.cut = cut
        self.until = until
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what another triggerer needs to go on."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"mirror": self.mirror, "cut": self.cut, "until": self.until, "poll_interval": self.poll_interval},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll, in a thread: the clients block."""
        mirror = await asyncio.to_thread(lambda: MainstayHook().mirror(self.mirror))
        while True:
            try:
                seen = await asyncio.to_thread(mirror.progress, self.cut)
            except TransientError as error:  # a broker or a worker restarts: that is what waiting is for
                self.log.info("%s: %s", self.mirror, error.message)
                seen = MirrorProgress(caught_up=False, missing=(error.message,))
            if seen.caught_up or seen.failed or time.time() >= self.until:
                yield TriggerEvent(msgspec.to_builtins(seen))
                return
            self.log.info("%s lacks %s offsets", self.mirror, seen.offsets)
            await asyncio.sleep(self.poll_interval)
