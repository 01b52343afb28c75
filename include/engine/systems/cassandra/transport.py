"""Runs shell scripts on a node: on this machine, by ssh, or by kubectl exec.

A node needs a POSIX shell and, for files, ``find``, ``stat``, ``sha256sum``, ``gzip`` and ``curl``; nothing is installed there.
The script travels on standard input: it carries signed URLs, which belong in no list of processes.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from include.engine.contracts import Stop
from include.engine.errors import Misconfigured, NotFound, PermanentError, Unreachable
from include.engine.sandbox.process import INHERITED
from include.engine.systems.cassandra.settings import Settings

Line = Callable[[str], None]

_SSH_FAILED, _KUBECTL_FAILED = 255, 1
_SCRIPT_FAILED = "command terminated with exit code"  # kubectl's own words: it reached the pod
_TAIL = 12
_PASSED = (
    *INHERITED,
    *("http_proxy", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "CURL_CA_BUNDLE", "SSL_CERT_FILE"),
)
_QUERY = re.compile(r"(https?://[^\s\"'?]+)\?[^\s\"']*")


class NodeTransport(Protocol):
    """A way to run a shell script on one node."""

    @property
    def name(self) -> str:
        """What it is and where it goes, for people: ``ssh to 10.0.0.1``."""
        ...

    def run(self, script: str, *, timeout: float, stop: Stop | None = None, on_line: Line | None = None) -> str:
        """Run *script* with the node's POSIX shell and give what it printed.

        The script is run as a whole or not at all: a connection that breaks while it is sent starts nothing.

        :param on_line: gets each line as it is printed
        :raises Unreachable: the node was not reached, or the script did not end within *timeout* seconds
        :raises PermanentError: the script failed; the hint shows the end of what it said, without signatures
        :raises Interrupted: *stop* came; the script was killed as far as the transport can
        """
        ...


class CommandTransport:
    """A transport that is a command which reads a script: ``sh -s``, ``ssh host sh -s``, ``kubectl exec -i pod -- sh -s``.

    :param lost: exit codes by which the command says that it did not reach the node, unless it says that the script failed
    """

    def __init__(
        self, name: str, command: Sequence[str], *, lost: Sequence[int] = (), account: str | None = None
    ) -> None:
        self.name = name
        self._command = list(command)
        self._lost = tuple(lost)
        self._account = account

    def run(self, script: str, *, timeout: float, stop: Stop | None = None, on_line: Line | None = None) -> str:
        """Run *script* (see :class:`NodeTransport`)."""
        if stop is not None:
            stop.check()
        child = self._spawn()
        killed = threading.Event()

        def give_up() -> None:
            killed.set()
            _kill(child)

        timer = threading.Timer(timeout, give_up)
        timer.daemon = True
        timer.start()
        if stop is not None:
            stop.on_stop(lambda: _kill(child))
        said: deque[str] = deque(maxlen=_TAIL)
        feeder = threading.Thread(target=_feed, args=(child, wrapped(script)), daemon=True)
        listener = threading.Thread(target=_listen, args=(child, said), daemon=True)
        feeder.start()
        listener.start()
        printed: list[str] = []
        assert child.stdout is not None
        try:
            for raw in child.stdout:
                line = raw.decode(errors="replace").rstrip("\n")
                printed.append(line)
                if on_line is not None:
                    on_line(line)
            code = child.wait()
        finally:
            timer.cancel()
            _kill(child)
            child.wait()
            listener.join(timeout=5)
            feeder.join(timeout=5)
            child.stdout.close()
        if stop is not None:
            stop.check()
        if killed.is_set():
            raise Unreachable(f"{self.name}: a script did not end within {timeout:g} s", hint="is the node overloaded?")
        if code != 0:
            self._explain(code, redacted("\n".join(said)))
        return "\n".join(printed)

    def _spawn(self) -> subprocess.Popen[bytes]:
        identity: dict[str, Any] = {}
        if self._account is not None and os.geteuid() == 0:
            try:
                entry = pwd.getpwnam(self._account)
            except KeyError as error:
                raise Misconfigured(
                    f"there is no account {self._account} here", hint="correct run_as in the inventory"
                ) from error
            groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
            # Our environment has the passwords of connections, and an account reads that of its own processes.
            passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
            environment = {**passed, "HOME": entry.pw_dir, "USER": entry.pw_name}
            identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups, "env": environment}
        try:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                cwd="/",
                **identity,
            )
        except OSError as error:
            raise NotFound(
                f"{self._command[0]} cannot be started: {error.strerror}", hint="install it on the worker"
            ) from error

    def _explain(self, code: int, said: str) -> None:
        if code in self._lost and _SCRIPT_FAILED not in said:
            raise Unreachable(f"{self.name} failed: {said or f'exit code {code}'}", hint="check that the node is up")
        raise PermanentError(f"{self.name}: a script failed with exit code {code}", hint=f"it said: {said}")


def transport_to(settings: Settings, address: str) -> NodeTransport:
    """Give the transport that the inventory chose for the node at *address*."""
    host = settings.node(address).host or address
    shell = ["sh", "-s"]
    if settings.transport == "local":
        return CommandTransport(f"local shell for {address}", shell, account=settings.run_as)
    if settings.run_as:
        shell = ["sudo", "-n", "-u", settings.run_as, *shell]
    if settings.transport == "ssh":
        return CommandTransport(f"ssh to {host}", [*_ssh(settings, host), *shell], lost=[_SSH_FAILED])
    place = ["-n", settings.kubernetes_namespace, host, "-c", settings.kubernetes_container]
    command = [*settings.kubectl, "exec", "-i", *place, "--", *shell]
    return CommandTransport(f"kubectl exec to {host}", command, lost=[_KUBECTL_FAILED])


def wrapped(script: str) -> str:
    """Make *script* one function: it is parsed whole before it begins, and its commands cannot read the rest of it."""
    return f"mainstay() {{\nset -u\n{script}\n}}\nmainstay </dev/null\nexit $?\n"


def quote(path: str) -> str:
    """Quote a path for the shell."""
    return shlex.quote(path)


def redacted(text: str) -> str:
    """Take the signatures out of URLs: whoever reads a log must not be able to use them."""
    return _QUERY.sub(r"\1?…", text)


def _ssh(settings: Settings, host: str) -> list[str]:
    options = ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15"]
    if settings.ssh_identity:
        options += ["-i", settings.ssh_identity, "-o", "IdentitiesOnly=yes"]
    if settings.ssh_known_hosts:
        options += ["-o", f"UserKnownHostsFile={settings.ssh_known_hosts}", "-o", "StrictHostKeyChecking=yes"]
    if settings.ssh_user:
        options += ["-l", settings.ssh_user]
    return ["ssh", *options, "-p", str(settings.ssh_port), "--", host]


def _feed(child: subprocess.Popen[bytes], script: str) -> None:
    assert child.stdin is not None
    with suppress(OSError, ValueError):  # it ended before it had read all: its exit code tells more
        child.stdin.write(script.encode())
        child.stdin.close()


def _listen(child: subprocess.Popen[bytes], said: deque[str]) -> None:
    assert child.stderr is not None
    with child.stderr, suppress(ValueError):
        for raw in child.stderr:
            line = raw.decode(errors="replace").rstrip()
            if line and not line.startswith("\tat "):  # Java's stack traces push out what the error was
                said.append(line)


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
