"""Fetches what the tests need besides the locked Python environment: server programs, and a browser where that is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from include.engine.cli.steps import Steps
from include.engine.sandbox.home import Home
from include.engine.wiring import PROJECT

_BROWSER = "chromium"
_APT_SECONDS = 600


def fetch(*, browser: bool) -> None:
    """Put everything in place, each thing once per machine.

    :param browser: also a Chromium, by apt as root; without it the tests of the pages say why they are skipped
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
    if browser and shutil.which(_BROWSER) is None:
        with steps.step("Chromium, by apt"):
            _install_browser(steps)


def _install_browser(steps: Steps) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        steps.say("not here: the tests of the pages are skipped. Install chromium to run them")
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["update", "-qq"],
        ["install", "-y", "-qq", "--no-install-recommends", _BROWSER, "fonts-dejavu-core"],
    ):
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
