"""What ``./mainstay restore`` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

What = Annotated[str, typer.Argument(help="<system>/<name>, or a whole set: set/<id>, or latest-set for the newest")]
At = Annotated[str | None, typer.Option("--at", help="recover to this time, with its zone: 2026-11-23T14:05:00Z")]
Point = Annotated[
    str | None, typer.Option("--point", help="latest (the default), backup, position:<LSN> or name:<restore point>")
]
Backup = Annotated[str | None, typer.Option("--backup", help="start from this backup, not from the best one")]
To = Annotated[
    Path | None,
    typer.Option("--to", help="into this directory, new or empty; each part of a set into a folder of its own in it"),
]
ToServer = Annotated[
    list[str] | None,
    typer.Option(
        "--to-server",
        "--server",
        help="onto a server that the inventory names, or into the running cluster of this connection; for a set "
        "TARGET:NAME, once per part",
    ),
]
ToSandbox = Annotated[bool, typer.Option("--to-sandbox", help="into a throw-away server")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="only this topic, keyspace or table; for a set TARGET or TARGET:PART. Repeatable"),
]
Rename = Annotated[
    list[str] | None,
    typer.Option("--rename", help="OLD=NEW: bring it back under another name; for a set TARGET:OLD=NEW. Repeatable"),
]
Access = Annotated[
    bool | None,
    typer.Option(
        "--access/--no-access",
        help="put access rules and quotas of Kafka back; by default only into a server that the restore starts",
    ),
]
Append = Annotated[
    bool, typer.Option("--append", help="add to topics and tables that hold something, instead of refusing them")
]
Confirm = Annotated[
    list[str] | None,
    typer.Option("--confirm", help="the name of what would be overwritten, typed to allow it. Repeatable"),
]
Reason = Annotated[str, typer.Option("--reason", help="why; it is recorded")]
Checks = Annotated[
    bool,
    typer.Option(
        "--checks/--no-checks",
        help="look at all that PostgreSQL brought back: compare rows with the backup's digests, pg_amcheck, read every row; "
        "without, the restore is unverified",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="show the plan and stop")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask; --json does not either")]
