"""Nodes and processes that die in the middle: nothing counts that was not finished, and the next try is whole."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import msgspec
import pytest

from include.engine.contracts import Stop
from include.engine.errors import PermanentError, TransientError, Unreachable
from include.engine.model import DestinationKind, Verdict
from include.engine.sandbox.home import Home
from include.engine.store.proven import LastWords
from include.engine.systems.cassandra import snapshot
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.verbs import backup, drill, restore, verify
from tests.estate import eventually
from tests.integration.cassandra.children import beside, kill_when
from tests.integration.cassandra.estate import TARGET, Estate, Told, make_table, now, rows
from tests.sshd import Sshd

pytestmark = pytest.mark.integration

Result = TypeVar("Result")

# begun in a process of its own, and killed before the first of its checks
THAT_STAYS = """
from include.engine.systems.cassandra.restoration import Restoration
Restoration._checks = lambda self: (Path({begun!r}).touch(), time.sleep(600))
plan = restore.plan(pipeline, TARGET, destination=DestinationKind.SANDBOX, clock=now)
restore.restore(pipeline, plan, reason="a test asks for it", by="tests", progress=Told(), stop=Stop(), clock=now)
"""


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    (tmp_path / "sshd").mkdir()
    server = Sshd(tmp_path / "sshd")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def table(keyspace: str, cql: Cql) -> str:
    make_table(cql, f"{keyspace}.t", count=50)
    return f"{keyspace}.t"


def test_a_node_that_vanishes_while_it_sends_is_told_and_the_next_try_goes_on(
    estate: Estate, keyspace: str, cql: Cql, sshd: Sshd
) -> None:
    for n in range(4):
        make_table(cql, f"{keyspace}.t{n}", count=10, size=100_000)
    name = estate.name()
    ways = {**sshd.settings, "run_as": None, "keyspaces": [keyspace]}
    slow = estate.pipeline(bandwidth="256KiB", uploads_at_once=1, **ways)
    answering(lambda: backup.freeze(slow, name, [TARGET], clock=now))
    told: list[Exception] = []

    def send() -> None:
        try:
            backup.copy(slow, name, TARGET, progress=Told(), stop=Stop(), clock=now)
        except TransientError as error:
            told.append(error)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        eventually(lambda: any(size > 500_000 for size in estate.objects().values()), what="one file is there")
    finally:
        sshd.die()
        sending.join(timeout=60)
    assert [type(error) for error in told] == [Unreachable]
    assert "ssh to 127.0.0.1 failed" in str(told[0])
    assert slow.catalog.find(TARGET, name) is None
    before = estate.objects()

    sshd.start()
    quick = estate.pipeline(**ways)
    manifest = answering(lambda: backup.copy(quick, name, TARGET, progress=Told(), stop=Stop(), clock=now))
    backup.release(quick, name, [TARGET])
    stored = estate.objects()
    assert {key: stored[key] for key in before} == before
    assert {f"p/{entry.key}": entry.bytes for entry in manifest.entries} == stored
    assert estate.restore(rename={keyspace: f"{keyspace}_x"}).verdict is Verdict.PASS
    assert rows(cql, f"{keyspace}_x.t3") == rows(cql, f"{keyspace}.t3")
    cql.rows(f"DROP KEYSPACE {keyspace}_x", timeout=60)


def answering(work: Callable[[], Result]) -> Result:
    """Do *work*; again, while the sshd that was just started does not answer."""
    done: list[Result] = []

    def tried() -> bool:
        try:
            done.append(work())
        except Unreachable:
            return False
        return True

    eventually(tried, what="sshd answers")
    return done[0]


@pytest.mark.parametrize("jolokia", [True, False], ids=["jolokia", "nodetool"])
def test_a_snapshot_of_our_name_that_is_there_is_told_and_the_next_try_takes_another(
    estate: Estate, table: str, cql: Cql, monkeypatch: pytest.MonkeyPatch, jolokia: bool
) -> None:
    name, keyspace = estate.name(), table.partition(".")[0]
    pipeline = estate.pipeline(keyspaces=[keyspace], jolokia=jolokia)

    class Tag:
        hex = "0" * 32

    with monkeypatch.context() as same:
        same.setattr(snapshot, "uuid", SimpleNamespace(uuid4=Tag))
        tag = f"mainstay-{name}-{TARGET.name}-00000000"
        estate.server.nodes[0].nodetool("snapshot", "-t", tag, "--", keyspace)
        with pytest.raises(PermanentError) as told:
            backup.freeze(pipeline, name, [TARGET], clock=now)
        assert "already exists" in f"{told.value.message} {told.value.hint}"
    assert pipeline.catalog.find_freeze(name) is None
    manifest = estate.backup(name, keyspaces=[keyspace], jolokia=jolokia)
    assert manifest.cut.position != tag
    assert not [row for row in cql.rows("SELECT name FROM system_views.snapshots") if name in row["name"]]


def test_a_snapshot_whose_answer_got_lost_is_not_asked_for_twice(
    estate: Estate, table: str, cql: Cql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection goes after the node has done what it was told: asked again, it would say that the snapshot is there."""
    name, keyspace = estate.name(), table.partition(".")[0]
    request, answer = http.client.HTTPConnection.request, http.client.HTTPConnection.getresponse
    lost: list[http.client.HTTPConnection] = []

    def noting(self: http.client.HTTPConnection, method: str, url: str, body: bytes, headers: dict[str, str]) -> None:
        if b"takeSnapshot" in body and not lost:
            lost.append(self)
        request(self, method, url, body, headers)

    def losing(self: http.client.HTTPConnection) -> http.client.HTTPResponse:
        found = answer(self)
        if self in lost:
            found.read()
            raise ConnectionResetError(104, "Connection reset by peer")
        return found

    monkeypatch.setattr(http.client.HTTPConnection, "request", noting)
    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", losing)
    with pytest.raises(Unreachable, match="did not answer"):
        backup.freeze(estate.pipeline(keyspaces=[keyspace]), name, [TARGET], clock=now)
    assert len(lost) == 1
    assert estate.backup(name, keyspaces=[keyspace]).entries
    assert not [row for row in cql.rows("SELECT name FROM system_views.snapshots") if name in row["name"]]


