"""What a restore cannot do is refused before it empties anything: the rows that are there stay."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from include.engine.contracts import Stop
from include.engine.errors import Contended, MainstayError, NotFound, PermanentError, Refused, Unsupported
from include.engine.model import DestinationKind, RestorePlan, Verdict
from include.engine.systems.cassandra import client, clusters, fetch
from include.engine.systems.cassandra.client import Cql, Node
from include.engine.systems.cassandra.selection import Method
from include.engine.verbs import restore as restores
from include.engine.verbs.pipeline import Pipeline
from tests.integration.cassandra.estate import TARGET, Estate, Told, now, rows, saved_table

pytestmark = pytest.mark.integration

SERVER = "cassandra_admin"


@pytest.fixture
def table(estate: Estate, keyspace: str, cql: Cql) -> str:
    return saved_table(estate, keyspace, cql)


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come by sstableloader, as into another ring."""
    monkeypatch.setattr(clusters, "choose_method", lambda *_, **__: Method.LOADER)


def planned(pipeline: Pipeline) -> RestorePlan:
    return restores.plan(pipeline, TARGET, destination=DestinationKind.SERVER, server=SERVER, confirm=SERVER, clock=now)


def carried_out(pipeline: Pipeline, plan: RestorePlan) -> None:
    restores.restore(pipeline, plan, reason="a test asks for it", by="tests", progress=Told(), stop=Stop(), clock=now)


def path_without(program: str, directory: Path) -> str:
    """A directory that stands for a PATH on which there is everything but one program."""
    directory.mkdir()
    for place in ("/bin", "/usr/bin"):
        for found in Path(place).iterdir():
            if found.name != program and not (directory / found.name).exists():
                (directory / found.name).symlink_to(found)
    assert shutil.which(program, path=str(directory)) is None
    return str(directory)


