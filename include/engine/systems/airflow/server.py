"""A real Airflow in a sandbox: API server, scheduler, DAG processor and triggerer, on the sandbox's PostgreSQL.

::

    primary = PostgresServer(sandbox, "main").start()
    airflow = AirflowServer(
        sandbox,
        primary,                                                   # a PostgresServer; gets a role and a database `airflow`
        project=PROJECT,
        connections={"postgres_main": Connection(...), "mainstay_store": Connection(...)},
        passwords={"admin": "admin", "viewer": "viewer"},          # left out: generated, see airflow.password("admin")
    ).start(say=print)
    airflow.client().trigger("backup")                             # client.py
    airflow.stop()

Secrets go through the environment of the processes and files of mode 0600, never through a command line.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Self

from include.engine.contracts import Connection
from include.engine.errors import Corrupt
from include.engine.sandbox.accounts import ourselves, private_directory
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.ports import LOOPBACK
from include.engine.sandbox.process import ServerProcess, ServerSpec, run_tool
from include.engine.systems.airflow import database as databases
from include.engine.systems.airflow import metadata
from include.engine.systems.airflow.client import AirflowClient
from include.engine.systems.airflow.database import DatabaseHost

USERS = ("admin", "viewer")  # named after their roles

_API = "api-server"
# Without --skip-serve-logs these two open log servers on all interfaces; there is no setting for the address.
_WORKERS = {
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
_COMMANDS = {_API: [_API], **_WORKERS}
_HEALTH = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}


class AirflowServer:
    """One Airflow, started or not.

    Whoever constructs it again with the same sandbox, in this process or a later one, has the same Airflow.  It runs as
    ourselves, not as the account of the servers: its tasks drill, and a drill starts servers that need the step down.

    :param database: where its metadata goes; must run when Airflow is started
    :param project: the directory that holds ``dags/``, ``plugins/`` and ``include/``
    :param connections: what the inventory names, by name; handed over as ``AIRFLOW_CONN_<NAME>``, with ``airflow_metadata``
    :param port: TCP port of the API server on 127.0.0.1, unless ``$MAINSTAY_PORT_AIRFLOW`` says otherwise; a free one
        that stays the same when neither is given
    :param passwords: of the users ``admin`` and ``viewer``; generated when not given
    :param environment: more variables for all components and tasks, such as ``MAINSTAY_INVENTORY``
    :param parallelism: how many tasks may run at once
    """

    host = LOOPBACK

    def __init__(
        self,
        sandbox: Sandbox,
        database: DatabaseHost,
        *,
        project: Path,
        connections: Mapping[str, Connection] | None = None,
        port: int | None = None,
        passwords: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        parallelism: int = 6,
    ) -> None:
        self.sandbox = sandbox
        self.database = database
        self.project = project.resolve()
        self.connections = dict(connections or {})
        self.port = sandbox.port("airflow", port)
        self._passwords = dict(passwords or {})
        self._environment = dict(environment or {})
        self.parallelism = parallelism

    @property
    def url(self) -> str:
        """Where its page and its API are."""
        return f"http://{self.host}:{self.port}"

    @cached_property
    def home(self) -> Path:
        """AIRFLOW_HOME; only we may enter it."""
        return self._directory("airflow")

    @property
    def task_logs(self) -> Path:
        """The directory with the logs of the tasks."""
        return self.home / "logs"

    @property
    def metadata(self) -> Connection:
        """How to log in to its database: what `upkeep` needs to clean it."""
        return Connection(
            host=self.database.host,
            port=self.database.port,
            login=databases.ROLE,
            password=self._secret("database"),
            schema=databases.DATABASE,
        )

    @property
    def running(self) -> bool:
        """Whether all of its components run now."""
        return all(self._process(name).running for name in _COMMANDS)

    @property
    def logs(self) -> dict[str, Path]:
        """The log of each component."""
        return {name: self._process(name).log for name in _COMMANDS}

    def password(self, user: str = "admin") -> str:
        """The password of ``admin`` or ``viewer``."""
        return self._passwords.get(user) or self.sandbox.secret(f"airflow-{user}")

    def client(self, user: str = "admin") -> AirflowClient:
        """Talk to it as *user*."""
        return AirflowClient(self.url, user, self.password(user))

    def start(self, *, timeout: float = 240.0, say: Callable[[str], None] = lambda _: None) -> Self:
        """Prepare the database, start what does not run, wait until all is healthy, and set the pools.

        :param timeout: seconds for each of the two waits, for the API server and for the others
        :param say: told in one line what happens next
        :raises Contended: somebody else holds the port
        :raises Unreachable: a component ended or was not healthy in time; the hint shows its log
        """
        self._write_passwords()
        databases.prepare(self.database, self._secret("database"))
        if not self._migrated():
            say("Airflow: preparing its database (about 15 s)")
            self._migrate()
        # The API server first: a scheduler without one fails the first tasks it starts.
        say("Airflow: starting the API server")
        environment = self.environment()
        api = self._process(_API)
        api.start(partial(self._spec, _API, environment))
        api.wait_ready(self._api_answers, timeout=timeout)
        say("Airflow: starting scheduler, DAG processor and triggerer")
        for name in _WORKERS:
            self._process(name).start(partial(self._spec, name, environment))
        for name in _WORKERS:
            self._process(name).wait_ready(partial(self._is_healthy, name), timeout=timeout)
        self._set_pools()
        say(f"Airflow: {self.url} is up")
        return self

    def stop(self) -> None:
        """Stop all components, the API server last; no process of them is left, and a running task is ended."""
        with ThreadPoolExecutor(len(_WORKERS)) as pool:
            list(pool.map(lambda name: self._process(name).stop(), _WORKERS))
        self._process(_API).stop()

    def environment(self) -> dict[str, str]:
        """The variables of all components, secrets included: for a subprocess, never for a log."""
        settings = {
            "AIRFLOW_HOME": str(self.home),
            "PYTHONPATH": str(self.project),
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "MAINSTAY_HOME": str(self.sandbox.home.root),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.project / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.project / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": str(self.parallelism),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            # 32 characters of our own are the 32 bytes that a Fernet key encodes.
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(self._secret("fernet").encode()).decode(),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{user}" for user in USERS),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._password_file),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata.url(self.metadata),
            # The API server answers in 40 threads; with the 15 connections of the default some wait half a minute, and fail.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_MAX_OVERFLOW": "40",
            "AIRFLOW__API__HOST": self.host,
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__SECRET_KEY": self._secret("session"),
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret("jwt-1") + self._secret("jwt-2"),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "15",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        known = {"airflow_metadata": self.metadata, **self.connections}
        connections = {f"AIRFLOW_CONN_{name.upper()}": _as_json(one) for name, one in known.items()}
        return settings | connections | self._environment

    def _process(self, name: str) -> ServerProcess:
        label = f"airflow-{name}"
        run, log = self.sandbox.root / "run", self.sandbox.root / "log"
        return ServerProcess(label, state=run / f"{label}.json", log=log / f"{label}.log", account=ourselves())

    def _spec(self, name: str, environment: Mapping[str, str]) -> ServerSpec:
        return ServerSpec(
            command=[sys.executable, "-m", "airflow", *_COMMANDS[name]],
            directory=self._directory(f"airflow-{name}"),  # its own: processes are recognised by where they work
            environment=environment,
            ports={"airflow": self.port} if name == _API else {},
            hides_environment=True,
        )

    def _directory(self, name: str) -> Path:
        return private_directory(self.sandbox.root / "servers" / name, owner=ourselves(), mode=0o700)

    def _secret(self, name: str) -> str:
        return self.sandbox.secret(f"airflow-{name}")

    @property
    def _password_file(self) -> Path:
        return self.home / "passwords.json"

    def _write_passwords(self) -> None:
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(json.dumps({user: self.password(user) for user in USERS}))

    @property
    def _migration_mark(self) -> Path:
        return self.home / "migrated"

    def _migrated(self) -> bool:
        """Whether this version of Airflow has prepared this database: asking Airflow itself takes seconds."""
        try:
            return self._migration_mark.read_text() == self._schema()
        except FileNotFoundError:
            return False

    def _migrate(self) -> None:
        run_tool(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            account=ourselves(),
            directory=self.home,
            environment=self.environment(),
        )
        self._migration_mark.write_text(self._schema())

    def _schema(self) -> str:
        """Airflow's version and the revision of the database's schema, which is empty when there is none."""
        return f"{version('apache-airflow')} {databases.revision(self.database)}"

    def _api_answers(self) -> bool:
        return self.client().health().get("metadatabase") == "healthy"

    def _is_healthy(self, name: str) -> bool:
        return self.client().health().get(_HEALTH[name]) == "healthy"

    def _set_pools(self) -> None:
        # By REST, because neither airflow_settings.yaml nor a default can say include_deferred.
        file = self.project / "include" / "config" / "pools.json"
        try:
            pools = json.loads(file.read_text())
        except ValueError as error:
            raise Corrupt(f"{file} is not JSON: {error}", hint="Mend it") from error
        client = self.client()
        for name, pool in pools.items():
            client.put_pool(name, pool["slots"], pool["description"], include_deferred=pool["include_deferred"])


def _as_json(connection: Connection) -> str:
    """The form in which Airflow and :mod:`include.engine.connection_forms` read a connection from the environment."""
    return json.dumps(
        {
            "conn_type": "generic",
            "host": connection.host,
            "port": connection.port,
            "login": connection.login,
            "password": connection.password,
            "schema": connection.schema,
            "extra": connection.extra,
        }
    )
