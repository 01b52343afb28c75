"""Encryption in the client, with age (https://age-encryption.org/v1): a restore needs only the key and the stock tool.

A key pair is an *identity* (``AGE-SECRET-KEY-1…``, which opens) and a *recipient* (``age1…``, which seals).  The recipient
is the key's id: manifests name it, and it is no secret.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from datetime import datetime

import pyrage
from msgspec import Struct

from include.engine.errors import Corrupt, MainstayError, Misconfigured, Unauthorized
from include.engine.store.pipe import Pipe, ReaderGone

SCHEME = "age"

_JOIN_SECONDS = 5.0
_NEW_KEY = "make a key with `./mainstay key new`"


class Key(Struct, frozen=True, kw_only=True):
    """An age key pair.  Its ``repr`` hides the secret half."""

    recipient: str
    identity: str

    def __repr__(self) -> str:
        return f"Key(recipient={self.recipient!r})"

    def file_text(self, created: datetime) -> str:
        """Give the text of a key file, as ``age-keygen`` writes it."""
        stamp = created.isoformat(timespec="seconds")
        return f"# created: {stamp}\n# public key: {self.recipient}\n{self.identity}\n"


def generate_identity() -> Key:
    """Make a new key pair."""
    identity = pyrage.x25519.Identity.generate()
    return Key(recipient=str(identity.to_public()), identity=str(identity))


def identities_in(text: str) -> tuple[str, ...]:
    """Read the secret keys of a key file: comments, empty lines and ``AGE-SECRET-KEY-1…`` lines.

    :raises Misconfigured: when a line is none of these (its number is told, not its content), or there is no key at all
    """
    found: list[str] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            pyrage.x25519.Identity.from_str(line)
        except pyrage.IdentityError:
            # Not chained: the client's error may quote what may be a damaged secret.
            raise Misconfigured(f"line {number} is not an age secret key", hint=_NEW_KEY) from None
        found.append(line)
    if not found:
        raise Misconfigured("there is no age secret key in the text", hint=_NEW_KEY)
    return tuple(found)


def recipient_of(identity: str) -> str:
    """Give the public half of a secret key: its key id.

    :raises Misconfigured: when it is not an age secret key
    """
    return str(_identity(identity).to_public())


def encrypt(chunks: Iterable[bytes], recipients: Sequence[str]) -> Iterator[bytes]:
    """Encrypt *chunks* so that each of *recipients* can open them.  Memory is independent of their sum.

    *chunks* is iterated on another thread, and its error comes through as it is.  The thread ends with the iterator.

    :param recipients: age public keys
    :raises Misconfigured: at once, when there is no recipient or one is not an age public key
    """
    keys = _recipients(recipients)

    def explain(error: BaseException) -> MainstayError:
        return Misconfigured(f"the data cannot be encrypted: {error}", hint="check the recipients in the inventory")

    return _through(chunks, lambda source, sink: pyrage.encrypt_io(source, sink, keys), explain)


def decrypt(
    chunks: Iterable[bytes], identities: Sequence[str], *, what: str, key_ids: Sequence[str] = ()
) -> Iterator[bytes]:
    """Decrypt *chunks*, which are read to their end.  What comes out is authentic piece by piece, complete only at the end.

    :param identities: age secret keys; any one that fits is enough
    :param what: the object, for errors
    :param key_ids: the recipients that it was encrypted for, as far as they are known.  With them, a damaged header and a
        wrong key are told apart, which age alone cannot do
    :raises Misconfigured: at once, when an identity is not an age secret key
    :raises Unauthorized: when no identity fits; the hint names the key ids.  At once, when *key_ids* are known
    :raises Corrupt: when the ciphertext is damaged or cut short
    """
    keys = [_identity(identity) for identity in identities]
    fitting = {str(key.to_public()) for key in keys} & set(key_ids)
    if not keys or (key_ids and not fitting):
        raise _no_key(what, key_ids)

    def explain(error: BaseException) -> MainstayError:
        if "No matching keys" in str(error) and not fitting:
            return _no_key(what, key_ids)
        return Corrupt(
            f"{what} cannot be decrypted: what is stored is not what was encrypted",
            hint="restore from another backup of this target, and take a new full backup now",
        )

    return _through(chunks, lambda source, sink: pyrage.decrypt_io(source, sink, keys), explain)


class _Source:
    """What pyrage reads: a file over an iterable.  Remembers the iterable's own error, which pyrage turns into text."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._iterator = iter(chunks)
        self._rest = memoryview(b"")
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            try:
                chunk = next(self._iterator, None)
            except BaseException as error:
                self.error = error
                raise
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        piece = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(piece) :]
        return bytes(piece)

    def drain(self) -> None:
        # The iterable compares its digest at its very end, which age has no reason to read.
        while self.read():
            pass

    def close(self) -> None:
        if isinstance(self._chunks, Generator):
            self._chunks.close()


def _through(
    chunks: Iterable[bytes],
    work: Callable[[_Source, Pipe], None],
    explain: Callable[[BaseException], MainstayError],
) -> Iterator[bytes]:
    pipe = Pipe()
    source = _Source(chunks)

    def run() -> None:
        try:
            work(source, pipe)
            source.drain()
            pipe.finish()
        except ReaderGone:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised in the reader's thread
            told = source.error
            if told is None:
                told = explain(error)
                told.__cause__ = error
            pipe.fail(told)
        finally:
            # In this thread: a generator cannot be closed from another one while it runs.
            with contextlib.suppress(Exception):
                source.close()

    def pumped() -> Iterator[bytes]:
        thread = threading.Thread(target=run, name="age", daemon=True)
        thread.start()
        try:
            yield from pipe
        finally:
            pipe.abandon()
            # It ends at its next write.  One that waits for its source ends when the source answers: we do not wait so long.
            thread.join(_JOIN_SECONDS)

    return pumped()


def _recipients(texts: Sequence[str]) -> list[pyrage.x25519.Recipient]:
    if not texts:
        raise Misconfigured("there is no recipient to encrypt for", hint=_NEW_KEY)
    keys = []
    for text in texts:
        try:
            keys.append(pyrage.x25519.Recipient.from_str(text))
        except pyrage.RecipientError as error:
            # A secret key in the wrong place must not reach a log.
            shown = "a secret key" if text.upper().startswith("AGE-SECRET-KEY") else repr(text[:80])
            raise Misconfigured(
                f"{shown} is not an age public key",
                hint=f"recipients begin with age1; {_NEW_KEY}",
            ) from error
    return keys


def _identity(text: str) -> pyrage.x25519.Identity:
    try:
        return pyrage.x25519.Identity.from_str(text.strip())
    except pyrage.IdentityError:
        raise Misconfigured(
            "what was given as an age secret key is none", hint="secret keys begin with AGE-SECRET-KEY-1"
        ) from None


def _no_key(what: str, key_ids: Sequence[str]) -> Unauthorized:
    if key_ids:
        needed = " or ".join(key_ids)
        return Unauthorized(
            f"no key at hand opens {what}", hint=f"give the secret key of {needed} (connection, or --identity <file>)"
        )
    return Unauthorized(
        f"no key at hand opens {what}",
        hint="the manifest's encryption.key_ids names the keys that do; give one of them",
    )