def test_a_killed_verification_records_nothing_and_the_next_is_whole(estate: Estate, table: str) -> None:
    manifest = estate.backup(keyspaces=[table.partition(".")[0]])
    begun = estate.directory / "begun"
    child = beside(
        estate,
        "from include.engine.verbs import verify\n"
        "from include.engine.store.vault import VaultReader\n"
        "stored = VaultReader.stored\n"
        "def slow(self, entry, **wishes):\n"
        "    for chunk in stored(self, entry, **wishes):\n"
        f"        Path({str(begun)!r}).touch()\n"
        "        time.sleep(600)\n"
        "        yield chunk\n"
        "VaultReader.stored = slow\n"
        f"verify.verify_parts(pipeline, {manifest.id!r}, progress=Told(), stop=Stop(), clock=now)",
    )
    kill_when(child, begun.exists)
    pipeline = estate.pipeline()
    assert LastWords(pipeline.catalog).of(TARGET, manifest.id) is None
    (proof,) = verify.verify_parts(pipeline, manifest.id, progress=Told(), stop=Stop(), clock=now, trust=verify.LATELY)
    assert (proof.verdict, proof.bytes) == (Verdict.PASS, manifest.bytes)


def test_a_killed_drill_proves_nothing_and_the_next_clears_up_after_it(estate: Estate, table: str, home: Home) -> None:
    estate.backup(keyspaces=[table.partition(".")[0]])
    pipeline = estate.pipeline()
    begun = estate.directory / "begun"
    child = beside(
        estate,
        "from include.engine.verbs import drill\n"
        "from include.engine.systems.cassandra.restoration import Restoration\n"
        f"Restoration._checks = lambda self: (Path({str(begun)!r}).touch(), time.sleep(600))\n"
        "drill.drill(pipeline, drill.choose(pipeline), drill_id='d1', progress=Told(), stop=Stop(), clock=now)",
    )

    def drills(pid: int) -> set[str]:
        """Those that a process has begun: other tests of this machine have drills, too."""
        found = set()
        for sandbox in home.sandboxes():
            with suppress(OSError):  # it goes while we look
                owner = msgspec.json.decode((sandbox.root / "owner.json").read_bytes())
                found |= {sandbox.name} if owner["pid"] == pid and sandbox.name.startswith("drill-main-") else set()
        return found

    before = drills(os.getpid())
    kill_when(child, begun.exists)
    (left,) = drills(child.pid)
    assert home.sandbox(left).running()  # the node outlives the process that started it
    assert pipeline.catalog.drills() == []
    report = drill.drill(pipeline, drill.choose(pipeline), drill_id="d1", progress=Told(), stop=Stop(), clock=now)
    assert {check.name: check.detail for check in report.checks if check.verdict is not Verdict.PASS} == {}
    assert [found.id for found in pipeline.catalog.drills()] == ["d1"]
    assert (drills(child.pid), drills(os.getpid())) == (set(), before)


def test_a_sandbox_whose_restore_was_killed_says_so_until_its_retry_has_ended(
    estate: Estate, table: str, cql: Cql, home: Home
) -> None:
    """The node outlives who restores, and may answer with a part of the rows."""
    estate.backup(keyspaces=[table.partition(".")[0]])
    begun = estate.directory / "begun"
    plan = restore.plan(estate.pipeline(), TARGET, destination=DestinationKind.SANDBOX, clock=now)
    sandbox = home.sandbox(plan.destination.name)
    try:
        child = beside(estate, THAT_STAYS.format(begun=str(begun)))
        kill_when(child, lambda: begun.exists() and sandbox.unfinished and sandbox.used)
        assert sandbox.running()
        assert (sandbox.unfinished, sandbox.used) == (True, False)
        restored = estate.restore(destination=DestinationKind.SANDBOX)
        assert restored.detail["sandbox"] == sandbox.name
        assert sandbox.running()
        assert not sandbox.unfinished
        with CassandraServer(sandbox, "restored", jolokia=False).connect() as there:
            assert rows(there, table) == rows(cql, table)
    finally:
        sandbox.destroy()
