"""The text that lies in each set is followed to the letter, with stock tools only.

Three stand-ins, all said here: ``get`` is curl with signed requests, ``cqlsh`` is a script that sends a file's statements through
the driver (cqlsh is not on this machine), and ``sstableloader`` is Cassandra's own class with this sandbox's ports and login.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from include.engine.model import Manifest
from include.engine.systems.cassandra import program
from include.engine.systems.cassandra.client import Cql
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
assert sys.argv[2] == "-f"
with Cql(Connection(host=sys.argv[1], port={port}, login={login!r}, password={password!r})) as cql:
    for command in commands(Statement(keyspace="", type="", name="", cql=open(sys.argv[3]).read())):
        cql.rows(command, timeout=60)
"""


def test_the_text_in_the_set_restores_everything(estate: Estate, cql: Cql, tmp_path: Path) -> None:
    before = {table: rows(cql, table) for table in TABLES}
    manifest = estate.backup(keyspaces=["user_events", "spark_streams"])
    text = estate.store.client().get_object(Bucket=estate.bucket, Key=f"p/sets/{manifest.id}/RESTORE.md")
    commands = follow(text["Body"].read().decode())
    for keyspace in ("user_events", "spark_streams"):
        cql.rows(f"DROP KEYSPACE {keyspace}", timeout=60)
    script = tmp_path / "by_hand.sh"
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


def follow(text: str) -> str:
    """The commands of the text, with the host filled in."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    return re.sub(r"\bHOST\b", "127.0.0.1", "\n".join(blocks))


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
            *("-u", connection.login, "-pw", connection.password, "--no-progress"),
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
            login=connection.login,
            password=connection.password,
        ),
    }
    for name, content in scripts.items():
        (tools / name).write_text(content)
        (tools / name).chmod(0o700)
    return tools
