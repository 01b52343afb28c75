"""Leaves a restored data directory as any stock PostgreSQL can start it."""

from __future__ import annotations

from pathlib import Path

from include.engine.errors import MainstayError
from include.engine.sandbox.accounts import Account, own

# What a source's configuration may say and a copy must not do; written last, so it wins, and easily taken out again.
_QUIETED = {
    "archive_mode": "off",
    "archive_command": "",
    "archive_library": "",
    "restore_command": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "synchronous_standby_names": "",
    **{f"recovery_target{kind}": "" for kind in ("", "_time", "_lsn", "_name", "_xid")},
}
_HBA = "local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n"


def tidy(data: Path, account: Account) -> None:
    """Leave a directory that a stock PostgreSQL can start: it recovers to nowhere, archives nothing, waits for no standby.

    :raises MainstayError: when a file cannot be written
    """
    automatic = data / "postgresql.auto.conf"
    try:
        kept = [
            line
            for line in (automatic.read_text().splitlines() if automatic.exists() else [])
            if line.partition("=")[0].strip().lower() not in _QUIETED
        ]
        settings = [f"{name} = '{value}'" for name, value in _QUIETED.items() if value or name != "archive_library"]
        automatic.write_text("\n".join([*kept, *settings]) + "\n")
        own(automatic, account, mode=0o600)
        for name, text in (("postgresql.conf", ""), ("pg_hba.conf", _HBA), ("pg_ident.conf", "")):
            if not (data / name).exists():  # Debian keeps them in /etc, where no backup looks
                (data / name).write_text(text)
                own(data / name, account, mode=0o600)
        for name in ("recovery.done", "postmaster.opts"):
            (data / name).unlink(missing_ok=True)
    except OSError as error:
        raise MainstayError(
            f"{data} is restored, but its configuration cannot be written: {error}",
            hint="set archive_mode = off and synchronous_standby_names = '' before starting it",
        ) from error
