"""Signatures of evidence, with Ed25519 (RFC 8032): anybody who has the public key can check them, with no server and no bucket.

A secret key is 32 bytes, a public key too; both are written in base64 behind a word that says which of them it is.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from include.engine.errors import Misconfigured

SECRET, PUBLIC = "MAINSTAY-SIGNING-KEY-", "mainstay-ed25519-"
# Signed with every text, so that a signature is of this kind of text and of no other.
_PURPOSE = b"mainstay evidence v1\n"
_BYTES = 32


class SigningKey(Struct, frozen=True, kw_only=True):
    """A key pair.  Its ``repr`` hides the secret half."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public!r})"

    def file_text(self, created: datetime) -> str:
        """Give the text of a key file."""
        stamp = created.isoformat(timespec="seconds")
        return f"# created: {stamp}\n# public key: {self.public}\n{self.secret}\n"


def generate_key() -> SigningKey:
    """Make a new key pair."""
    return _pair(Ed25519PrivateKey.generate())


def key_in(text: str) -> SigningKey:
    """Read the one secret key of a key file, or of a connection's password.

    :raises Misconfigured: when there is none, or several; what is there is not quoted
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    if len(lines) != 1 or not lines[0].startswith(SECRET):
        raise Misconfigured("that is no key that signs evidence", hint="make one with `./mainstay evidence key FILE`")
    return _pair(Ed25519PrivateKey.from_private_bytes(_decoded(lines[0].removeprefix(SECRET), "the signing key")))


def sign(text: bytes, key: SigningKey) -> str:
    """Give the signature of *text*, in base64."""
    raw = _decoded(key.secret.removeprefix(SECRET), "the signing key")
    return base64.b64encode(Ed25519PrivateKey.from_private_bytes(raw).sign(_PURPOSE + text)).decode()


def is_signed(text: bytes, signature: str, public: str) -> bool:
    """Whether the key pair of *public* has signed *text*.

    :raises Misconfigured: when *public* is no public key
    """
    key = Ed25519PublicKey.from_public_bytes(_decoded(public.removeprefix(PUBLIC), f"the public key {public!r}"))
    try:
        key.verify(base64.b64decode(signature, validate=True), _PURPOSE + text)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _pair(private: Ed25519PrivateKey) -> SigningKey:
    return SigningKey(
        public=PUBLIC + base64.b64encode(private.public_key().public_bytes_raw()).decode(),
        secret=SECRET + base64.b64encode(private.private_bytes_raw()).decode(),
    )


def _decoded(text: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _BYTES:
        raise Misconfigured(f"{what} is damaged", hint="give the whole line, as `./mainstay evidence key` wrote it")
    return raw
