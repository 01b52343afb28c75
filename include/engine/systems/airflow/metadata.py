"""Cleans Airflow's metadata database with Airflow's own command, which knows its tables and what refers to what.

Airflow 3 keeps tasks away from its database on purpose, and has no API for cleaning it.  So the way in is given by a person,
as a connection, and the command runs in a process of its own that Airflow's guard in the task's process does not reach.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from urllib.parse import quote

from include.engine.contracts import Connection, Stop
from include.engine.errors import PermanentError, Unreachable

_TAIL = 20  # lines that an error shows

# What the supervisor puts into a task's environment: its guard against the database, and its own business.
_SUPERVISOR = ("AIRFLOW__CORE__SQL_ALCHEMY_CONN", "_AIRFLOW", "__AIRFLOW")


def clean(connection: Connection, *, before: datetime, stop: Stop) -> str:
    """Delete the rows of runs, task instances, XComs, logs and the rest that are older than *before*, and keep no archive.

    The newest run of every DAG stays, as Airflow's scheduler needs it.

    :param connection: to Airflow's PostgreSQL, with the right to delete
    :returns: the end of what the command said
    :raises Interrupted: when *stop* came
    :raises Unreachable: the database did not answer
    :raises PermanentError: the command failed; the hint shows what it said
    """
    command = [sys.executable, "-m", "airflow", "db", "clean", "--yes", "--skip-archive"]
    command += ["--clean-before-timestamp", before.isoformat()]
    process = subprocess.Popen(
        command,
        env=_environment(connection),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    stop.on_stop(process.terminate)
    said, _ = process.communicate()
    stop.check()
    text = "\n".join(said.strip().splitlines()[-_TAIL:])
    if connection.password:
        text = text.replace(connection.password, "***").replace(quote(connection.password, safe=""), "***")
    if process.returncode == 0:
        return text
    if "OperationalError" in text:
        raise Unreachable("Airflow's database did not answer", hint=f"check the connection. It said: {text}")
    raise PermanentError(f"airflow db clean failed with exit code {process.returncode}", hint=f"It said: {text}")


def url(connection: Connection) -> str:
    """Write a connection to PostgreSQL as Airflow's setting wants it, password included."""
    user = f"{quote(connection.login, safe='')}:{quote(connection.password, safe='')}"
    return f"postgresql+psycopg2://{user}@{connection.host}:{connection.port or 5432}/{connection.schema}"


def _environment(connection: Connection) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SUPERVISOR)}
    return kept | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url(connection)}
