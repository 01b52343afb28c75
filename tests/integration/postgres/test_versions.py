"""Every version that is backed up comes back, and so does every codec: to a time, and in a drill."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.engine.model import DestinationKind, Verdict
from include.engine.sandbox.home import Sandbox
from include.engine.systems.postgres.reached import statements
from include.engine.systems.postgres.settings import PostgresSettings
from tests.estate import TARGET, Estate, eventually, new_estate

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("major", "compression", "on"),
    [(15, "gzip", "server"), (16, "lz4", "server"), (17, "none", "client"), (18, "zstd", "client")],
    ids=["15-gzip", "16-lz4", "17-none", "18-zstd-by-the-client"],
)
def test_a_cluster_comes_back_at_a_time_and_in_a_drill(
    sandbox: Sandbox, tmp_path: Path, major: int, compression: str, on: str
) -> None:
    estate = new_estate(sandbox, f"v{major}", tmp_path, major=major)
    declared = {"connection": "postgres_main", "compression": compression, "compress_on": on}
    estate.settings = PostgresSettings.model_validate(declared)
    try:
        round_trip(estate, sandbox.directory(f"versions-{major}") / "data", compression, on)
    finally:
        estate.server.kill()


def round_trip(estate: Estate, place: Path, compression: str, on: str) -> None:
    estate.sql("create table history (n int primary key, note text)")
    estate.sql("insert into history select n, repeat('x', 200) from generate_series(1, 1000) n")
    with estate.archiving(reached_seconds=0.2):
        backup = estate.backup()
        assert (backup.detail["compression"], backup.detail["compressed_on"]) == (compression, on)
        estate.sql("insert into history values (1001, 'in time')")
        wanted = estate.now()
        estate.sql("insert into history values (1002, 'too late')")
        estate.archived()
        # Nobody writes a heartbeat here: it is by this that a drill tells how new what came back is.
        eventually(lambda: statements(estate.bucket, TARGET), what="the archiver has stated something")
    estate.restore(place, wanted.isoformat())
    with estate.serving(place, place.parent.name) as connection:
        assert connection.execute("select count(*), max(n) from history").fetchone() == (1001, 1001)
    with estate.engine.rehearse(estate.job(estate.plan(None, kind=DestinationKind.SANDBOX))) as rehearsal:
        found = {check.name: check.verdict for check in rehearsal.checks}
    assert found == dict.fromkeys(
        ("pg_verifybackup", "rows of postgres", "promoted", "amcheck", "heartbeat"), Verdict.PASS
    )
