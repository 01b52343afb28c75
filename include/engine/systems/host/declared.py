"""A probe that a rule file declares as a command: a number in what it prints.  No shell, no secret in its environment."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence

from include.engine.contracts import Clock
from include.engine.errors import NotFound, PermanentError, Unreachable
from include.engine.health.declared import reading_in
from include.engine.health.rules import CustomProbe
from include.engine.model import Reading
from include.engine.probing import Probe

_PASSED_ON = ("PATH", "HOME", "LANG", "TZ")  # what the sweep itself runs with holds the connections


class CommandProbe:
    """Runs one command (see ``probing.Probe``)."""

    def __init__(self, declared: CustomProbe) -> None:
        self.name = declared.name
        self.metrics: Sequence[str] = (declared.metric,)
        self.source = f"the command {declared.name}"
        self._declared = declared

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it (see ``probing.Probe``).

        :raises NotFound: when there is no such program
        :raises PermanentError: when it fails
        """
        command = list(self._declared.command or ())
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        try:
            running = subprocess.Popen(
                command,
                env=kept,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise NotFound(
                f"the probe {self.name} wants to run {command[0]}, which is not here", hint="install it"
            ) from error
        except OSError as error:
            raise PermanentError(
                f"the probe {self.name} cannot run {command[0]}: {error.strerror}", hint="see that it may be executed"
            ) from error
        with running:
            try:
                output, errors = running.communicate(timeout=timeout)
            except subprocess.TimeoutExpired as error:
                # With all that it has started: one would be left by every sweep, and its pipe would keep us waiting.
                os.killpg(running.pid, signal.SIGKILL)
                raise Unreachable(
                    f"the command of the probe {self.name} did not end in time", hint="see why it hangs"
                ) from error
        if running.returncode != 0:
            said = " ".join(errors.split())[:200]
            raise PermanentError(f"the command of the probe {self.name} failed: {said}", hint="run it by hand")
        return [reading_in(self._declared, output, clock())]


def open_declared(declared: CustomProbe) -> Probe:
    """Give the probe that a rule file declares."""
    return CommandProbe(declared)
