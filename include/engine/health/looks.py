"""What one sweep has seen: a look for every probe, with its readings or with what was in the way."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from include.engine.errors import Corrupt, MainstayError, Unauthorized, Unreachable
from include.engine.model import Reading


class Trouble(Struct, frozen=True, kw_only=True):
    """Why a probe gave nothing.

    :param silent: the system did not answer at all, so that nothing is known of it
    """

    kind: str
    message: str
    hint: str
    silent: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Trouble:
        """Say what *error* means.  An error that is none of ours is a bug of the probe, and is told as such."""
        if isinstance(error, MainstayError):
            return cls(
                kind=type(error).__name__,
                message=error.message,
                hint=error.hint,
                silent=isinstance(error, (Unreachable, Unauthorized)),
            )
        said = " ".join(str(error).split())[:300]
        return cls(
            kind=type(error).__name__,
            message=f"it failed: {type(error).__name__}{f': {said}' if said else ''}",
            hint="this is a bug of Mainstay, or a system that answers nonsense: report it with this message",
        )


class Look(Struct, frozen=True, kw_only=True):
    """What one probe has given.

    :param subject: what was looked at, ``<system>/<name>``: a target, ``airflow/main``, ``backups/postgres/main``
    :param metrics: what the probe gives on a healthy system
    :param seconds: how long it took
    :param sometimes: what it gives only when there is something to tell
    :param whole: it stands for all of its system, of which nobody has looked at anything
    """

    subject: str
    probe: str
    source: str
    metrics: tuple[str, ...]
    at: datetime
    seconds: float
    readings: tuple[Reading, ...] = ()
    sometimes: tuple[str, ...] = ()
    trouble: Trouble | None = None
    whole: bool = False

    @property
    def system(self) -> str:
        """The system of its subject."""
        return self.subject.partition("/")[0]

    def owes(self, *metrics: str) -> bool:
        """Say whether it failed, and might else have given a metric that begins so.  One that could not even be opened owes all."""
        given = (*self.metrics, *self.sometimes)
        if self.trouble is None:
            return False
        return any(one.startswith(metrics) for one in given) if given else self.system in _systems(metrics)


def _systems(metrics: Sequence[str]) -> set[str]:
    return {metric.partition(".")[0] for metric in metrics}


def nonsense(readings: Sequence[Reading]) -> Reading | None:
    """Give the first reading whose value is no number."""
    return next((reading for reading in readings if not math.isfinite(reading.value)), None)


def pack(looks: Sequence[Look]) -> str:
    """Write looks as one short text, for a task's result: a few kilobytes for hundreds of readings.

    Not as JSON, which has no word for what is no number: one such reading would take all others along.
    """
    return base64.b64encode(zlib.compress(msgspec.msgpack.encode(list(looks)))).decode()


def unpack(text: str) -> list[Look]:
    """Read back what :func:`pack` wrote.

    :raises Corrupt: when it is something else
    """
    try:
        return msgspec.msgpack.decode(zlib.decompress(base64.b64decode(text)), type=list[Look])
    except (ValueError, zlib.error) as error:
        raise Corrupt("what a task of the sweep handed on cannot be read", hint="clear the run's tasks") from error
