"""What every DAG shares: who owns it, how it is retried, which pool it uses, when it runs.

Read at DAG parsing: it reads the inventory's YAML and nothing else.  An inventory with mistakes is an import error of every
DAG, which lists them all with their lines.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any

from airflow.providers.standard.exceptions import HITLTimeoutError
from airflow.sdk import Asset, CronTriggerTimetable, ExceptionRetryPolicy, RetryAction, RetryRule

from include.engine import load_wiring, lookout, wiring
from include.engine.errors import Misconfigured, PermanentError, TransientError
from include.engine.sections import AFTER_BACKUP

INVENTORY = wiring.load_inventory()
TARGETS = [str(target) for target in sorted(INVENTORY.targets)]
MIRRORS = wiring.mirrors(INVENTORY)
WATCHED = lookout.systems(INVENTORY)  # what a sweep looks at, one task each
STREAMS = wiring.streams(INVENTORY)
LOAD_TARGETS = sorted(load_wiring.load_targets(INVENTORY))
LOAD_PROFILES = load_wiring.load_profiles()

# The longest that moving bytes may take.  The copy of one target stops itself at the target's own timeout; this is the
# end for a process that does not listen any more.
LONGEST = max(settings.timeout for settings in INVENTORY.targets.values()) + timedelta(minutes=5)


def _queue() -> str | None:
    queues = {settings.queue for settings in INVENTORY.targets.values()}
    if len(queues) > 1:
        named = ", ".join(sorted(str(queue) for queue in queues))
        raise Misconfigured(
            f"the targets name different queues ({named}), and one mapped task copies them all",
            hint="name the same queue for every target, or split the pipeline into two inventories",
        )
    return queues.pop()


QUEUE = _queue()  # whose workers are near the data; None for Airflow's default


class Pool(StrEnum):
    """What production must not feel; the slots are in ``include/config/pools.json``."""

    BACKUP = "backup"
    RESTORE = "restore"
    PROBE = "probe"
    LOAD = "load"
    STREAM = "stream"


class Tag(StrEnum):
    """All tags that a DAG may carry."""

    BACKUP = "backup"
    RESTORE = "restore"
    DRILL = "drill"
    UPKEEP = "upkeep"
    MIRROR = "mirror"
    SWEEP = "sweep"
    CHECKLIST = "checklist"
    STREAM = "stream"
    LOAD = "load"
    POSTGRES = "system:postgres"
    CASSANDRA = "system:cassandra"
    KAFKA = "system:kafka"
    SPARK = "system:spark"
    TIER_1 = "tier:1"  # a person is woken
    TIER_2 = "tier:2"  # a person looks the same day
    TIER_3 = "tier:3"  # a person looks in the week
    DANGER = "danger"  # writes to live systems


SYSTEM_TAGS = sorted({str(Tag(f"system:{target.system}")) for target in INVENTORY.targets})

ALONE = 4  # slots of the pool restore that a drill and a fail-over take: all of them, and a part of a set takes one

# The engine's errors say whether trying again helps; any other exception is a bug or a killed worker, and is retried.
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=PermanentError, action=RetryAction.FAIL, reason="a person must act: see the error's hint"),
        # Asked again, a question would stand for four days instead of one, and so would every other restore behind it.
        RetryRule(exception=HITLTimeoutError, action=RetryAction.FAIL, reason="nobody has answered in time"),
        RetryRule(exception=TransientError, action=RetryAction.RETRY, reason="trying again may help"),
    ]
)

DEFAULT_ARGS: dict[str, Any] = {
    "owner": INVENTORY.owner,
    "retries": 3,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": RETRY_POLICY,
    "execution_timeout": timedelta(minutes=30),
}


def on_schedule(cron: str | None, *, after: Asset | None = None) -> CronTriggerTimetable | Asset | None:
    """Run at *cron*, in UTC; by hand only when there is none; after each event of *after* when that is asked for.

    A DAG that is unpaused waits for its next time: without a start date and with no time to look back, Airflow does not make
    up for the run that it "missed".
    """
    if cron is None:
        return None
    if cron == AFTER_BACKUP:
        return after
    return CronTriggerTimetable(cron, timezone="UTC", run_immediately=timedelta(0))
