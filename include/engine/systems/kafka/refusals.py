"""Errors that a person can act on, out of what kafka-python raises, what it only logs, and what we see on a cluster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from include.engine.errors import (
    Contended,
    MainstayError,
    NotFound,
    PermanentError,
    Refused,
    Unauthorized,
    Unreachable,
    Unsupported,
)

_LOGGER = logging.getLogger("kafka")
_LOCK = threading.Lock()
_LISTENING: list[bool] = []  # what the logger was before, then one for each listener


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn kafka-python's errors into ours."""
    from kafka import errors as theirs

    try:
        yield
    except MainstayError:
        raise
    except (theirs.SaslAuthenticationFailedError, theirs.UnsupportedSaslMechanismError) as error:
        raise _not_accepted(str(error)) from error
    except theirs.AuthorizationError as error:
        raise Unauthorized(
            f"Kafka does not let us ask for {what}: {error}",
            hint="give Mainstay's user the ACLs that docs/kafka.md lists",
        ) from error
    except (theirs.UnknownMemberIdError, theirs.NonEmptyGroupError) as error:
        raise Contended(f"consumers are running: {error}", hint="stop the consumers of the group first") from error
    except theirs.UnknownTopicOrPartitionError as error:
        raise NotFound(
            f"Kafka does not know a topic or partition: {error}", hint="list the cluster's topics"
        ) from error
    except theirs.TopicAlreadyExistsError as error:
        raise Refused(f"the topic exists: {error}", hint="restore under another name, or delete the topic") from error
    except theirs.UnsupportedVersionError as error:
        raise Unsupported(
            f"this Kafka cannot be asked for {what}: {error}", hint="Kafka 3.0 or newer is needed"
        ) from error
    except (theirs.RetriableError, OSError) as error:
        raise Unreachable(
            f"Kafka did not answer when asked for {what}: {error}", hint="check the brokers; the run can be repeated"
        ) from error
    except theirs.KafkaError as error:
        raise PermanentError(f"Kafka refused {what}: {error}", hint="see the broker's log") from error


class Said(logging.Handler):
    """What kafka-python has logged, whichever of its clients it was."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[tuple[int | None, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note a line."""
        self._lines.append((record.thread, record.getMessage()))

    def of(self, thread: int | None) -> list[str]:
        """Give the lines of one client, whose thread this is, and those of our own thread."""
        return [line for told, line in self._lines if told in (thread, threading.get_ident())]


@contextmanager
def listening() -> Iterator[Said]:
    """Collect what kafka-python logs: a failed bootstrap only says "timeout", the cause is in the log alone.

    The level also keeps its debug lines away, which quote passwords.
    """
    listener = Said()
    with _hushed():
        _LOGGER.addHandler(listener)
        try:
            yield listener
        finally:
            _LOGGER.removeHandler(listener)


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep the client's lines from everybody else.  Probes listen side by side, and the last one puts back what the first found."""
    with _LOCK:
        if not _LISTENING:
            _LISTENING.append(_LOGGER.propagate)
        _LISTENING.append(True)
        _LOGGER.setLevel(logging.WARNING)
        _LOGGER.propagate = False
    try:
        yield
    finally:
        with _LOCK:
            _LISTENING.pop()
            if len(_LISTENING) == 1:
                _LOGGER.propagate = _LISTENING.pop()
                _LOGGER.setLevel(logging.ERROR)


def no_bootstrap(servers: str, said: Sequence[str], error: Exception, *, sasl: bool) -> MainstayError:
    """Say why no server let us in, from what the client logged meanwhile."""
    for line in said:
        if "SaslAuthenticationFailed" in line or "UnsupportedSaslMechanism" in line:
            return _not_accepted(f"{servers}: {line.rpartition(':')[2].strip()}")
    if sasl and any("socket disconnected" in line for line in said) and not any("REFUSED" in line for line in said):
        # A broker answers a wrong password late and closes: the answer is often lost.
        return _not_accepted(f"{servers} closed the connection while we logged in")
    for line in said:
        if "SSL" in line or "certificate" in line.lower():
            return Unauthorized(
                f"TLS with {servers} failed: {line.partition('failed: ')[2] or line}",
                hint="check security.protocol and ssl.ca.location of the connection: is this a TLS port, and whose certificate?",
            )
    reason = next((line for line in reversed(said) if "failed" in line), str(error))
    return Unreachable(
        f"no Kafka broker answered at {servers}: {reason[:200]}",
        hint="check the address and that the brokers run; the run can be repeated",
    )


def _not_accepted(reason: str) -> Unauthorized:
    return Unauthorized(
        f"Kafka did not accept the credentials: {reason}",
        hint="check login, password and sasl.mechanism of the connection",
    )


def foreign(where: str) -> Refused:
    """Say that a partition holds records that are not the restore's."""
    return Refused(
        f"{where} holds records that are not those of the backup: somebody else wrote to it, or a second restore runs",
        hint="stop the producers and the other restore, delete the topic, and restore it again, or under another name",
    )
