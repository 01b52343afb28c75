"""The fields of the forms of streaming jobs and of ingest."""

from __future__ import annotations

from collections.abc import Sequence

from airflow.sdk import Param


def stream(known: Sequence[str]) -> Param:
    """Choose a streaming job."""
    return Param(
        known[0],
        type="string",
        enum=list(known),
        title="Job",
        description_md="The streaming job, as the inventory declares it: *spark/name*.",
    )


def stream_action() -> Param:
    """Say what a streaming job is to do."""
    return Param(
        "stop",
        type="string",
        enum=["stop", "drain", "run"],
        title="Action",
        values_display={
            "stop": "stop: at once; a batch that is cut off is written again later",
            "drain": "drain: stop after all that is there now",
            "run": "run: again, and forget how it ended before",
        },
        description_md="It holds until another: nobody launches a job that is wished to rest.",
    )


def number(default: int, what: str) -> Param:
    """Give a number of records."""
    return Param(
        default,
        type="integer",
        minimum=0,
        maximum=1_000_000,
        title=what,
        description_md=f"How many {what.lower()} to send.",
    )


def seed() -> Param:
    """Choose what is generated."""
    return Param(1, type="integer", title="Seed", description_md="The same seed makes the same users.")


def api(default: str) -> Param:
    """Say where real records come from."""
    return Param(
        default,
        type=["null", "string"],
        title="API",
        description_md="A Random User API. When it does not answer, or is empty, users are made from the seed.",
    )
