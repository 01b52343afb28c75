"""The fields of the forms of load tests."""

from __future__ import annotations

from collections.abc import Sequence

from airflow.sdk import Param

from mainstay.params import SET_ID, one_or_all


def maybe_profile(known: Sequence[str]) -> Param:
    """Choose a load profile, or each system's steady one."""
    return one_or_all(
        known,
        title="Profile",
        description="What load, how long, and what must hold: a file of *include/config/load/*. Empty: the system's steady one.",
    )


def maybe_load_target(known: Sequence[str]) -> Param:
    """Choose what is loaded, or all that may be."""
    return one_or_all(
        known,
        title="Target",
        description="What is loaded, when the inventory allows it. Empty: every target that it allows, one after the other.",
    )


def kind() -> Param:
    """Choose which profile of each system is meant when none is named."""
    return Param(
        "steady",
        type="string",
        enum=["steady", "brief"],
        title="Kind",
        description_md="Without a profile: each system's *steady* one, or its *brief* one, which only sees whether it works.",
    )


def maybe_number(title: str, text: str) -> Param:
    """Give a positive number, or none."""
    return Param(None, type=["null", "number"], exclusiveMinimum=0, title=title, description_md=text)


def search() -> Param:
    """Look for the highest rate."""
    return Param(
        False,
        type="boolean",
        title="Search",
        description_md="Look for the highest rate that keeps the profile's gates: stepping up, then halving the distance.",
    )


def baseline() -> Param:
    """Name a load test to compare with."""
    return Param(
        None,
        type=["null", "string"],
        pattern=SET_ID,
        title="Baseline",
        description_md="A load test such as *20261123T020000Z* to compare with. Empty: the last one of the same profile.",
    )


def maybe_reason() -> Param:
    """Say why, when a person asks."""
    return Param(None, type=["null", "string"], title="Reason", description_md="Why. It is kept with the result.")


def tasks() -> Param:
    """Give a number of mapped tasks."""
    return Param(
        100,
        type="integer",
        minimum=1,
        maximum=1000,
        title="Tasks",
        description_md="How many tasks that do nothing are run.",
    )
