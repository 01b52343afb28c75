"""A restore that failed on its way: who goes on is told what stays, and nobody goes on with what was another wish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from include.engine.errors import PermanentError, Refused, Unreachable
from include.engine.model import DestinationKind, Verdict
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.landing import Landing
from include.engine.systems.cassandra.unfinished import Unfinished
from include.engine.verbs import restore
from tests.integration.cassandra.estate import TARGET, Estate, now, rows, saved_table

pytestmark = pytest.mark.integration

CONFIRMED: dict[str, Any] = {"confirm": "cassandra_admin"}


@pytest.fixture
def table(estate: Estate, keyspace: str, cql: Cql) -> str:
    return saved_table(estate, keyspace, cql)


def failing_after(work: Callable[..., None], error: Exception) -> Callable[..., None]:
    def fails(*arguments: Any) -> None:
        work(*arguments)
        raise error

    return fails


def warnings(estate: Estate, **wishes: Any) -> list[str]:
    plan = restore.plan(
        estate.pipeline(), TARGET, destination=DestinationKind.SERVER, server="cassandra_admin", clock=now, **wishes
    )
    return [text for text in plan.warnings if "goes on from there" in text]


def test_rows_are_replaced_when_that_is_asked_for_after_an_attempt_to_add_some_has_failed(
    estate: Estate, table: str, cql: Cql
) -> None:
    then = rows(cql, table)
    cql.rows(f"DELETE FROM {table} WHERE k = 1")
    cql.rows(f"INSERT INTO {table} (k, v) VALUES (1000, 'mine')")
    with pytest.MonkeyPatch.context() as once:
        once.setattr(Landing, "import_files", failing_after(Landing.import_files, PermanentError("no", hint="a test")))
        with pytest.raises(PermanentError, match="no"):
            estate.restore(append=True, **CONFIRMED)

    with pytest.raises(Refused, match=f"holds rows in {table}"):
        estate.restore()
    assert warnings(estate, **CONFIRMED) == []
    with pytest.MonkeyPatch.context() as once:  # and now it is this wish that was begun
        once.setattr(Landing, "import_files", failing_after(Landing.import_files, PermanentError("no", hint="a test")))
        with pytest.raises(PermanentError, match="no"):
            estate.restore(**CONFIRMED)
    assert len(warnings(estate, **CONFIRMED)) == 1
    restored = estate.restore(**CONFIRMED)

    assert restored.verdict is Verdict.PASS, restored.checks
    assert rows(cql, table) == then


def test_the_plan_of_who_goes_on_names_the_tables_that_are_not_emptied_again(
    estate: Estate, table: str, cql: Cql
) -> None:
    with pytest.MonkeyPatch.context() as once:
        once.setattr(Landing, "make_derived", failing_after(Landing.make_derived, Unreachable("slow", hint="a test")))
        with pytest.raises(Unreachable, match="slow"):
            estate.restore(**CONFIRMED)
    cql.rows(f"INSERT INTO {table} (k, v) VALUES (1000, 'since')")

    (told,) = warnings(estate, **CONFIRMED)
    assert f"{table} are not emptied again" in told
    assert "truncate them first" in told
    assert warnings(estate, append=True, **CONFIRMED) == []  # it empties nothing, whatever was begun

    cql.rows(f"TRUNCATE {table}", timeout=60)
    assert warnings(estate, **CONFIRMED) == []
    assert estate.restore(**CONFIRMED).verdict is Verdict.PASS


def test_a_note_that_cannot_be_removed_is_told(estate: Estate, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Unfinished) -> None:
        raise Unreachable("the store is away", hint="a test")

    monkeypatch.setattr(Unfinished, "forget", fails)
    assert estate.restore(**CONFIRMED).verdict is Verdict.PASS
    assert any("still in the bucket: the store is away" in text for text in estate.told.said)
    assert len(warnings(estate, **CONFIRMED)) == 1
