"""A machine without the programs of a backup's version says nothing against the backup."""

from __future__ import annotations

import pytest

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
