"""Places for the tests of the sandbox itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.engine.sandbox.home import Home


@pytest.fixture
def open_place(home: Home) -> Iterator[Path]:
    """An empty directory that every account can enter: pytest's own is closed."""
    place = home.root / f"place-{os.getpid()}"
    place.mkdir()
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)
