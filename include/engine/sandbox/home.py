"""Where sandboxes live on disk, and what one sandbox holds.

::

    home = Home.of(Path("/srv/mainstay"))            # .mainstay/, or /var/tmp/… when servers cannot enter that
    with home.sandbox("test-4711") as sandbox:       # destroyed at the end, servers first
        where = sandbox.directory("postgres")        # belongs to the account that servers run as
        password = sandbox.secret("postgres")        # made on the first call, 0600
        server = sandbox.server("postgres")          # see process.py
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from include.engine.errors import MainstayError, Misconfigured, Refused
from include.engine.sandbox import procfs
from include.engine.sandbox.accounts import Account, ourselves, private_directory, server_account
from include.engine.sandbox.ports import fixed_port, free_port, promised
from include.engine.sandbox.process import ServerProcess, exclusive
from include.engine.sandbox.record import Record, kill_all, marked

_TRASH = ".trash-"
_OWNER, _RESTORING = "owner.json", "restoring.json"  # signed by the process that they are about
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_LONGEST_SOCKET_DIRECTORY = 107 - len("/.s.PGSQL.65535.lock")  # bytes; the kernel's limit for a Unix socket is 107
_PUBLIC = Path("/var/tmp")  # noqa: S108 - what lies there survives a reboot; private_directory() guards it


@dataclass(frozen=True)
class Home:
    """The directory of everything that Mainstay starts for one project.

    :param root: its path; everybody may pass through it, nobody but us may list or change it
    :param account: who runs servers
    """

    root: Path
    account: Account

    @classmethod
    def of(cls, project: Path) -> Home:
        """The home of the project at *project*, created when it is not there.

        It is ``$MAINSTAY_HOME`` when set, else ``.mainstay/`` in the project, else, when the account of the servers
        cannot enter the project (a clone below /root), a directory in /var/tmp named after the project's path.

        :raises Misconfigured: the servers' account cannot enter ``$MAINSTAY_HOME``
        :raises Refused: somebody else owns the directory
        """
        account = server_account()
        project = project.resolve()
        chosen = os.environ.get("MAINSTAY_HOME", "").strip()
        root = Path(chosen).expanduser().absolute() if chosen else project / ".mainstay"
        if not account.reaches(next(parent for parent in root.parents if parent.exists())):
            if chosen:
                raise Misconfigured(
                    f"{account.name}, who runs the servers, cannot enter MAINSTAY_HOME={chosen}",
                    hint="Open the way to it with chmod o+x, or choose a directory outside /root",
                )
            digest = hashlib.sha256(os.fsencode(project)).hexdigest()[:12]
            root = _PUBLIC / f"mainstay-{os.geteuid()}-{digest}"
        root.parent.mkdir(parents=True, exist_ok=True)
        return cls(root=private_directory(root, owner=ourselves(), mode=0o711), account=account)

    def sandbox(self, name: str) -> Sandbox:
        """The sandbox *name*, created when it is not there.

        :raises Misconfigured: the name is not lower-case letters, digits, ``-``, ``_`` and ``.``
        """
        if not _NAME.fullmatch(name):
            raise Misconfigured(f"{name!r} cannot name a sandbox", hint="Use lower-case letters, digits, -, _ and .")
        root = self.root
        for step in ("sandboxes", name):
            root = private_directory(root / step, owner=ourselves(), mode=0o711)
        for step in ("run", "log", "secrets"):
            private_directory(root / step, owner=ourselves(), mode=0o700)
        private_directory(root / "servers", owner=ourselves(), mode=0o711)
        return Sandbox(name=name, root=root, home=self)

    def for_drill(self, what: str) -> Sandbox:
        """Give a new sandbox for a drill of *what*.  Those of drills that were killed go first: a copy of everything is in them.

        Of its own: two drills go on side by side, of one target or of targets whose names begin alike.
        """
        with suppress(MainstayError):  # ours goes on
            self.sweep()
        return self.sandbox(f"drill-{what[:24]}-{secrets.token_hex(4)}")

    def sandboxes(self) -> list[Sandbox]:
        """All sandboxes that are there, by name."""
        return [Sandbox(name=path.name, root=path, home=self) for path in sorted(self._parent.glob("[!.]*"))]

    def sweep(self) -> list[str]:
        """Destroy the sandboxes that were claimed by a process that has ended, and return their names."""
        self._parent.mkdir(exist_ok=True)
        with exclusive(self.root / ".sweep.lock"):
            abandoned = [sandbox for sandbox in self.sandboxes() if sandbox.abandoned]
            for sandbox in abandoned:
                sandbox.destroy()
            for trash in self._parent.glob(f"{_TRASH}*"):  # somebody was killed while deleting it
                shutil.rmtree(trash, ignore_errors=True)
        return [sandbox.name for sandbox in abandoned]

    @property
    def _parent(self) -> Path:
        return self.root / "sandboxes"


@dataclass(frozen=True)
class Sandbox:
    """A set of servers that live and die together.

    As a context manager it is claimed by this process and destroyed at the end; used plainly, its servers go on
    until somebody calls :meth:`stop`, in this process or in a later one.
    """

    name: str
    root: Path
    home: Home

    @property
    def account(self) -> Account:
        """Who runs its servers."""
        return self.home.account

    def directory(self, name: str, *, account: Account | None = None) -> Path:
        """The directory of the server *name*: *account*, else the servers' one, owns it; nobody else may enter."""
        return private_directory(self.root / "servers" / name, owner=account or self.account, mode=0o700)

    def socket_directory(self, name: str) -> Path:
        """A directory for the Unix sockets of the server *name*, with a path short enough for the kernel."""
        self.directory(name)
        return private_directory(self._socket_directory(name), owner=self.account, mode=0o700)

    def secret(self, name: str) -> str:
        """The secret *name*: 32 letters and digits, made on the first call and the same ever after; 0600."""
        path = self.root / "secrets" / name
        with exclusive(self.root / "run" / "secrets.lock"):
            if not path.exists():
                _write_whole(path, secrets.token_hex(16), mode=0o600)
        return path.read_text()

    def port(self, name: str, default: int | None = None) -> int:
        """The port of the server *name*: ``$MAINSTAY_PORT_<NAME>`` when set, else *default*, else a free one.

        A free one is chosen on the first call, is the same ever after, and is no other server's of this sandbox.

        :raises Misconfigured: the variable holds no port
        """
        fixed = fixed_port(name, default)
        if fixed is not None:
            return fixed
        path = self.root / "run" / f"{name}.port"
        with exclusive(self.root / "run" / "ports.lock"):
            if not path.exists():
                taken = promised() | {int(other.read_text()) for other in path.parent.glob("*.port")}
                _write_whole(path, str(next(port for port in iter(free_port, 0) if port not in taken)), mode=0o666)
        return int(path.read_text())

    def server(self, name: str, *, account: Account | None = None) -> ServerProcess:
        """The process of the server *name*, started or not, which *account*, else the servers' one, runs."""
        state, log = self.root / "run" / f"{name}.json", self.root / "log" / f"{name}.log"
        return ServerProcess(name, state=state, log=log, account=account or self.account)

    def running(self) -> list[Record]:
        """The servers that run now, in the order in which they were started."""
        records = (Record.load(path) for path in (self.root / "run").glob("*.json"))
        alive = [record for record in records if record is not None and record.alive]
        return sorted(alive, key=lambda record: record.started_at)

    def stop(self) -> list[str]:
        """Stop all its servers, the last started first, and return their names; what they wrote stays.

        :raises Contended: a process did not even die of SIGKILL
        """
        return self._end(ServerProcess.stop)

    def _end(self, how: Callable[[ServerProcess], None]) -> list[str]:
        records = [record for path in (self.root / "run").glob("*.json") if (record := Record.load(path))]
        records.sort(key=lambda record: record.started_at, reverse=True)
        stopped = [record.name for record in records if record.alive]
        for record in records:
            how(self.server(record.name))
        kill_all(lambda: marked(self.root / "run"), self.name)  # started by somebody who died before writing it down
        return stopped

    def destroy(self) -> None:
        """End all its servers at once and delete everything that belongs to the sandbox.

        :raises Refused: its directory does not lie in its home
        :raises Contended: a process did not even die of SIGKILL
        """
        if self.root.parent.parent != self.home.root:
            raise Refused(f"{self.root} does not lie in {self.home.root}", hint="Delete it by hand if it should go")
        self._end(ServerProcess.discard)
        for server in (self.root / "servers").iterdir():
            shutil.rmtree(self._socket_directory(server.name), ignore_errors=True)
        # Out of sight first: a sandbox is there or not, and nobody takes a half-deleted one for alive.
        trash = self.root.with_name(f"{_TRASH}{self.name}-{secrets.token_hex(4)}")
        self.root.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)

    def claim(self) -> None:
        """Bind the sandbox to the life of this process: when it is gone, :meth:`Home.sweep` may destroy it."""
        self._sign(_OWNER)

    @property
    def abandoned(self) -> bool:
        """Whether the process that claimed it has ended; False when nobody claimed it, or a process of another container."""
        return self._signer_ended(_OWNER) is True

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Note, until the context ends well, that what its servers hold is not whole: they may outlive who restores."""
        mark = self.root / _RESTORING
        self._sign(_RESTORING)
        try:
            yield
        except BaseException:
            with suppress(OSError):  # somebody has deleted the sandbox, which must not hide why it failed
                mark.write_text("")  # unfinished, and nobody is at it any more
            raise
        mark.unlink(missing_ok=True)

    @property
    def unfinished(self) -> bool:
        """Whether a restore into it has begun and did not come to its end, or not yet."""
        return (self.root / _RESTORING).exists()

    @property
    def used(self) -> bool:
        """Whether a process works with it now: the one that claimed it, or one that restores into it."""
        claimed = (self.root / _OWNER).exists() and not self.abandoned
        return claimed or self._signer_ended(_RESTORING) is False

    def _sign(self, name: str) -> None:
        identity = procfs.identity(os.getpid())
        assert identity is not None
        signed = {**asdict(identity), "namespace": procfs.namespace()}
        (self.root / name).write_text(json.dumps(signed))

    def _signer_ended(self, name: str) -> bool | None:
        """Whether the process that signed has ended; of one in another container that is not known, and it counts as alive."""
        try:
            signed = json.loads((self.root / name).read_text())
            ours = signed.pop("namespace", procfs.namespace()) == procfs.namespace()
            return ours and not procfs.Identity(**signed).alive
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def _socket_directory(self, name: str) -> Path:
        path = self.root / "servers" / name / "socket"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_DIRECTORY:
            return path
        return _PUBLIC / f"mainstay-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"

    def __enter__(self) -> Self:
        self.claim()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()


def _write_whole(path: Path, text: str, *, mode: int) -> None:
    """Write a file that is there as a whole or not at all: who is killed here leaves no half of it to all that come later."""
    draft = path.with_name(f".{path.name}.draft")
    draft.touch(mode=mode)
    draft.write_text(text)
    draft.replace(path)
