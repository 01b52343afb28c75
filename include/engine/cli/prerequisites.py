"""What the demo and the tests need besides the locked Python environment: looked for, and fetched where that is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

from include.engine.cli.steps import Steps
from include.engine.errors import NotFound
from include.engine.sandbox.home import Home
from include.engine.wiring import PROJECT

# What tests of real servers need from the system, and the Debian packages that bring it.
_PROGRAMS = {
    "curl": ("curl",),
    "jq": ("jq",),
    "zstd": ("zstd",),
    "sshd": ("openssh-server",),
    "java": ("openjdk-17-jre-headless",),
    "mvn": ("maven",),
}
_BROWSER = {"chromium": ("chromium", "fonts-dejavu-core")}
_APT_SECONDS = 600
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))  # where sshd is, on nobody's path


def fetch(*, browser: bool) -> None:
    """Put everything in place, each thing once per machine.  By apt only as root; what is missing then is said and skipped.

    :param browser: also a Chromium, for the tests of the pages
    """
    from include.engine.sandbox.distributions import Shelf
    from include.engine.systems.object_store.implementations import IMPLEMENTATIONS, choose
    from include.engine.systems.postgres.binaries import PostgresBinaries

    home = Home.of(PROJECT)
    shelf = Shelf.of(home)
    steps = Steps()
    with steps.step("PostgreSQL 17"):
        PostgresBinaries.find(17, shelf)
    with steps.step("An S3 server"):
        shelf.obtain(IMPLEMENTATIONS[choose(home.root, shelf)].program)
    wanted = _PROGRAMS | (_BROWSER if browser else {})
    missing = {name: packages for name, packages in wanted.items() if shutil.which(name, path=_PATH) is None}
    if missing:
        with steps.step(f"{', '.join(missing)}, by apt"):
            _install(steps, missing)


def require(names: Sequence[str] = ("java", "mvn", "curl")) -> None:
    """Check that the system has the programs *names*: by default what the demo's servers need.

    :raises NotFound: naming all that are missing; the hint is the command that installs them
    """
    missing = [name for name in names if shutil.which(name, path=_PATH) is None]
    if missing:
        packages = " ".join(package for name in missing for package in _PROGRAMS[name])
        raise NotFound(f"{', '.join(missing)} not found on this machine", hint=f"apt-get install {packages}")


def _install(steps: Steps, missing: Mapping[str, Sequence[str]]) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        steps.say(f"not here: what needs {', '.join(missing)} is skipped. Install it to run those tests")
        return
    packages = [package for found in missing.values() for package in found]
    # RUNLEVEL keeps Debian from starting what it installs: a test's sshd is the test's, on loopback.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", *command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_APT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            # Not fatal: everything else can be tested, and CI=true makes the skipped tests fail anyway.
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            print(f"    apt-get {command[0]} failed: {last}", file=sys.stderr)
            return
