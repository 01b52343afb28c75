"""The archive never has a gap, not for a moment: the beginning of a segment is stored behind all that lies before it."""

from __future__ import annotations

from pathlib import Path

from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.lsn import Segment
from include.engine.systems.postgres.shipper import Shipper
from include.engine.systems.postgres.wal_objects import list_wal
from tests.systems.postgres.test_wal_sample import IDENTITY, NOW, SIZE, TARGET, content


def test_a_beginning_waits_for_the_whole_segment_before_it(tmp_path: Path) -> None:
    received = tmp_path / "spool" / "received"
    received.mkdir(parents=True)
    bucket = Bucket.open((tmp_path / "bucket").as_uri())
    shipper = Shipper(bucket, TARGET, received, identity=IDENTITY, recipients=(), clock=lambda: NOW)
    begun = received / f"{Segment(1, 6, SIZE).name}.partial"
    begun.write_bytes(content(Segment(1, 6, SIZE))[:4000])
    assert shipper.ship_partial()

    # The server goes on to the next segment between two looks of the shipper.
    begun.write_bytes(content(Segment(1, 6, SIZE)))
    begun.rename(begun.with_suffix(""))
    (received / f"{Segment(1, 7, SIZE).name}.partial").write_bytes(content(Segment(1, 7, SIZE))[:4000])

    assert not shipper.ship_partial()
    assert [wal.name[:24] for wal in list_wal(bucket, TARGET)] == [Segment(1, 6, SIZE).name]
    assert shipper.state.last_lsn <= Segment(1, 6, SIZE).start + 4000
    assert shipper.ship_closed(lambda: False) == 1
    assert shipper.ship_partial()
    assert [wal.name[:24] for wal in list_wal(bucket, TARGET)] == [Segment(1, n, SIZE).name for n in (6, 7)]
