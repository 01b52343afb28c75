"""Reads the log that pgbench writes with --log: one line per transaction.

``client_id transaction_no time script_no time_epoch time_us [ schedule_lag ] [ retries ]``.  With --rate, *time* counts from the
scheduled start and *schedule_lag* is how much later than that it was sent; *time_epoch* and *time_us* say when it ended.  Failed
transactions have the word ``failed`` in place of the time, those that were not even tried ``skipped`` (PostgreSQL 17, pgbench).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from include.engine.errors import Corrupt


class Transaction(Struct, frozen=True):
    """One transaction, in nanoseconds since *began*: when it was due, sent, and answered."""

    due: int
    sent: int
    answered: int
    kind: str
    error: str | None = None


def transactions(lines: Iterable[str], *, began_us: int, scripts: Sequence[str]) -> Iterator[Transaction]:
    """Read a log.

    :param began_us: microseconds since the epoch, from which all times count
    :param scripts: by the number that pgbench gives them
    :raises Corrupt: when a line is none of pgbench's
    """
    for line in lines:
        parts = line.split()
        try:
            ended = int(parts[4]) * 1_000_000 + int(parts[5]) - began_us
            kind = scripts[int(parts[3])] if len(scripts) > 1 else ""
            lag = int(parts[6])
            if not parts[2].isdigit():  # how long it took is not said: at least as long as it waited to be sent
                yield Transaction((ended - lag) * 1000, ended * 1000, ended * 1000, kind, parts[2])
                continue
            due = ended - int(parts[2])
            yield Transaction(due * 1000, (due + lag) * 1000, ended * 1000, kind)
        except (ValueError, IndexError) as error:
            raise Corrupt(
                f"pgbench has logged {line.strip()[:80]!r}, which is no line of its format",
                hint="run the load test again",
            ) from error
