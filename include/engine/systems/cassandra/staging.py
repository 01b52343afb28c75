"""Where the files of a restore lie between the store and the tables: on the nodes, on this machine, or in a sandbox of ours.

Each restore has directories of its own there (see ``Unfinished.name``): who goes on after a kill finds what was fetched and
compared, and nobody removes what another restore waits for.  What a killed restore has left is removed a day later, by the next.
"""

from __future__ import annotations

import secrets
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from include.engine.contracts import RestoreJob
from include.engine.errors import Contended
from include.engine.sandbox.accounts import own_tree
from include.engine.sandbox.home import Home
from include.engine.sandbox.process import exclusive
from include.engine.store.shared import SharedFolder
from include.engine.systems.cassandra import fetch, node_scripts
from include.engine.systems.cassandra.client import Node
from include.engine.systems.cassandra.landing import Landing
from include.engine.systems.cassandra.ring import data_directories
from include.engine.systems.cassandra.selection import StoredFile, require_taken
from include.engine.systems.cassandra.sstableloader import Loader
from include.engine.systems.cassandra.threads import side_by_side
from include.engine.systems.cassandra.transport import NodeTransport, transport_to

if TYPE_CHECKING:
    from include.engine.systems.cassandra.server import CassandraServer

_LEFT_FOR = timedelta(days=1)  # as long as the note of what a restore has begun counts
_AGAIN = "run it again: what is there is not fetched twice"


class Staging(Protocol):
    """The files of one restore on their way into a cluster."""

    def require_ready(self) -> None:
        """Ask now for all that may be refused later: nothing is emptied for what then cannot be brought.

        :raises MainstayError: naming what is missing
        """
        ...

    def fetch(self) -> None:
        """Bring the files that are not there yet, and compare each."""
        ...

    def require_whole(self) -> None:
        """Look once more whether all are there.

        :raises Contended: when somebody has removed some since they were fetched
        """
        ...

    def fill(self) -> None:
        """Bring their rows into the tables."""
        ...

    def sweep(self) -> None:
        """Remove them."""
        ...


class OnNodes:
    """Each node fetches its own files to the disk of its data; from there they move into a table without being copied."""

    def __init__(
        self, job: RestoreJob, landing: Landing, files: Sequence[StoredFile], shared: SharedFolder, name: str
    ) -> None:
        self._job, self._landing, self._shared = job, landing, shared
        settings = landing.destination.settings
        assert settings is not None  # the method is chosen only when nodes can be reached
        self._settings = settings
        self._single = len(landing.nodes) == 1
        self._all = files
        self._name = name
        self._attempt = secrets.token_hex(8)

    def require_ready(self) -> None:
        """Ask for nodetool and what fetches, and mark the directories as this attempt's (see :class:`Staging`)."""
        if not self._single:
            require_taken(self._all, [node.host_id for node in self._landing.nodes])
        self._landing.require_nodetool()
        places = self._places  # asked for once, not by each of the threads
        side_by_side(
            lambda node: self._run(node, node_scripts.staging(places[node.host_id], self._attempt)),
            self._landing.nodes,
        )

    def fetch(self) -> None:
        """Let the nodes fetch (see :class:`Staging`)."""

        def fetch_on(node: Node) -> None:
            fetch.to_node(
                self._files(node),
                self._places[node.host_id],
                self._shared,
                self._transport(node),
                progress=self._job.progress,
                stop=self._job.stop,
                timeout=self._timeout,
                rate=self._settings.restore_bandwidth_bytes,
            )

        side_by_side(fetch_on, self._landing.nodes)

    def require_whole(self) -> None:
        """Let each node list what it has (see :class:`Staging`)."""

        def look_on(node: Node) -> None:
            place = self._places[node.host_id]
            there = fetch.present(self._transport(node), place, self._timeout)
            files = self._files(node)
            _require(files, [file for file in files if there.get(f"{place}/{file.place}") != file.entry.bytes], place)
            if node_scripts.mark(place, self._attempt) not in there:
                raise Contended(
                    f"another attempt at this restore has begun on {node.address} since, and goes on with its files",
                    hint="wait for it: it restores the same",
                )

        side_by_side(look_on, self._landing.nodes)

    def fill(self) -> None:
        """Let nodetool import them (see :class:`Staging`)."""
        self._landing.import_files(
            {node.host_id: folders_of(self._files(node), self._places[node.host_id]) for node in self._landing.nodes}
        )

    def sweep(self) -> None:
        """Remove the directories, unless they are another attempt's by now (see :class:`Staging`)."""
        for node in self._landing.nodes:
            self._run(node, node_scripts.unstaging(self._places[node.host_id], self._attempt))

    @cached_property
    def _places(self) -> Mapping[str, str]:
        def place_on(node: Node) -> str:
            first = data_directories(self._landing.cql, node)[0].rstrip("/")
            top = self._settings.node(node.address).staging or f"{first.rpartition('/')[0]}/mainstay-restore"
            return f"{top.rstrip('/')}/{node_scripts.STAGED}{self._name}"

        return {node.host_id: place_on(node) for node in self._landing.nodes}

    def _files(self, node: Node) -> list[StoredFile]:
        return [file for file in self._all if self._single or file.host_id == node.host_id]

    def _transport(self, node: Node) -> NodeTransport:
        return transport_to(self._settings, node.address)

    def _run(self, node: Node, script: str) -> str:
        return self._transport(node).run(script, timeout=self._timeout)

    @property
    def _timeout(self) -> float:
        return self._settings.timeout.total_seconds()


