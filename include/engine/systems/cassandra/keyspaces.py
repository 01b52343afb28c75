"""The pipeline's own keyspaces, as its stream and its services use them: for sandboxes and demos."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta

from include.engine.systems.cassandra.client import Cql

KEYSPACES = ("user_events", "spark_streams")
_STATEMENTS = (
    "CREATE KEYSPACE IF NOT EXISTS user_events WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': {copies}}}",
    "CREATE KEYSPACE IF NOT EXISTS spark_streams WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': {copies}}}",
    "CREATE TYPE IF NOT EXISTS user_events.device (kind text, version int)",
    """CREATE TABLE IF NOT EXISTS user_events.user_events (
        event_date text, event_id timeuuid, user_id uuid, event_type text, properties map<text, text>,
        device frozen<device>, created_at timestamp,
        PRIMARY KEY ((event_date, user_id), event_id)
    ) WITH CLUSTERING ORDER BY (event_id DESC)""",
    "CREATE INDEX IF NOT EXISTS user_events_by_type ON user_events.user_events (event_type)",
    """CREATE TABLE IF NOT EXISTS user_events.user_sessions (
        user_id uuid, session_id timeuuid, started_at timestamp, ended_at timestamp, duration int, pages list<text>,
        PRIMARY KEY (user_id, session_id)
    ) WITH CLUSTERING ORDER BY (session_id DESC)""",
    "CREATE INDEX IF NOT EXISTS user_sessions_by_duration ON user_events.user_sessions (duration) USING 'sai'",
    # The key comes from the event, never from the clock: a replay writes the same row again.
    """CREATE TABLE IF NOT EXISTS spark_streams.created_users (
        id uuid PRIMARY KEY, first_name text, last_name text, gender text, address text, post_code text, email text,
        username text, registered_date text, phone text, picture text
    )""",
)


def create(cql: Cql, *, copies: int = 1) -> None:
    """Make the keyspaces and their tables unless they are there.

    :param copies: in the datacenter ``dc1``; as many nodes at least
    """
    for statement in _STATEMENTS:
        cql.rows(statement.format(copies=copies))


def fill(cql: Cql, *, events: int, sessions: int, users: int, seed: int = 0, consistency: str = "QUORUM") -> None:
    """Write rows, the same for the same *seed*; another seed writes others beside them."""
    dice = random.Random(seed)  # noqa: S311
    start = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=seed % 20)

    def identity(version: int) -> uuid.UUID:
        return uuid.UUID(int=dice.getrandbits(128), version=version)

    people = [identity(4) for _ in range(max(users, 1))]
    kinds = ("click", "view", "purchase", "login")
    cql.many(
        "INSERT INTO user_events.user_events (event_date, event_id, user_id, event_type, properties, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                f"{start + timedelta(minutes=n):%Y-%m-%d}",
                identity(1),
                dice.choice(people),
                dice.choice(kinds),
                {"page": f"/p/{dice.randrange(500)}", "ref": f"r{n}"},
                start + timedelta(minutes=n),
            )
            for n in range(events)
        ],
        consistency=consistency,
    )
    cql.many(
        "INSERT INTO user_events.user_sessions (user_id, session_id, started_at, duration, pages) VALUES (?, ?, ?, ?, ?)",
        [
            (
                dice.choice(people),
                identity(1),
                start + timedelta(minutes=n),
                dice.randrange(3600),
                ["/", f"/p/{n % 50}"],
            )
            for n in range(sessions)
        ],
        consistency=consistency,
    )
    cql.many(
        "INSERT INTO spark_streams.created_users (id, first_name, last_name, email, username) VALUES (?, ?, ?, ?, ?)",
        [
            (person, f"First{n}", f"Last{n}", f"user{n}@example.com", f"user{n}")
            for n, person in enumerate(people[:users])
        ],
        consistency=consistency,
    )
