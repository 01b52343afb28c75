"""Load tests in the bucket: ``loads/<id>.json``, and beside it the page for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from include.engine.contracts import Clock
from include.engine.errors import NotFound
from include.engine.model import LoadResult, decode, encode
from include.engine.store.bucket import Bucket
from include.engine.store.lease import turn

_FOLDER = "loads"
_RUNNING = "loads/running"


class Loads:
    """The load tests of a pipeline."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def ids(self) -> list[str]:
        """Name all of them, oldest first."""
        keys = [found.key.removeprefix(f"{_FOLDER}/") for found in self._bucket.list(_FOLDER)]
        return sorted(key.removesuffix(".json") for key in keys if key.endswith(".json") and "/" not in key)

    def find(self, id_: str) -> LoadResult | None:
        """Give one, or nothing."""
        key = f"{_FOLDER}/{id_}.json"
        try:
            return decode(self._bucket.read(key), LoadResult, where=key)
        except NotFound:
            return None

    def get(self, id_: str) -> LoadResult:
        """Give one.

        :raises NotFound: when there is none of that name
        """
        found = self.find(id_)
        if found is None:
            newest = ", ".join(self.ids()[-3:])
            raise NotFound(
                f"there is no load test {id_}", hint=f"the newest are {newest}" if newest else "there is none"
            )
        return found

    def newest(self, *, profile: str, target: str, before: str, most: int = 5) -> list[LoadResult]:
        """Give the last tests of the same profile and target before *before* that were not ended early, newest first."""
        found = []
        for id_ in reversed([one for one in self.ids() if one < before]):
            result = self.find(id_)
            if result is not None and (result.profile, result.target) == (profile, target) and not result.stopped:
                found.append(result)
            if len(found) == most:
                break
        return found

    def commit(self, result: LoadResult, page: str) -> LoadResult:
        """Keep a result with its page; give the one that counts, another attempt's when that was first."""
        if self.find(result.id) is None:
            self._bucket.delete_allowed(
                [f"{_FOLDER}/{result.id}.html"]
            )  # of an attempt that died before its result counted
        self._bucket.create(f"{_FOLDER}/{result.id}.html", page.encode())
        self._bucket.create(f"{_FOLDER}/{result.id}.json", encode(result))
        return self.get(result.id)

    def page(self, id_: str) -> str:
        """Give the page of one."""
        return self._bucket.read(f"{_FOLDER}/{id_}.html").decode()

    @contextmanager
    def alone(self, *, until: datetime, clock: Clock) -> Iterator[None]:
        """Let one load test run at a time.

        :raises Contended: when another one runs
        """
        with turn(self._bucket, _RUNNING, until=until, clock=clock):
            yield