class _Here:
    """The files come to this machine."""

    def __init__(self, job: RestoreJob, landing: Landing, files: Sequence[StoredFile], directory: Path) -> None:
        self._job, self._landing, self._files, self._directory = job, landing, files, directory

    def fetch(self) -> None:
        """Fetch them to here (see :class:`Staging`)."""
        fetch.to_here(self._files, self._directory, self._job.reader, self._job.progress, self._job.stop)

    def require_whole(self) -> None:
        """Look at each (see :class:`Staging`)."""
        _require_here(self._files, self._directory)

    def sweep(self) -> None:
        """Remove the directory (see :class:`Staging`)."""
        shutil.rmtree(self._directory, ignore_errors=True)


class OnWorker(_Here):
    """The files come to this machine, and sstableloader streams them.

    :param directory: of this restore, see :func:`alone`
    """

    def __init__(
        self, job: RestoreJob, landing: Landing, files: Sequence[StoredFile], home: Home, directory: Path
    ) -> None:
        super().__init__(job, landing, files, directory)
        self._loader = Loader(landing.destination.connection, home, directory / ".loader")

    def require_ready(self) -> None:
        """Let sstableloader start (see :class:`Staging`)."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)  # rows are in it
        self._loader.require_usable()

    def fill(self) -> None:
        """Load one table of one node after the other (see :class:`Staging`)."""
        port = int(self._landing.cql.rows("SELECT listen_port FROM system.local")[0]["listen_port"])
        for (keyspace, table), folders in sorted(folders_of(self._files, str(self._directory)).items()):
            for folder in map(Path, folders):
                self._job.stop.check()
                if not folder.is_dir():
                    raise Contended(f"{folder} is not there any more: somebody has removed it", hint=_AGAIN)
                self._job.progress.say(f"sstableloader: {keyspace}.{table} of {folder.parts[-3]}")
                name = self._landing.selection.keyspace(keyspace)
                self._loader.load(folder, name, nodes=self._landing.nodes, storage_port=port)


class InSandbox(_Here):
    """The files come to this machine, where the one node is that takes them: one of ours."""

    def __init__(self, job: RestoreJob, landing: Landing, files: Sequence[StoredFile], server: CassandraServer) -> None:
        super().__init__(job, landing, files, server.nodes[0].staging)
        self._server = server

    def require_ready(self) -> None:
        """Ask for nothing: we have started the node ourselves (see :class:`Staging`)."""

    def fetch(self) -> None:
        """Fetch them to where the node may take them (see :class:`Staging`)."""
        super().fetch()
        own_tree(self._directory, self._server.sandbox.account)

    def fill(self) -> None:
        """Let nodetool import them (see :class:`Staging`)."""
        self._landing.import_files({self._landing.nodes[0].host_id: folders_of(self._files, str(self._directory))})


def folders_of(files: Sequence[StoredFile], top: str) -> dict[tuple[str, str], list[str]]:
    """Give the folders below *top* in which each table's files lie, by the table as it was."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for file in files:
        found[file.keyspace, file.table].add(f"{top}/{file.host_id}/{file.keyspace}/{file.table}")
    return {table: sorted(folders) for table, folders in found.items()}


@contextmanager
def alone(home: Home, name: str, now: datetime) -> Iterator[Path]:
    """Give the directory of the restore *name* on this machine, and let nobody else here do the same restore meanwhile.

    What restores have left that were killed more than a day ago goes.

    :raises Contended: when another process does it
    """
    top = home.root / "restores"
    top.mkdir(exist_ok=True, mode=0o700)
    busy = Contended("another process on this machine does the same restore", hint="wait for it: it restores the same")
    with exclusive(_lock(top / name), busy=busy):
        for left in [path for path in top.iterdir() if path.is_dir() and path.name != name]:
            with suppress(Contended, FileNotFoundError):  # it is in use, or has just gone
                if _last_touched(left) < (now - _LEFT_FOR).timestamp():
                    with exclusive(_lock(left), busy=busy):
                        shutil.rmtree(left, ignore_errors=True)
        yield top / name


def _lock(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.lock")


def _last_touched(directory: Path) -> float:
    return max(path.lstat().st_mtime for path in (directory, *directory.rglob("*")))


def _require_here(files: Sequence[StoredFile], directory: Path) -> None:
    def lacks(file: StoredFile) -> bool:
        try:
            return (directory / file.place).stat().st_size != file.entry.bytes
        except OSError:
            return True

    _require(files, [file for file in files if lacks(file)], str(directory))


def _require(files: Sequence[StoredFile], missing: Sequence[StoredFile], place: str) -> None:
    if missing:
        raise Contended(
            f"{len(missing)} of {len(files)} files that were fetched to {place} are not there any more, {missing[0].place} among"
            " them: nothing was emptied for them",
            hint=f"find out who removes files there; {_AGAIN}",
        )
