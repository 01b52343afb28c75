"""Roles and grants are noted as CQL that makes them again."""

from __future__ import annotations

import pytest

from include.engine.errors import Unauthorized
from include.engine.systems.cassandra.client import Cql
from tests.integration.cassandra.estate import Estate, detail

pytestmark = pytest.mark.integration


def test_roles_and_grants_come_back_from_what_was_noted(estate: Estate, cql: Cql) -> None:
    try:
        cql.rows('CREATE ROLE "Readers"')
        cql.rows('GRANT SELECT ON TABLE user_events.user_events TO "Readers"')
        cql.rows("CREATE ROLE analyst WITH LOGIN = true AND PASSWORD = 'never noted'")
        cql.rows('GRANT "Readers" TO analyst')
        manifest = estate.backup(keyspaces=["user_events"], roles=True, connection="cassandra_admin")
        noted = detail(manifest).cut.roles
        assert "never noted" not in "".join(noted)
        assert "detail.cut.roles" in estate.bare().catalog.set(manifest.id).by_hand
        for role in ("analyst", '"Readers"'):
            cql.rows(f"DROP ROLE {role}")
        for statement in noted:
            if "analyst" in statement or "Readers" in statement:
                cql.rows(statement)
        (granted,) = cql.rows("LIST ALL PERMISSIONS OF analyst")
        assert (granted["role"], granted["resource"], granted["permission"]) == (
            "Readers",
            "<table user_events.user_events>",
            "SELECT",
        )
    finally:
        for role in ("analyst", '"Readers"'):
            cql.rows(f"DROP ROLE IF EXISTS {role}")


def test_roles_without_the_right_to_read_them_are_an_error(estate: Estate) -> None:
    with pytest.raises(Unauthorized, match="system_auth"):
        estate.backup(keyspaces=["user_events"], roles=True)
