"""The sandbox that a restore leaves serving: named after all that was asked, and never begun on top of other rows."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec

from include.engine.errors import Contended
from include.engine.model import Target
from include.engine.sandbox.home import Home
from include.engine.sandbox.process import exclusive
from include.engine.systems.cassandra.selection import Selection
from include.engine.systems.cassandra.server import CassandraServer

_DONE = "restored"  # a file: what lies in the sandbox was restored to its end


def name_of(target: Target, backup: str, point: datetime | None, selection: Selection) -> str:
    """Name a sandbox after all that decides which rows are in it.

    Rows of a later point, or of tables that nobody asked for, would not go away when another restore came into the same server,
    and would be taken for its own.
    """
    until = point.astimezone(UTC) if point else None
    asked = msgspec.json.encode([str(target), backup, until, selection], order="deterministic")
    digest = hashlib.sha256(asked).hexdigest()[:8]
    return f"restore-cassandra-{target.name[:18]}-{backup.lower()}-{digest}"


class LastingSandbox:
    """A sandbox of one node that stays until somebody removes it.

    :param name: see :func:`name_of`
    """

    def __init__(self, home: Home, name: str) -> None:
        self.name = name
        self._home = home

    @property
    def done(self) -> bool:
        """Whether a restore came to its end there: somebody may be looking at it."""
        return any(one.name == self.name and (one.root / _DONE).exists() for one in self._home.sandboxes())

    @contextmanager
    def begun(self, heap: int) -> Iterator[CassandraServer]:
        """Give its node, running and empty; note when the work ends well, and stop the node when it does not.

        What an earlier attempt has restored is gone: a replay that was killed leaves commit logs that the next start would
        replay past the point.  Only files that were fetched and compared stay.

        :param heap: of the node, in MiB
        :raises Contended: another process restores into it
        """
        sandbox = self._home.sandbox(self.name)
        busy = Contended(
            f"another process is restoring into the sandbox {self.name}", hint="wait for it: it restores the same"
        )
        with exclusive(sandbox.root / "run" / "restoring.lock", busy=busy), sandbox.restoring():
            (sandbox.root / _DONE).unlink(missing_ok=True)
            sandbox.stop()
            server = CassandraServer(sandbox, "restored", jolokia=False, heap=heap)
            node = server.nodes[0]
            for path in node.directory.iterdir():
                if path == node.staging:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            try:
                yield server.start()
                (sandbox.root / _DONE).touch(mode=0o600)
            except BaseException:
                sandbox.stop()  # half a restore must not answer as if it were one
                raise
