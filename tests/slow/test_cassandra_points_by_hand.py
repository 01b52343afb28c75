"""The text in a set whose cluster archives its commit logs is followed to the letter, to a point in time."""

from __future__ import annotations

import hashlib
import re
import subprocess
import textwrap
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from include.engine.contracts import Stop
from include.engine.model import Manifest
from include.engine.sandbox.accounts import own_tree
from include.engine.sandbox.home import Sandbox
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.object_store.server import ObjectStoreServer
from tests.estate import eventually
from tests.integration.cassandra.estate import Estate, now, rows
from tests.integration.cassandra.test_by_hand import blocks, stock_tools
from tests.integration.cassandra.test_point_in_time import Logging, archiving, estate, fill_a_segment

__all__ = ["archiving", "estate"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def empty(sandbox: Sandbox) -> Iterator[CassandraServer]:
    server = CassandraServer(sandbox, "by-hand", jolokia=False).start()
    yield server
    server.stop()


def test_the_text_leads_to_a_point_between_two_backups(
    estate: Logging, empty: CassandraServer, object_store: ObjectStoreServer, tmp_path: Path
) -> None:
    manifest, point, then = written_around_a_point(estate)
    text = object_store.client().get_object(Bucket=estate.bucket, Key=f"p/sets/{manifest.id}/RESTORE.md")
    told = text["Body"].read().decode()
    there = Estate(empty, object_store, estate.bucket, tmp_path)
    fetch, tables, load, _, finish = blocks(told, there)
    make_files, run_them = tables.rsplit("\n", 2)[0], tables.splitlines()[-1]
    tools = stock_tools(there, manifest, tmp_path)

    follow(fetch + make_files, tmp_path, tools)
    with_ids(tmp_path / "tables.cql", told)
    follow(f"{run_them}\n{load}", tmp_path, tools)
    empty.nodes[0].nodetool("drain")
    empty.stop()
    directories = fetched_logs(told, estate, empty, manifest)
    empty.commitlog_archiving = configuration(told, directories, point)
    empty.java_options = ("-Dcassandra.replayList=shop.orders,shop.later",)
    empty.start(timeout=300)
    assert "Log replay complete" in empty.nodes[0].log.read_text()
    follow(finish, tmp_path, tools)
    with empty.connect(timeout=60) as cql:
        assert rows(cql, "shop.orders") == then
        assert rows(cql, "shop.later") == ['{"k": 1}']


def written_around_a_point(estate: Logging) -> tuple[Manifest, datetime, list[str]]:
    """Back up, write on, and delete after a point: give the backup, the point, and the rows of then."""
    shipper = estate.shipper()
    with estate.server.connect() as cql:
        cql.many("INSERT INTO shop.orders (k, v) VALUES (?, ?)", [(n, f"before {n}") for n in range(100)])
        fill_a_segment(cql)
        shipper.ship(Stop())
        written = now() + timedelta(seconds=3)
        eventually(lambda: now() > written, what="the files' times, in whole seconds, are before the backup")
        manifest = estate.backup(keyspaces=["shop"], nodes=estate.nodes())
        cql.many("INSERT INTO shop.orders (k, v) VALUES (?, ?)", [(n, f"good {n}") for n in range(100, 150)])
        cql.rows("INSERT INTO shop.later (k) VALUES (1)")
        then = rows(cql, "shop.orders")
        point = now()
        cql.many("DELETE FROM shop.orders WHERE k = ?", [(n,) for n in range(75)])
        eventually(lambda: now() > point + timedelta(seconds=2), what="the next segments' times are after the point")
        fill_a_segment(cql)
        fill_a_segment(cql)
    assert shipper.ship(Stop()) > 0
    return manifest, point, then


def follow(commands: str, directory: Path, tools: Path) -> None:
    get = 'get() { curl -sS --fail -o "$2" "$(sign "$1")"; }'
    done = subprocess.run(
        ["sh", "-euc", f"{get}\n{commands}"],
        cwd=directory,
        env={"PATH": f"{tools}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def with_ids(tables: Path, told: str) -> None:
    """Step 1: the tables get the ids that the text lists."""
    ids = dict(re.findall(r"^\| `([^`]+)` \| `([0-9a-f-]{36})` \|$", told, re.MULTILINE))
    assert set(ids) == {"shop.orders", "shop.later", "shop.filler"}
    cql = tables.read_text()
    for name, table_id in ids.items():
        before, create, after = cql.partition(f"CREATE TABLE {name} ")
        assert create
        cql = before + create + after.replace(" WITH ", f" WITH ID = {table_id} AND ", 1)
    tables.write_text(cql)


def fetched_logs(told: str, estate: Logging, empty: CassandraServer, manifest: Manifest) -> list[Path]:
    """Step 2: the segments from the last one before the backup on, under their own names, compared."""
    (folder,) = re.findall(r"`([^`]+)/<host id>/CommitLog-….log.<seconds>.<sha256>`", told)
    client = estate.store.client()
    listed = client.list_objects_v2(Bucket=estate.bucket, Prefix=f"p/{folder}/")["Contents"]
    found = sorted((one["Key"].split("/")[-1].rsplit(".", 2), one["Key"]) for one in listed if ".log." in one["Key"])
    assert found
    taken = manifest.cut.at.timestamp()
    older = [one for one in found if float(one[0][1]) < taken]
    directories = set()
    for (name, _, sha256), key in [*older[-1:], *(one for one in found if one not in older)]:
        content = client.get_object(Bucket=estate.bucket, Key=key)["Body"].read()
        assert hashlib.sha256(content).hexdigest() == sha256
        place = empty.nodes[0].directory / "replay" / key.split("/")[-2] / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        directories.add(place.parent)
    own_tree(empty.nodes[0].directory / "replay", empty.sandbox.account)
    return sorted(directories)


def configuration(told: str, directories: list[Path], point: datetime) -> str:
    """Step 3: the lines of the text, with the directories and the point of this day."""
    (lines,) = re.findall(r"```\n( +restore_command=.*?)```", told, re.DOTALL)
    text = textwrap.dedent(lines).replace("/replay/NODE1,/replay/NODE2", ",".join(map(str, directories)))
    return text.replace("2026:11:23 04:05:06.000000", f"{point:%Y:%m:%d %H:%M:%S.%f}")
