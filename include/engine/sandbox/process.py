"""Start, watch and stop one server process that outlives the command that started it.

::

    def prepare() -> ServerSpec:                     # called only when the server has to be started
        return ServerSpec(command=[...], directory=sandbox.directory("kafka"), ports={"kafka": 9092})

    server = sandbox.server("kafka")
    server.start(prepare)                            # False when it already runs
    server.wait_ready(lambda: answers(9092), timeout=60)
    server.stop()
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from include.engine.errors import Contended, NotFound, PermanentError, TransientError, Unreachable
from include.engine.sandbox import procfs
from include.engine.sandbox.accounts import Account
from include.engine.sandbox.ports import require_free
from include.engine.sandbox.record import MARK, Record, adopt, kill_all, marked

INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "JAVA_HOME", "LD_LIBRARY_PATH")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two looks at a server that starts
_TAIL = 15  # lines of a log that an error shows


@dataclass(frozen=True, kw_only=True)
class ServerSpec:
    """How to run one server.

    :param command: argument list without secrets: every user of the machine can read it
    :param directory: working directory
    :param environment: added to a small set that is inherited; secrets go here
    :param ports: server or listener name to TCP port; all must be free before the start
    :param stop_signal: what makes it stop in good order
    :param grace: seconds it may take to stop before it is killed
    :param discard_signal: what ends it at once when its data is deleted as well; not SIGKILL, where that leaves more behind
        than data
    :param hides_environment: its processes overwrite their environment with a title for ``ps``, as PostgreSQL's do;
        what a crash left of them is then found by its program and working directory
    """

    command: Sequence[str | Path]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 30.0
    discard_signal: signal.Signals = signal.SIGKILL
    hides_environment: bool = False


class ServerProcess:
    """One server of a sandbox; get it from :meth:`include.engine.sandbox.home.Sandbox.server`.

    Whoever asks for the same name in the same sandbox, in this process or in a later one, gets the same server.

    :param name: unique in its sandbox; names the log, the record and, in errors, the server
    :param state: the file that records the running server
    :param log: the file that gets its standard output and error
    :param account: who runs it
    """

    def __init__(self, name: str, *, state: Path, log: Path, account: Account) -> None:
        self.name = name
        self.state = state
        self.log = log
        self.account = account

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        record = Record.load(self.state)
        return record is not None and record.alive

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        record = Record.load(self.state)
        return record.identity.pid if record is not None and record.alive else None

    def start(self, spec: ServerSpec | Callable[[], ServerSpec]) -> bool:
        """Start it, detached from this process; return False when it already runs.

        What a crash left behind of an earlier life is killed first: it would hold ports and files.  Nobody else
        starts or stops the server meanwhile.

        :param spec: how to run it; a function is called only when it has to be started, and may make what it needs
        :raises Contended: a port is held by somebody else
        :raises NotFound: the program is not there, or the account may not execute it
        :raises Unreachable: it ended at once; the hint shows the end of its log
        """
        with exclusive(self.state.with_suffix(".lock")):
            if self.running:
                return False
            self._kill_remains()
            if not isinstance(spec, ServerSpec):
                spec = spec()
            for name, port in spec.ports.items():
                require_free(name, port)
            self._spawn(spec)
            return True

    def wait_ready(self, probe: Callable[[], bool], *, timeout: float) -> None:
        """Wait until *probe* says that the server answers; a probe that raises a TransientError says no.

        :param timeout: seconds
        :raises Unreachable: it ended, or did not answer in time; the hint shows the end of its log
        """
        deadline = time.monotonic() + timeout
        pause = _FIRST_PAUSE
        reason = ""
        while True:
            ended = not self.running
            try:
                if not ended and probe():
                    return
            except TransientError as error:
                reason = f": {error.message}"
            if ended:
                raise self._ended()
            if time.monotonic() >= deadline:
                raise Unreachable(f"{self.name} did not answer within {timeout:g} s{reason}", hint=self._evidence())
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def stop(self, how: signal.Signals | None = None) -> None:
        """Stop it in good order, or kill it after its grace; no process is left.  Nothing happens when none runs.

        :param how: the signal, when it is not the one of the spec
        :raises Contended: a process did not even die of SIGKILL
        """
        self._end(lambda record: record.stop(how))

    def kill(self) -> None:
        """SIGKILL all its processes at once, as a crash would; no process is left.

        :raises Contended: a process is stuck in the kernel
        """
        self._end(Record.kill)

    def discard(self) -> None:
        """End it at once, because all that it has written is deleted next; no process is left.

        :raises Contended: a process is stuck in the kernel
        """
        self._end(Record.discard)

    def tail(self, lines: int = _TAIL) -> str:
        """The last *lines* of its log."""
        return tail(self.log, lines)

    def _end(self, how: Callable[[Record], None]) -> None:
        with exclusive(self.state.with_suffix(".lock")):
            record = Record.load(self.state)
            if record is not None:
                how(record)
            self._kill_remains()
            self.state.unlink(missing_ok=True)

    def _kill_remains(self) -> None:
        """Kill processes of this server whose record is missing or whose first process has gone."""
        record = Record.load(self.state)
        kill_all(record.members if record else lambda: marked(self.state), self.name)

    def _spawn(self, spec: ServerSpec) -> None:
        command = [str(part) for part in spec.command]
        environment = clean_environment(spec.directory, spec.environment) | {MARK: str(self.state)}
        with self.log.open("ab") as log:
            try:
                child = subprocess.Popen(
                    command,
                    cwd=spec.directory,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    umask=0o077,
                    **self.account.popen,
                )
            except OSError as error:
                raise _cannot_execute(command[0], self.account, error) from error
        adopt(child)
        identity = procfs.identity(child.pid)
        if identity is None:
            raise self._ended()
        Record(
            path=self.state,
            name=self.name,
            identity=identity,
            program=procfs.executable(child.pid) if spec.hides_environment else None,
            directory=spec.directory,
            log=self.log,
            stop_signal=spec.stop_signal,
            grace=spec.grace,
            discard_signal=spec.discard_signal,
            ports=dict(spec.ports),
        ).save()

    def _ended(self) -> Unreachable:
        return Unreachable(f"{self.name} ended while it was starting", hint=self._evidence())

    def _evidence(self) -> str:
        return f"Its log {self.log} ends:\n{self.tail()}"


def run_tool(
    command: Sequence[str | Path],
    *,
    account: Account,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    timeout: float = 300.0,
) -> str:
    """Run a tool to its end as *account* in *directory* and return its standard output.

    :param environment: added to a small set that is inherited; secrets go here, never on the command line
    :param timeout: seconds
    :raises NotFound: the program is not there, or the account may not execute it
    :raises PermanentError: it failed; the hint shows the end of what it said
    :raises Unreachable: it did not end in time and was killed
    """
    argv = [str(part) for part in command]
    name = Path(argv[0]).name
    try:
        done = subprocess.run(
            argv,
            cwd=directory,
            env=clean_environment(directory, environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            umask=0o077,
            **account.popen,
        )
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"{name} did not end within {timeout:g} s", hint=f"It was killed in {directory}") from error
    except OSError as error:
        raise _cannot_execute(argv[0], account, error) from error
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_TAIL:])
        raise PermanentError(f"{name} failed with exit code {done.returncode}", hint=f"It said: {said}")
    return done.stdout


def clean_environment(home: Path, added: Mapping[str, str]) -> dict[str, str]:
    """A small, predictable environment: a PGHOST or an AWS key of the caller never reaches a server."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return inherited | {"HOME": str(home)} | dict(added)


def tail(log: Path, lines: int = _TAIL) -> str:
    """The last *lines* of *log*, empty when there is none."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 200 * lines))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


@contextmanager
def exclusive(path: Path, *, busy: Contended | None = None) -> Iterator[None]:
    """Hold the lock file *path*, or a directory; the kernel lets go of it whatever happens to us.

    :param busy: is raised when another process holds it; without, that one is waited for
    """
    descriptor = os.open(path, (os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT) | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as error:
            if busy is None:
                raise
            raise busy from error
        yield
    finally:
        os.close(descriptor)


def _cannot_execute(program: str, account: Account, error: OSError) -> NotFound:
    return NotFound(
        f"{program} cannot be executed by {account.name}: {error.strerror}",
        hint="Check that it is there and that the account may pass every directory on the way to it",
    )
