"""The text that lies in each set is followed to the letter, with stock tools only.

Stand-ins, all said here: ``get`` is curl with signed requests, ``cqlsh`` is a script that sends a file's statements through the
driver (cqlsh is not on this machine), ``sstableloader`` is Cassandra's own class with this sandbox's ports, and what carries files
to a node is ``cp``.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from include.engine.model import Manifest
from include.engine.systems.cassandra import program
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.cut import detail_of
from tests.integration.cassandra.estate import Estate, rows

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("jq") is None, reason="the text uses jq, which is not installed"),
]

TABLES = ("user_events.user_events", "user_events.user_sessions", "spark_streams.created_users")

_CQLSH = """#!{python}
import sys
sys.path.insert(0, {project!r})
from include.engine.contracts import Connection
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.schema import Statement, commands
host, *options = sys.argv[1:]
assert options[::2] == ["-u", "-p", "-f"]
with Cql(Connection(host=host, port={port}, login=options[1], password=options[3])) as cql:
    for command in commands(Statement(keyspace="", type="", name="", cql=open(options[5]).read())):
        cql.rows(command, timeout=60)
"""


@pytest.mark.parametrize("way", ["3a", "3b"])
def test_the_text_in_the_set_restores_everything(estate: Estate, cql: Cql, tmp_path: Path, way: str) -> None:
    before = {table: rows(cql, table) for table in TABLES}
    manifest = estate.backup(keyspaces=["user_events", "spark_streams"])
    text = estate.store.client().get_object(Bucket=estate.bucket, Key=f"p/sets/{manifest.id}/RESTORE.md")
    fetch, tables, load, take, finish = blocks(text["Body"].read().decode(), estate)
    filled = load if way == "3a" else carried(take, estate, manifest)
    for keyspace in ("user_events", "spark_streams"):
        cql.rows(f"DROP KEYSPACE {keyspace}", timeout=60)
    script = tmp_path / "by_hand.sh"
    commands = "\n".join([fetch, tables, filled, finish])
    script.write_text(f'set -eu\nget() {{ curl -sS --fail -o "$2" "$(sign "$1")"; }}\n{commands}\n')
    done = subprocess.run(
        ["sh", str(script)],
        cwd=tmp_path,
        env={"PATH": f"{stock_tools(estate, manifest, tmp_path)}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert {table: rows(cql, table) for table in TABLES} == before
    assert cql.rows("SELECT * FROM user_events.user_events WHERE event_type = 'login' LIMIT 1")


def blocks(text: str, estate: Estate) -> list[str]:
    """The commands of the text, with host and login filled in."""
    connection = estate.server.connection()
    found = {"HOST": "127.0.0.1", "LOGIN": shlex.quote(connection.login), "PASSWORD": shlex.quote(connection.password)}
    return [
        re.sub(r"\b(HOST|LOGIN|PASSWORD)\b", lambda word: found[word[0]], block)
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    ]


def carried(commands: str, estate: Estate, manifest: Manifest) -> str:
    """The commands of 3b, behind what the text says before them: the files are copied to the node, and are Cassandra's there."""
    (node,) = detail_of(manifest).cut.nodes
    place = estate.server.nodes[0].directory / f"by-hand-{manifest.id}-{estate.bucket}"
    assert commands.count("/restore/") == 1
    return (
        f"cp -r files/{node.host_id} {place}\nchown -R {estate.server.sandbox.account.name}: {place}\n"
        f"{commands.replace('/restore/', f'{place}/')}\n! find {place} -name '*-Data.db' | grep ."
    )


def stock_tools(estate: Estate, manifest: Manifest, top: Path) -> Path:
    """A directory with the stand-ins."""
    tools = top / "bin"
    tools.mkdir()
    connection = estate.server.connection()
    keys = [entry.key for entry in manifest.entries] + [f"cassandra/main/backups/{manifest.id}/manifest.json"]
    bucket = estate.bare().catalog.bucket
    signed = {key: bucket.sign("GET", key, timedelta(minutes=10)) for key in keys}
    (top / "signed").write_text("".join(f"{key}\t{url}\n" for key, url in signed.items()))
    cassandra = program.options(estate.server.lib, top / "loader", heap="256m")
    (top / "loader" / "tmp").mkdir(parents=True)
    arguments = program.argument_file(
        top / "arguments",
        [
            *cassandra,
            program.SSTABLELOADER,
            "--no-progress",
            *("-p", str(connection.port), "-sp", str(estate.server.storage_port)),
        ],
    )
    scripts = {
        "sign": f"#!/bin/sh\nawk -F '\\t' -v key=\"$1\" '$1 == key {{ print $2; exit }}' {top}/signed\n",
        # Java reads options from the file up to the class; what follows on the command line is the class's.
        "sstableloader": f'#!/bin/sh\nexec {program.java()} @{arguments} "$@"\n',
        "cqlsh": _CQLSH.format(
            python=sys.executable,
            project=str(Path.cwd()),
            port=connection.port,
        ),
        "nodetool": f'#!/bin/sh\nexec {estate.server.nodes[0].nodetool_path} "$@"\n',
    }
    for name, content in scripts.items():
        (tools / name).write_text(content)
        (tools / name).chmod(0o700)
    return tools
