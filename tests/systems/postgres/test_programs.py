"""A machine without the programs of a backup's version says nothing against the backup; who asks for no look gets no verdict."""

from __future__ import annotations

import pytest

from include.engine.contracts import LooksOnRequest
from include.engine.errors import NotFound, Unsupported
from include.engine.sandbox.home import Home
from include.engine.systems.postgres.binaries import PostgresBinaries
from include.engine.systems.postgres.restore import PostgresRestore
from tests.store.making import memory_catalog
from tests.systems.postgres.test_choose_chain import TARGET, manifest


def test_a_drill_of_a_version_that_is_not_here_is_unverified_not_failed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(major: int, _shelf: object) -> PostgresBinaries:
        raise NotFound(f"PostgreSQL {major} is not on this machine", hint=f"apt-get install postgresql-{major}")

    monkeypatch.setattr(PostgresBinaries, "find", find)
    engine = PostgresRestore(TARGET, memory_catalog(), home)
    # What a drill makes UNVERIFIED; a restore ends with it just as well.
    with pytest.raises(Unsupported, match="PostgreSQL 17 is not on this machine") as caught:
        engine.binaries(manifest(1))
    assert "postgresql-17" in caught.value.hint


def test_what_a_restore_leaves_out_when_no_checks_are_asked_for_is_known(home: Home) -> None:
    engine: object = PostgresRestore(TARGET, memory_catalog(), home)
    assert isinstance(engine, LooksOnRequest)  # or it would look as green as one that was looked at
    assert "pg_amcheck" in engine.unlooked
