"""Memory does not depend on how much flows through: measured in a process of its own, on a real disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from include.engine.systems.object_store.server import ObjectStoreServer

PROJECT = Path(__file__).resolve().parents[2]
LIMIT_MIB = 160
STREAM_MIB = 512

_PROGRAM = """
import os, resource, sys, threading
from pathlib import Path
from include.engine.contracts import Connection
from include.engine.store.bucket import Bucket
from include.engine.store.encryption import generate_identity
from include.engine.store.vault import VaultReader, VaultWriter

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20

key = generate_identity()
url, how, mib, endpoint = sys.argv[1:]
login, password = os.environ["KEY"], os.environ["SECRET"]
bucket = Bucket.open(url, Connection(login=login, password=password, extra={"endpoint_url": endpoint}))
writer = VaultWriter(bucket, "t/b/a", recipients=[key.recipient] if how == "encrypted" else [])
block = os.urandom(1 << 20)
before, peak, stop = resident(), [0], threading.Event()

def watch():
    while not stop.wait(0.01):
        peak[0] = max(peak[0], resident())

watcher = threading.Thread(target=watch)
watcher.start()
entry = writer.write("x", (block for _ in range(int(mib))))
written = peak[0] - before
size = sum(map(len, VaultReader(bucket, identities=[key.identity]).read(entry)))
stop.set()
watcher.join()
assert size == int(mib) << 20, size
print(written, peak[0] - before)
"""


@pytest.mark.integration
@pytest.mark.parametrize(("where", "how"), [("local", "clear"), ("s3", "encrypted")])
def test_half_a_gigabyte_goes_through_the_vault_in_little_memory(
    tmp_path: Path, object_store: ObjectStoreServer, bucket: str, where: str, how: str
) -> None:
    url = tmp_path.as_uri() if where == "local" else f"s3://{bucket}/prefix"
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, url, how, str(STREAM_MIB), object_store.endpoint],
        cwd=PROJECT,
        env={**os.environ, "KEY": object_store.access_key, "SECRET": object_store.secret_key},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written, peak = map(int, done.stdout.split())
    assert max(written, peak) < LIMIT_MIB, f"{written} MiB while writing, {peak} MiB in all"
