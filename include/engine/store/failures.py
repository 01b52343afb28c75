"""What the errors of an object store's client mean: which of ours they become, and what a person does about them."""

from __future__ import annotations

from collections.abc import Sequence

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from include.engine.errors import MainstayError, Misconfigured, NotFound, Unauthorized, Unreachable
from include.engine.full_disks import FULL

_CREDENTIALS = "check the key pair of the store's connection and its rights on the bucket"

# Words of a store's answer, our error, and the hint.  The first line that matches counts.
_MEANINGS: Sequence[tuple[Sequence[str], type[MainstayError], str]] = (
    (("NoSuchBucket",), Misconfigured, "create the bucket, or correct the URL of the store in the inventory"),
    (
        ("RequestTimeTooSkewed", "RequestExpired"),
        Unauthorized,
        "this machine's clock and the store's differ by too much: synchronise it with NTP",
    ),
    (
        ("ObjectLocked", "InvalidRequest: Object is WORM", "is WORM protected"),
        Unauthorized,
        "the object is locked: it can be deleted when its lock ends",
    ),
    (
        (
            "InvalidAccessKeyId",
            "XAdminUserNotFound",
            "SignatureDoesNotMatch",
            "AccessDenied",
            "403 Forbidden",
            "401 Unauthorized",
        ),
        Unauthorized,
        _CREDENTIALS,
    ),
    (
        (*FULL, "os error 28", "QuotaExceeded"),
        Unreachable,
        "the store is full: make room, or let retention keep less; the run can be repeated",
    ),
    (("Could not parse path",), Misconfigured, "names of objects may not be empty or contain . and .. as a part"),
)


def explained(error: BaseException, url: str, key: str) -> MainstayError:
    """Turn the error of a client (obstore or botocore) about *key* in the store *url* into one of ours."""
    where = f"{url}/{key}" if key else url
    text = str(error)
    for words, kind, hint in _MEANINGS:
        if any(word in text for word in words):
            return kind(f"the object store refused the request for {where}: {brief(error)}", hint=hint)
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{where} is not in the store", hint="`./mainstay catalog` lists what is")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return Unauthorized(
            f"the object store refused the request for {where}: {brief(error)}",
            hint=_CREDENTIALS,
        )
    return Unreachable(
        f"the object store failed on {where}: {brief(error)}",
        hint="check that the endpoint answers; the run can be repeated",
    )


def brief(error: BaseException) -> str:
    """Give the first line of a client's error.  obstore appends a dump of its innards, which are not for people."""
    return str(error).strip().split("\n", 1)[0][:300]
