"""Rolls a restored data directory forward to a point, watches it, and says what went wrong in words that help."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from include.engine.contracts import Progress, Stop
from include.engine.errors import Corrupt, MainstayError, NotFound, TransientError, Unreachable, Unsupported
from include.engine.full_disks import FULL, says_full
from include.engine.model import PointKind, RecoveryPoint
from include.engine.systems.postgres.restored import RestoredServer
from include.engine.systems.postgres.spool import WalSpool
from include.engine.systems.postgres.untar import full_or_broken

_POLL = 0.05
_FOREVER = 30 * 24 * 3600.0  # seconds; replay takes what it takes, and a stop is always heard
_TARGETS = ("", "_time", "_lsn", "_name", "_xid")
_NO_LOCALE = re.compile(
    r'database locale is incompatible with operating system(?:[^"]*"(?P<locale>[^"]*)")?'
    r'|invalid value for parameter "lc_[a-z]+": "(?P<setting>[^"]*)"'
    r"|ICU is not supported in this build"
)
_TAIL = 5  # lines of a log, in a hint
_LAST_COMMIT = re.compile(r"last completed transaction was at log time (\S+ \S+)")


class EndedEarly(NotFound):
    """The archived log ends before the point; everything in it was replayed."""


def recovery_settings(
    point: RecoveryPoint, *, timeline: int, restore_command: str, pause: bool = False, inclusive: bool = True
) -> dict[str, str]:
    """Give the settings that make PostgreSQL recover to *point*.  They go to the command line and leave no trace.

    :param timeline: to recover along
    :param pause: stay read-only at the point instead of opening
    :param inclusive: whether the transaction at the point is part of it
    """
    settings = {f"recovery_target{kind}": "" for kind in _TARGETS}  # what the source's own configuration may say
    chosen = {
        PointKind.LATEST: {},
        PointKind.BACKUP: {"recovery_target": "immediate"},
        PointKind.TIME: {"recovery_target_time": point.time.isoformat(sep=" ") if point.time else ""},
        PointKind.POSITION: {"recovery_target_lsn": point.value},
        PointKind.NAME: {"recovery_target_name": point.value},
    }[point.kind]
    for name in chosen:  # last on the command line: PostgreSQL refuses a second target, even an empty one after it
        del settings[name]
    return {
        **settings,
        **chosen,
        "recovery_target_inclusive": "on" if inclusive else "off",
        "recovery_target_action": "pause" if pause else "promote",
        "recovery_target_timeline": str(timeline),
        "restore_command": restore_command,
        "recovery_end_command": "",
        "archive_cleanup_command": "",
        "recovery_min_apply_delay": "0",
        "hot_standby": "on",
        "log_min_messages": "info",
        "lc_messages": "C",  # we read the log
    }


def explain(log: str, point: RecoveryPoint, data: Path) -> MainstayError | None:
    """Say why recovery failed, judging by the server's log of this start; None when the log does not tell.

    :param data: the data directory, for messages, and to look how full its disk is
    """
    if "recovery ended before configured recovery target was reached" in log:
        last = last_commit(log)
        until = (
            f"the last transaction in the log is of {last.isoformat()}" if last else "it holds no transaction at all"
        )
        return EndedEarly(
            f"the archived log ends before {point}: {until}",
            hint="what was committed between the two may be missing: recover to that time or to `latest`; when the server was "
            "idle, its archiver states within a minute that nothing is, and the same restore succeeds",
        )
    if "requested recovery stop point is before consistent recovery point" in log:
        return NotFound(
            f"{point} lies before the end of the backup that the restore starts from",
            hint="name an earlier backup with --backup; if the source's clock is ahead of ours, the choice by time errs",
        )
    if re.search(r"requested timeline \d+ (is not a child|does not contain)", log):
        return NotFound(
            "the archived history says that the backup does not belong to the timeline that was to be followed",
            hint="run the WAL audit: a history file is missing or of another cluster",
        )
    if says_full(log):
        return full_or_broken(data, _line(log, next(words for words in FULL if words in log)))
    if (lacking := lacks_locale(log)) is not None:
        return lacking
    for fatal in ("PANIC", "could not locate a valid checkpoint record", "invalid checkpoint record"):
        if fatal in log:
            return Corrupt(
                f"PostgreSQL could not recover: {_line(log, fatal)}",
                hint="restore from another backup of this target, and take a new full backup now",
            )
    return None


def lacks_locale(said: str) -> Unsupported | None:
    """Say that this machine lacks a locale or ICU that the cluster was made with, when PostgreSQL says so.  Pure."""
    found = _NO_LOCALE.search(said)
    if found is None:
        return None
    locale = found["locale"] or found["setting"]
    what = f"the locale {locale}" if locale else "the ICU library"
    return Unsupported(
        f"the cluster needs {what}, which this machine has not: {found[0]}",
        hint="install it (Debian: locales-all; a PostgreSQL built with ICU; docs/postgresql.md) and restore again: nothing is "
        "wrong with the backup",
    )


def last_commit(log: str) -> datetime | None:
    """Give the time of the last transaction that was replayed, as the server's log says at the end of recovery."""
    found = _LAST_COMMIT.findall(log)
    try:
        return datetime.fromisoformat(found[-1]).astimezone(UTC) if found else None
    except ValueError:
        return None


