"""What an error of PostgreSQL means for the person who must act: the server's words in, one of our errors out.  Pure.

Results carry an SQLSTATE (PostgreSQL docs, appendix A); a refused connection carries a text only, which the server may
have translated.  What is not recognised keeps the server's words and a hint that is true of every error.
"""

from __future__ import annotations

import re

from include.engine.errors import (
    Contended,
    Corrupt,
    Incomplete,
    Interrupted,
    MainstayError,
    Misconfigured,
    NotFound,
    PermanentError,
    Unauthorized,
    Unreachable,
    Unsupported,
)

_Rule = tuple[re.Pattern[str], type[MainstayError], str]


def _rule(pattern: str, error: type[MainstayError], hint: str) -> _Rule:
    return re.compile(pattern, re.IGNORECASE), error, hint


# The first that matches wins, so the narrow ones come first.  ``{role}`` is filled in.
_BY_TEXT: tuple[_Rule, ...] = (
    _rule(
        r"permission denied to start wal sender|must be superuser or replication role",
        Unauthorized,
        'let the role replicate: ALTER ROLE "{role}" REPLICATION',
    ),
    _rule(
        r"max_wal_senders|number of requested standby connections",
        Contended,
        "all WAL senders are taken: wait for the other backups, or raise max_wal_senders (a backup needs two)",
    ),
    _rule(
        r"all replication slots are in use",
        Contended,
        "drop a slot that nobody uses (pg_replication_slots), or raise max_replication_slots",
    ),
    _rule(
        r"no pg_hba\.conf entry for replication",
        Unauthorized,
        'allow it in pg_hba.conf: "host replication {role} <this machine>/32 scram-sha-256", then reload',
    ),
    _rule(r"no pg_hba\.conf entry|pg_hba\.conf rejects", Unauthorized, "allow this machine and role in pg_hba.conf"),
    _rule(
        r"password authentication failed|no password supplied|authentication failed|role .* does not exist|"
        r"is not permitted to log in|certificate (authentication|verify) failed|SASL",
        Unauthorized,
        "check the login and password of the connection",
    ),
    _rule(r"database .* does not exist", NotFound, "check the database's name in the inventory and the connection"),
    _rule(
        r"requested WAL segment .* has already been removed|could not find any WAL files|could not find WAL file",
        Incomplete,
        "the server recycled WAL that the backup needs: raise max_slot_wal_keep_size (or set it to -1), then retry",
    ),
    _rule(
        r"wal_level|WAL level not sufficient",
        Misconfigured,
        "set wal_level = replica (or logical) and restart the server",
    ),
    _rule(
        r"does not support SSL|SSL (connection|negotiation|error)|invalid sslmode|root certificate",
        Misconfigured,
        "check sslmode and the certificates in the extras of the connection",
    ),
    _rule(
        r"recovery is in progress",
        Unsupported,
        "the server is a standby: connect to the primary for what writes to the log",
    ),
    _rule(r"could not translate host name", Unreachable, "check the host of the connection, and the name service"),
)

_BY_STATE: tuple[tuple[str, type[MainstayError], str], ...] = (
    ("28", Unauthorized, "check the login and password of the connection"),
    ("42501", Unauthorized, 'grant the role "{role}" what the message names'),
    ("3D000", NotFound, "check the database's name in the inventory and the connection"),
    ("53300", Contended, "the server has no connection to spare: try later, or raise max_connections"),
    ("53400", Contended, "a limit of the server is reached: try later, or raise what the message names"),
    ("53", Unreachable, "the server is out of a resource: look at its disk and memory, then retry"),
    ("55006", Contended, "somebody else is using it: try later"),
    ("57014", Interrupted, "somebody or a timeout cancelled it on the server; the run can be repeated"),
    ("57", Unreachable, "the server is stopping or starting: the run can be repeated when it is up"),
    ("08", Unreachable, "the connection broke: the run can be repeated"),
    ("58", Unreachable, "the server met an error of its disk: read its log"),
    ("XX001", Corrupt, "a page on the server is damaged: read its log, run pg_amcheck, and restore that part"),
    ("XX002", Corrupt, "an index on the server is damaged: read its log, run pg_amcheck, and reindex"),
    ("0A000", Unsupported, "this version of the server cannot do it"),
    ("42601", Unsupported, "this version of the server does not know the command"),
)


def diagnose(text: str, *, state: str | None, where: str, role: str) -> MainstayError:
    """Make the server's error one of ours.

    :param text: what the client library or the server said, without a password
    :param state: the SQLSTATE, when there is one; without one nothing has been answered, so trying again may help
    :param where: who said it, ``PostgreSQL at db1:5432``
    """
    brief = " ".join(text.split())[:400] or "no reason given"
    message = f"{where}: {brief}"
    for pattern, error, hint in _BY_TEXT:
        if pattern.search(brief):
            return error(message, hint=hint.format(role=role))
    for prefix, error, hint in _BY_STATE:
        if state and state.startswith(prefix):
            return error(message, hint=hint.format(role=role))
    if state:
        return PermanentError(message, hint="read the server's log, which says more")
    return Unreachable(message, hint="check that the server runs and that host and port of the connection are right")
