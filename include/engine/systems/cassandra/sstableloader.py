"""Cassandra's own sstableloader, run on this machine: it streams the files of a table to whoever owns their rows."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from include.engine.contracts import Connection
from include.engine.errors import PermanentError, Unsupported
from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.home import Home
from include.engine.sandbox.process import run_tool
from include.engine.systems.cassandra import program
from include.engine.systems.cassandra.client import DEFAULT_PORT, Node

_ASKED, _LOADED = 120.0, 24 * 3600.0  # seconds that it may take to say how it is used, and to load a table
_QUIET = (
    '<configuration><appender name="err" class="ch.qos.logback.core.ConsoleAppender"><target>System.err</target>'
    '<encoder><pattern>%level %msg%n</pattern></encoder></appender><root level="WARN"><appender-ref ref="err"/>'
    "</root></configuration>\n"
)


def require_loadable(connection: Connection) -> None:
    """Check that sstableloader can be let into the cluster of *connection*.

    :raises Unsupported: over TLS
    """
    if connection.extra.get("tls_ca_file"):
        raise Unsupported(
            "sstableloader is not set up for TLS by Mainstay",
            hint="restore with --to DIRECTORY and run it by hand; RESTORE.md in the set says how",
        )


class Loader:
    """Runs it for one restore.

    :param connection: to the cluster
    :param directory: its own, for what Java writes while it runs
    """

    def __init__(self, connection: Connection, home: Home, directory: Path) -> None:
        self._connection = connection
        self._home = home
        self._directory = directory

    def require_usable(self) -> None:
        """Let it say how it is used: then its jars and its Java are there, and fit each other.

        :raises NotFound: naming what is missing
        :raises PermanentError: when it does not start
        """
        require_loadable(self._connection)
        self._run(["--help"], timeout=_ASKED)

    def load(self, folder: Path, keyspace: str, *, nodes: Sequence[Node], storage_port: int) -> None:
        """Stream the table of *folder* (``<keyspace>/<table>``) into *keyspace*.

        :raises PermanentError: when it fails; the hint shows what it said
        """
        login, password = self._connection.login, self._connection.password
        arguments = [
            *("-d", ",".join(node.address for node in nodes)),
            *("-p", str(self._connection.port or DEFAULT_PORT), "-sp", str(storage_port)),
            *(("-u", login, "-pw", password) if login else ()),
            *("-k", keyspace, "--no-progress", str(folder)),
        ]
        try:
            self._run(arguments, timeout=_LOADED)
        except PermanentError as error:
            raise PermanentError(
                f"sstableloader could not load {folder.parent.name}.{folder.name} into {keyspace}", hint=error.hint
            ) from error

    @cached_property
    def _lib(self) -> Path:
        return program.loader_jars(self._home)

    def _run(self, arguments: Sequence[str], *, timeout: float) -> None:
        java = program.java()
        for name in ("conf", "tmp"):
            (self._directory / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._directory / "conf" / "logback.xml").write_text(_QUIET)
        options = program.options(self._lib, self._directory, heap="512m")
        try:
            with program.unwritten([*options, program.SSTABLELOADER, *arguments]) as given:
                run_tool([java, f"@{given}"], account=ourselves(), directory=self._directory, timeout=timeout)
        finally:
            shutil.rmtree(self._directory / "tmp", ignore_errors=True)
