"""Restores beside each other, and what those leave that are killed: none takes another's files, and nothing stays for long."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from include.engine.contracts import Stop
from include.engine.errors import Contended
from include.engine.model import DestinationKind, Restored, RestorePlan, Verdict
from include.engine.systems.cassandra import clusters, fetch, node_scripts
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.landing import Landing
from include.engine.systems.cassandra.selection import Method
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.cassandra.sstableloader import Loader
from include.engine.systems.cassandra.transport import NodeTransport, transport_to
from include.engine.verbs import restore as restores
from tests.integration.cassandra.children import beside, kill_when
from tests.integration.cassandra.estate import TARGET, Estate, Told, now, rows, saved_table

pytestmark = pytest.mark.integration

SERVER = "cassandra_admin"


@pytest.fixture
def table(estate: Estate, keyspace: str, cql: Cql) -> str:
    return saved_table(estate, keyspace, cql)


@pytest.fixture
def copies(keyspace: str, cql: Cql) -> Iterator[list[str]]:
    """The names of two keyspaces to restore under."""
    names = [f"{keyspace}_x", f"{keyspace}_y"]
    yield names
    for name in names:
        cql.rows(f"DROP KEYSPACE IF EXISTS {name}", timeout=60)


@pytest.fixture
def node(estate: Estate) -> NodeTransport:
    settings = Settings.model_validate({"connection": "c", **estate.server.target_settings()})
    return transport_to(settings, "127.0.0.1")


@pytest.mark.parametrize("way", ["import", "sstableloader"])
def test_two_restores_of_one_backup_side_by_side_both_bring_every_row(
    estate: Estate, table: str, keyspace: str, copies: list[str], cql: Cql, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    then = rows(cql, table)
    pipeline = estate.pipeline()
    monkeypatch.setattr(clusters, "choose_method", lambda *_, **__: Method(way))
    plans = [
        restores.plan(
            pipeline, TARGET, destination=DestinationKind.SERVER, server=SERVER, rename={keyspace: copy}, clock=now
        )
        for copy in copies
    ]
    fetched, first_is_done = threading.Barrier(2), threading.Event()

    def both_first(work: Callable[..., int]) -> Callable[..., int]:
        def fetch_(*arguments: Any, **wishes: Any) -> int:
            size = work(*arguments, **wishes)
            fetched.wait(60)
            return size

        return fetch_

    for name in ("to_node", "to_here"):
        monkeypatch.setattr(fetch, name, both_first(getattr(fetch, name)))
    take, load = Landing.import_files, Loader.load

    def taken(self: Landing, directories: Any) -> None:
        if self.selection.keyspace(keyspace) == copies[1]:
            first_is_done.wait(60)
        take(self, directories)

    def loaded(self: Loader, folder: Path, into: str, **wishes: Any) -> None:
        if into == copies[1]:
            first_is_done.wait(60)
        load(self, folder, into, **wishes)

    monkeypatch.setattr(Landing, "import_files", taken)
    monkeypatch.setattr(Loader, "load", loaded)

    def run(plan: RestorePlan) -> Restored:
        try:
            return restores.restore(
                pipeline, plan, reason="a test asks for it", by="tests", progress=Told(), stop=Stop(), clock=now
            )
        finally:
            if plan is plans[0]:
                first_is_done.set()

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(run, plans))
    assert [one.verdict for one in done] == [Verdict.PASS, Verdict.PASS]
    assert [rows(cql, f"{copy}.t") for copy in copies] == [then, then]


def test_the_same_restore_is_not_done_twice_at_once(
    estate: Estate, table: str, keyspace: str, copies: list[str], cql: Cql, monkeypatch: pytest.MonkeyPatch
) -> None:
    then, wish = rows(cql, table), {keyspace: copies[0]}
    to_node, told = fetch.to_node, []

    def again(*arguments: Any, **wishes: Any) -> int:
        with pytest.raises(Contended, match="another process on this machine does the same restore") as refused:
            estate.restore(rename=wish)
        told.append(refused.value)
        return to_node(*arguments, **wishes)

    monkeypatch.setattr(fetch, "to_node", again)
    assert estate.restore(rename=wish).verdict is Verdict.PASS
    assert len(told) == 1
    assert rows(cql, f"{copies[0]}.t") == then


def test_an_attempt_whose_files_another_machine_has_taken_over_empties_nothing_and_leaves_them(
    estate: Estate, table: str, cql: Cql, node: NodeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = rows(cql, table)
    to_node, places = fetch.to_node, []

    def taken_over(files: Any, directory: str, *arguments: Any, **wishes: Any) -> int:
        size = to_node(files, directory, *arguments, **wishes)
        node.run(node_scripts.staging(directory, "another"), timeout=20)
        places.append(Path(directory))
        return size

    with monkeypatch.context() as once:
        once.setattr(fetch, "to_node", taken_over)
        with pytest.raises(Contended, match="another attempt at this restore has begun"):
            estate.restore(confirm=SERVER)
    assert rows(cql, table) == then
    assert any(places[0].rglob("*-Data.db"))
    assert estate.restore(confirm=SERVER).verdict is Verdict.PASS  # the last that begins has them
    assert not places[0].exists()


def test_a_folder_that_vanishes_while_tables_are_loaded_is_told_and_the_next_try_brings_every_row(
    estate: Estate, table: str, keyspace: str, copies: list[str], cql: Cql, monkeypatch: pytest.MonkeyPatch
) -> None:
    cql.rows(f"CREATE TABLE {keyspace}.u (k int PRIMARY KEY)")
    cql.many(f"INSERT INTO {keyspace}.u (k) VALUES (?)", [(n,) for n in range(50)])
    estate.backup(keyspaces=[keyspace])
    then = {name: rows(cql, f"{keyspace}.{name}") for name in "tu"}
    monkeypatch.setattr(clusters, "choose_method", lambda *_, **__: Method.LOADER)
    load = Loader.load

    def losing(self: Loader, folder: Path, *arguments: Any, **wishes: Any) -> None:
        shutil.rmtree(folder.with_name("u"))
        load(self, folder, *arguments, **wishes)

    with monkeypatch.context() as once:
        once.setattr(Loader, "load", losing)
        with pytest.raises(Contended, match=f"{keyspace}/u is not there any more"):
            estate.restore(rename={keyspace: copies[0]})
    assert estate.restore(rename={keyspace: copies[0]}).verdict is Verdict.PASS
    assert {name: rows(cql, f"{copies[0]}.{name}") for name in "tu"} == then


def test_a_restore_that_is_killed_after_it_has_emptied_a_table_and_before_it_could_note_that_brings_every_row_again(
    estate: Estate, table: str, cql: Cql
) -> None:
    then = rows(cql, table)
    estate.pipeline()
    emptied = estate.directory / "emptied"
    child = beside(
        estate,
        "from include.engine.systems.cassandra.restoration import Restoration\n"
        f"Restoration._note = lambda *_, **__: (Path({str(emptied)!r}).touch(), time.sleep(600))\n"
        "plan = restore.plan(pipeline, TARGET, destination=DestinationKind.SERVER, server='cassandra_admin', clock=now,"
        " confirm='cassandra_admin')\n"
        "restore.restore(pipeline, plan, reason='a test asks for it', by='tests', progress=Told(), stop=Stop(), clock=now)",
    )
    kill_when(child, emptied.exists)
    assert rows(cql, table) == []
    assert estate.restore(confirm=SERVER).verdict is Verdict.PASS
    assert rows(cql, table) == then


def test_the_next_restore_removes_what_killed_ones_left_on_the_node_a_day_ago(
    estate: Estate, table: str, keyspace: str, copies: list[str], node: NodeTransport
) -> None:
    top = estate.server.nodes[0].staging
    old, young, others = (top / name for name in ("mainstay-restore-old", "mainstay-restore-young", "others"))
    made = "; ".join(f"mkdir -p '{path}/h' && touch '{path}/h/f'" for path in (old, young, others))
    aged = "; ".join(f"touch -d '25 hours ago' '{path}' '{path}/h'" for path in (old, young, others))
    node.run(f"{made}; {aged}; touch -d '25 hours ago' '{old}/h/f' '{others}/h/f'", timeout=20)
    try:
        estate.restore(rename={keyspace: copies[0]})
        assert not old.exists()
        assert young.exists()  # a file in it was written today
        assert others.exists()
    finally:
        node.run(f"rm -rf '{young}' '{others}'", timeout=20)
