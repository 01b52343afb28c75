"""What is read of a node, from what its tools print."""

from __future__ import annotations

from include.engine.systems.cassandra.readings import hint_files

LISTING = """total 12
drwxr-xr-x 2 999 999 4096 Nov 24 05:00 old
-rw-r--r-- 1 999 999  512 Nov 24 05:00 0f3c9a6e-9c0e-4a52-8d54-0a9b4f0b6f7e-1763960400123-2.hints
-rw-r--r-- 1 999 999    8 Nov 24 05:00 0f3c9a6e-9c0e-4a52-8d54-0a9b4f0b6f7e-1763960400123-2.crc32
-rw-r--r-- 1 999 999 1024 Nov 24 05:01 5b1e7f0a-2d7d-4d52-8a0f-0d7f4f0b6f7e-1763960461000-2.hints
-rw-r--r-- 1 999 999   64 Nov 24 05:01 5b1e7f0a-1111-4d52-8a0f-0d7f4f0b6f7e-1763960461000-2.hints
"""


def test_hints_are_known_by_their_files_with_the_time_they_were_begun() -> None:
    assert hint_files(LISTING) == {1763960400123: 512, 1763960461000: 1088}
    assert hint_files("total 0\n") == {}
