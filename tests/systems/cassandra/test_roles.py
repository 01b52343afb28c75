"""Grants are written as CQL."""

from __future__ import annotations

import pytest

from include.engine.systems.cassandra.roles import resource


@pytest.mark.parametrize(
    ("path", "cql"),
    [
        ("data", "ALL KEYSPACES"),
        ("data/ks", 'KEYSPACE "ks"'),
        ("data/ks/T", 'TABLE "ks"."T"'),
        ("roles", "ALL ROLES"),
        ("roles/me", 'ROLE "me"'),
        ("functions/ks", None),
        ("mbean/x", None),
    ],
)
def test_resources(path: str, cql: str | None) -> None:
    assert resource(path) == cql
