"""The forms: what they accept, and that the engine would accept it too."""

from __future__ import annotations

from typing import Any

import pytest

from tests import airflow_env  # isort: skip  # before the first import of Airflow

from airflow.sdk import Param
from airflow.sdk.exceptions import ParamValidationError

from include.engine.model import DestinationKind
from include.engine.verbs import restore
from mainstay import params

assert airflow_env.HOME.is_dir()
KNOWN = ["kafka/main", "postgres/main"]


def test_a_form_asks_for_the_reason_that_the_engine_demands() -> None:
    assert params.MINIMUM_REASON == restore.MINIMUM_REASON


@pytest.mark.parametrize(
    ("param", "value"),
    [
        (params.reason(), "too short"),
        (params.targets(KNOWN), ["postgres/none"]),
        (params.target(KNOWN), ""),
        (params.set_id(), "../../sets"),
        (params.backup(), "yesterday"),
        (params.path(), "relative/path"),
        (params.server(["standby"]), "standby; rm"),
        (params.days(30, "logs"), 0),
        (params.dry_run(), "no"),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_form(param: Param, value: Any) -> None:
    with pytest.raises(ParamValidationError):
        param.resolve(value)


@pytest.mark.parametrize(
    ("param", "value"),
    [
        (params.reason(), "the standby was lost"),
        (params.targets(KNOWN), []),
        (params.targets(KNOWN), KNOWN),
        (params.maybe_target(KNOWN), None),
        (params.set_id(), "20261123T020000Z"),
        (params.backup(), None),
        (params.server(["standby"]), None),
        (params.confirm(), None),
    ],
)
def test_what_makes_sense_is_accepted(param: Param, value: Any) -> None:
    assert param.resolve(value) == value


def test_a_dangerous_form_is_dry_by_default_and_offers_every_destination() -> None:
    assert params.dry_run().resolve() is True
    assert params.destination().schema["enum"] == [str(kind) for kind in DestinationKind]
