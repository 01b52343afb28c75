"""Memory does not depend on how much flows through: measured in a process of its own, on a real disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from include.engine.store.encryption import generate_identity
from include.engine.systems.object_store.server import ObjectStoreServer

PROJECT = Path(__file__).resolve().parents[2]
LIMIT_MIB = 160
STREAM_MIB = 512

_PROGRAM = """
import os, resource, sys, threading
from pathlib import Path
import msgspec
from include.engine.contracts import Connection
from include.engine.model import Entry
from include.engine.store.bucket import Bucket
from include.engine.store.encryption import recipient_of
from include.engine.store.vault import VaultReader, VaultWriter

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20

url, mib, endpoint, entry = sys.argv[1:]
keys = [key for key in [os.environ["IDENTITY"]] if key]
login, password = os.environ["KEY"], os.environ["SECRET"]
bucket = Bucket.open(url, Connection(login=login, password=password, extra={"endpoint_url": endpoint}))
writer = VaultWriter(bucket, "t/b/a", recipients=[recipient_of(key) for key in keys])
reader = VaultReader(bucket, identities=keys)
block = os.urandom(1 << 20)
before, peak, stop = resident(), [0], threading.Event()

def watch():
    while not stop.wait(0.01):
        peak[0] = max(peak[0], resident())

watcher = threading.Thread(target=watch)
watcher.start()
if entry:
    size = sum(map(len, reader.read(msgspec.json.decode(entry, type=Entry))))
    assert size == int(mib) << 20, size
else:
    entry = msgspec.json.encode(writer.write("x", (block for _ in range(int(mib))))).decode()
stop.set()
watcher.join()
print(peak[0] - before, entry)
"""


@pytest.mark.integration
@pytest.mark.parametrize(("where", "how"), [("local", "clear"), ("s3", "encrypted")])
def test_half_a_gigabyte_goes_through_the_vault_in_little_memory(
    tmp_path: Path, object_store: ObjectStoreServer, bucket: str, where: str, how: str
) -> None:
    url = tmp_path.as_uri() if where == "local" else f"s3://{bucket}/prefix"
    secret = {
        "KEY": object_store.access_key,
        "SECRET": object_store.secret_key,
        "IDENTITY": generate_identity().identity if how == "encrypted" else "",
    }

    def measured(entry: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, url, str(STREAM_MIB), object_store.endpoint, entry],
            cwd=PROJECT,
            env={**os.environ, **secret},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        peak, _, entry = done.stdout.strip().partition(" ")
        return int(peak), entry

    writing, entry = measured("")
    reading, _ = measured(entry)
    assert max(writing, reading) < LIMIT_MIB, f"{writing} MiB to write, {reading} MiB to read"