def _line(log: str, word: str) -> str:
    return next((line.strip() for line in reversed(log.splitlines()) if word in line), word)


class Recovery:
    """One start of a restored server, until it has reached its point.

    :param point: for messages
    """

    def __init__(
        self, server: RestoredServer, spool: WalSpool, *, point: RecoveryPoint, progress: Progress, stop: Stop
    ) -> None:
        self.server, self.spool, self.point = server, spool, point
        self.progress, self.stop = progress, stop
        self._log_start = server.log.stat().st_size if server.log.exists() else 0

    def run(self, reached: Callable[[], bool]) -> None:
        """Start the server and wait until *reached*.

        :raises Corrupt: naming the object of the archive that is damaged
        :raises NotFound: when the log ends before the point
        :raises Interrupted: when the stop came; the server is gone then
        """
        self.stop.check()
        self.stop.on_stop(self.server.kill)
        counted = 0
        with ThreadPoolExecutor(1, thread_name_prefix="recovery") as pool:
            starting = pool.submit(self.server.start, timeout=_FOREVER)
            while True:
                counted = self._count(counted)
                if starting.done() and starting.exception() is not None:
                    raise self._failure(starting.exception())
                if starting.done() and self._reached(reached):
                    return
                time.sleep(_POLL)

    def log(self) -> str:
        """What the server has logged since this start."""
        try:
            with self.server.log.open("rb") as stream:
                stream.seek(self._log_start)
                return stream.read().decode(errors="replace")
        except OSError:
            return ""

    def _reached(self, reached: Callable[[], bool]) -> bool:
        try:
            return reached()
        except TransientError as error:
            # Connections are refused while recovery ends; only a dead server is a failure.
            if not self.server.running:
                raise self._failure(error) from error
            return False

    def _failure(self, error: BaseException | None) -> BaseException:
        self.stop.check()
        self.server.kill()
        if self.spool.failure is not None:
            return self.spool.failure
        log = self.log()
        explained = explain(log, self.point, self.server.data_directory) if isinstance(error, Unreachable) else None
        return explained or error or Unreachable("the server ended", hint=tail(self.server))

    def _count(self, counted: int) -> int:
        served = self.spool.served_bytes
        if served > counted:
            self.progress.advance(served - counted)
        return served


def is_primary(server: RestoredServer) -> bool:
    """Say whether recovery has ended and the server takes writes."""
    return _ask(server, "select not pg_is_in_recovery()")


def is_paused(server: RestoredServer) -> bool:
    """Say whether recovery has reached its point and waits there, read-only."""
    return _ask(server, "select pg_is_in_recovery() and pg_get_wal_replay_pause_state() = 'paused'")


def tail(server: RestoredServer) -> str:
    """Give the end of a server's log for a hint: the log goes with its sandbox, and nobody can read it afterwards."""
    try:
        lines = server.log.read_text(errors="replace").splitlines()[-_TAIL:]
    except OSError:
        lines = []
    return f"its log ended with: {' / '.join(line.strip() for line in lines)}" if lines else "it has logged nothing"


def _ask(server: RestoredServer, question: str) -> bool:
    import psycopg

    try:
        with server.connect() as connection:
            row = connection.execute(question).fetchone()
    except (psycopg.Error, Unreachable) as error:
        raise lacks_locale(str(error)) or Unreachable(
            f"{server.name} did not answer: {error}", hint=tail(server)
        ) from error
    return row is not None and bool(row[0])
