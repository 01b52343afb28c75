"""The demo's database: a shop whose data keeps changing (``shop.sql``), and who may write the heartbeat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from include.engine.sandbox.process import exclusive

if TYPE_CHECKING:
    import psycopg

    from include.engine.systems.postgres.server import PostgresServer

DATABASE = ROLE = "shop"
HEARTBEAT = "mainstay.heartbeat"  # the default of the inventory; in the database that the target's connection names


def open_shop(primary: PostgresServer) -> str:
    """Make the shop and the heartbeat table on *primary* unless they are there; give the password of its role."""
    from include.engine.systems.postgres import heartbeat

    with exclusive(primary.sandbox.root / "run" / "shop.lock"):
        password = primary.create_role(ROLE)
        with primary.connect() as connection:
            heartbeat.ensure(connection, HEARTBEAT)
            connection.execute("grant usage on schema mainstay to shop")
            connection.execute("grant select, insert, delete on mainstay.heartbeat to shop")
            found = connection.execute("select 1 from pg_database where datname = %s", (DATABASE,)).fetchone()
            if found is None:
                connection.execute(f"create database {DATABASE} owner {ROLE}")
        with primary.connect(DATABASE) as connection:
            _fill(connection)
    return password


def _fill(connection: psycopg.Connection) -> None:
    row = connection.execute("select to_regclass('public.customers')").fetchone()
    if row is not None and row[0] is not None:
        return
    with connection.transaction():  # all or nothing: a first `up` that is killed half way leaves no half shop
        connection.execute(f"set local role {ROLE}")
        # As bytes: psycopg takes a string only when it is written in the code.
        connection.execute((Path(__file__).parent / "shop.sql").read_bytes())
    connection.execute("analyze")
