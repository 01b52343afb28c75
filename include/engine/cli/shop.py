"""The demo's database: a shop whose data keeps changing, with names that are not ASCII, and the heartbeat table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.engine.sandbox.process import exclusive

if TYPE_CHECKING:
    import psycopg

    from include.engine.systems.postgres.server import PostgresServer

DATABASE = ROLE = "shop"
CUSTOMERS, ORDERS = 5_000, 150_000  # about 40 MB: enough for a rate and a ratio that mean something

# The heartbeat is what the RPO is measured with: the newest row that a restore brings back says how much was lost.
# It lies beside the database that the target's connection names, not in the shop: the log is one for all databases.
_HEARTBEAT = """
create schema if not exists mainstay;
create table if not exists mainstay.heartbeat (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp()
);
grant usage on schema mainstay to shop;
grant select, insert, delete on mainstay.heartbeat to shop;
"""

_TABLES = '''
create table customers (
    id bigint generated always as identity primary key,
    name text not null,
    city text not null,
    joined timestamptz not null
);
create table orders (
    id bigint generated always as identity primary key,
    customer bigint not null references customers,
    placed timestamptz not null default clock_timestamp(),
    status text not null default 'new',
    cents bigint not null,
    note text not null default ''
);
create index orders_by_customer on orders (customer, placed);
create table "Rückläufer & ""Reklamationen""" (
    id bigint generated always as identity primary key,
    "Auftrag №" bigint not null references orders on delete cascade,
    "почему" text not null
);
'''

_ROWS = """
select setseed(0.42);
insert into customers (name, city, joined)
select (array['Zoë', 'Jürgen', 'Søren', 'Łucja', 'Ángel', 'Nguyễn', 'Алексей', '太郎', 'محمد', 'O''Brien', 'Renée "Rae"'])
           [1 + n % 11] || ' ' || (array['Müller', 'Ørsted', 'Żak', 'Núñez', 'Trần', 'Иванова', '山田', 'حداد', 'D''Arcy'])[1 + n % 9],
       (array['Zürich', 'København', 'Kraków', 'Málaga', 'Huế', 'Санкт-Петербург', '東京', 'القاهرة'])[1 + n % 8],
       now() - n * interval '1 hour'
from generate_series(1, %(customers)s) n;
insert into orders (customer, placed, status, cents, note)
select 1 + (random() * (%(customers)s - 1))::bigint,
       now() - (%(orders)s - n) * interval '20 seconds',
       (array['new', 'paid', 'sent', 'delivered'])[1 + n % 4],
       (100 + random() * 90000)::bigint,
       md5(n::text) || md5(random()::text)
from generate_series(1, %(orders)s) n;
insert into "Rückläufer & ""Reklamationen""" ("Auftrag №", "почему")
select id, 'beschädigt, “wie gesehen”' from orders where id %% 500 = 0;
"""


def open_shop(primary: PostgresServer) -> str:
    """Make the shop and the heartbeat table on *primary* unless they are there; give the password of the role ``shop``."""
    password = primary.create_role(ROLE)
    with exclusive(primary.sandbox.root / "run" / "shop.lock"):
        with primary.connect() as connection:
            connection.execute(_HEARTBEAT)
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
        connection.execute(_TABLES)
        for statement in _ROWS.strip().split(";\n"):
            connection.execute(statement, {"customers": CUSTOMERS, "orders": ORDERS})
    connection.execute("analyze")