def test_the_plan_refuses_sstableloader_over_tls(
    estate: Estate, table: str, loading: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = estate.connections.known[SERVER]
    estate.connections.known[SERVER] = msgspec.structs.replace(connection, extra={"tls_ca_file": "ca.pem"})
    monkeypatch.setattr(client, "_tls", lambda _: None)  # the node here speaks without
    with pytest.raises(Unsupported, match="not set up for TLS"):
        planned(estate.pipeline())


@pytest.mark.parametrize("lacking", ["jars", "java", "a java that works"])
def test_a_machine_without_sstableloader_costs_no_row(
    estate: Estate, table: str, loading: None, cql: Cql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    then = rows(cql, table)
    if lacking == "jars":
        monkeypatch.setenv("CASSANDRA_HOME", str(tmp_path))
    else:
        monkeypatch.setenv("PATH", path_without("java", tmp_path / "bin"))
    if lacking == "a java that works":
        (tmp_path / "bin" / "java").write_text("#!/bin/sh\necho 'too old' >&2\nexit 1\n")
        (tmp_path / "bin" / "java").chmod(0o755)
    expected = PermanentError if lacking == "a java that works" else NotFound
    with pytest.raises(expected, match=r"java failed|apache-cassandra|no java"):
        estate.restore(confirm=SERVER)
    assert rows(cql, table) == then


def test_a_nodetool_that_does_not_work_is_named_and_costs_no_row(estate: Estate, table: str, cql: Cql) -> None:
    then = rows(cql, table)
    nodes = estate.server.target_settings()["nodes"]
    nodes["127.0.0.1"]["nodetool"] = ["/nowhere/nodetool"]
    with pytest.raises(PermanentError, match=r"nodetool does not work on 127\.0\.0\.1") as told:
        estate.restore(pipeline=estate.pipeline(nodes=nodes), confirm=SERVER)
    assert "correct nodetool in the inventory" in told.value.hint
    assert rows(cql, table) == then


def test_a_node_without_curl_is_told_to_get_it(
    estate: Estate, table: str, cql: Cql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = rows(cql, table)
    tmp_path.chmod(0o755)
    monkeypatch.setenv("PATH", path_without("curl", estate.server.nodes[0].directory / f"bin-{os.urandom(3).hex()}"))
    with pytest.raises(PermanentError) as told:
        estate.restore(confirm=SERVER)
    assert "curl is not installed on this node: install it" in told.value.hint
    assert rows(cql, table) == then


def test_a_column_that_was_dropped_since_is_no_column_of_the_backup(estate: Estate, table: str, cql: Cql) -> None:
    then = rows(cql, table)
    for change in ("DROP w", "ADD w int"):
        cql.rows(f"ALTER TABLE {table} {change}", timeout=60)
        with pytest.raises(Refused, match=f"{table} of {SERVER} has dropped w since") as told:
            estate.restore(confirm=SERVER)
        assert "drop the table, and the restore makes it as it was" in told.value.hint
        assert len(rows(cql, table)) == 50
    cql.rows(f"DROP TABLE {table}", timeout=60)
    assert estate.restore(confirm=SERVER).verdict is Verdict.PASS
    assert rows(cql, table) == then


def test_a_column_that_was_dropped_before_the_backup_and_added_again_comes_back_with_its_new_values(
    estate: Estate, table: str, cql: Cql
) -> None:
    cql.rows(f"ALTER TABLE {table} DROP w", timeout=60)
    cql.rows(f"ALTER TABLE {table} ADD w int", timeout=60)
    cql.rows(f"UPDATE {table} SET w = 7 WHERE k = 7")
    then = rows(cql, table)
    estate.backup(keyspaces=[table.partition(".")[0]])
    assert estate.restore(confirm=SERVER).verdict is Verdict.PASS  # the same was dropped: nothing is in the way
    cql.rows(f"DROP TABLE {table}", timeout=60)
    assert estate.restore(confirm=SERVER).verdict is Verdict.PASS
    assert rows(cql, table) == then


def test_a_column_that_is_dropped_between_plan_and_restore_costs_no_row(estate: Estate, table: str, cql: Cql) -> None:
    pipeline = estate.pipeline()
    plan = planned(pipeline)
    assert any("rows with a TTL kept ageing" in told for told in plan.warnings)
    cql.rows(f"ALTER TABLE {table} DROP w", timeout=60)
    then = rows(cql, table)
    with pytest.raises(Refused, match="has dropped w since"):
        carried_out(pipeline, plan)
    assert rows(cql, table) == then != []


def then_do(work: Callable[..., int], after: Callable[[Any], None]) -> Callable[..., int]:
    """Let *after* happen with the directory once the files are fetched."""

    def done(files: Any, directory: Any, *arguments: Any, **wishes: Any) -> int:
        size = work(files, directory, *arguments, **wishes)
        after(directory)
        return size

    return done


@pytest.mark.parametrize("way", ["to_node", "to_here"])
def test_files_that_vanish_after_they_were_fetched_cost_no_row(
    estate: Estate, table: str, cql: Cql, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    then = rows(cql, table)

    def lose_one(directory: str | Path) -> None:
        next(Path(directory).rglob("*-Data.db")).unlink()

    method = Method.LOADER if way == "to_here" else Method.IMPORT
    monkeypatch.setattr(clusters, "choose_method", lambda *_, **__: method)
    with monkeypatch.context() as once:
        once.setattr(fetch, way, then_do(getattr(fetch, way), lose_one))
        with pytest.raises(Contended, match=r"1 of .* files that were fetched to .* are not there any more"):
            estate.restore(confirm=SERVER)
    assert rows(cql, table) == then
    assert estate.restore(confirm=SERVER).verdict is Verdict.PASS
    assert rows(cql, table) == then


def newcomer(node: Node) -> Node:
    return msgspec.structs.replace(node, host_id="f" * 36, address="127.0.0.9", tokens=("17",))


@pytest.mark.parametrize(
    ("method", "expected", "says"),
    [
        (Method.IMPORT, Refused, "not the one that the restore was planned for, 127.0.0.9 has joined it"),
        (Method.LOADER, Contended, "has changed while files were fetched"),
    ],
    ids=["import", "sstableloader"],
)
def test_a_node_that_joins_while_files_are_fetched_costs_no_row(
    estate: Estate,
    table: str,
    cql: Cql,
    monkeypatch: pytest.MonkeyPatch,
    method: Method,
    expected: type[MainstayError],
    says: str,
) -> None:
    then = rows(cql, table)
    ring = Cql.ring

    def join(_: object) -> None:
        monkeypatch.setattr(Cql, "ring", lambda self: (*ring(self), newcomer(ring(self)[0])))

    way = "to_here" if method is Method.LOADER else "to_node"
    monkeypatch.setattr(clusters, "choose_method", lambda *_, **__: method)
    monkeypatch.setattr(fetch, way, then_do(getattr(fetch, way), join))
    with pytest.raises(expected, match=says):
        estate.restore(confirm=SERVER)
    assert rows(cql, table) == then


def test_a_retry_of_an_import_finds_the_node_that_has_joined(
    estate: Estate, table: str, cql: Cql, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = estate.pipeline()
    plan, then, ring = planned(pipeline), rows(cql, table), Cql.ring
    monkeypatch.setattr(Cql, "ring", lambda self: (*ring(self), newcomer(ring(self)[0])))
    monkeypatch.setattr("include.engine.systems.cassandra.restoration.require_all_up", lambda *_: None)
    with pytest.raises(Refused, match="plan the restore again"):
        carried_out(pipeline, plan)
    assert rows(cql, table) == then
