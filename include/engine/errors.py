"""Every error that Mainstay raises on purpose.

::

    MainstayError(message, hint=)
    ├── TransientError            trying again later may help; the retry policy does
    │   ├── Unreachable           a server or a store did not answer
    │   ├── Contended             somebody else is doing the same thing right now
    │   └── Interrupted           we were asked to stop
    └── PermanentError            trying again changes nothing; a person must act
        ├── NotFound              the backup, object, target or tool is not there
        ├── Corrupt               what is there is not what was written
        ├── Incomplete            a part is missing, so the whole does not count
        ├── Refused               the guard said no: not empty, the source itself, no reason given
        ├── Unauthorized          the credentials were not accepted
        ├── Unsupported           a version or a feature that cannot work here
        └── Misconfigured         the inventory or the command line is wrong

An error is raised at the edge where it is known best, ``from`` the client's own error. It names the thing,
the cause and the next step, and it never carries a secret.
"""

from __future__ import annotations


class MainstayError(Exception):
    """An error that a person can act on.

    :param message: what is wrong with what, in one sentence
    :param hint: what to do next, in one sentence
    """

    def __init__(self, message: str, *, hint: str) -> None:
        # Both go to ``args`` so that the error survives pickling between Airflow's processes.
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint))

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


def _rebuild(cls: type[MainstayError], message: str, hint: str) -> MainstayError:
    return cls(message, hint=hint)


class TransientError(MainstayError):
    """Trying again later may help."""


class Unreachable(TransientError):
    """A server or a store did not answer, or stopped answering in the middle."""


class Contended(TransientError):
    """Somebody else is doing the same thing right now."""


class Interrupted(TransientError):
    """The work was asked to stop: a person, a signal or a deadline."""


class PermanentError(MainstayError):
    """Trying again changes nothing: a person must act."""


class NotFound(PermanentError):
    """A backup, an object, a target or a tool is not there."""


class Corrupt(PermanentError):
    """What is there is not what was written."""


class Incomplete(PermanentError):
    """A part is missing, so the whole does not count."""


class Refused(PermanentError):
    """A guard said no; what it protects is named."""


class Unauthorized(PermanentError):
    """The credentials were not accepted."""


class Unsupported(PermanentError):
    """A version or a feature that cannot work here."""


class Misconfigured(PermanentError):
    """The inventory or the command line is wrong; every mistake is listed."""
