"""``./mainstay load``: what it says of the profiles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from include.engine import load_wiring
from tests.cli.conftest import Shell


def test_one_profile_with_a_mistake_hides_no_other_and_is_told(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(load_wiring.LOAD_PROFILES, tmp_path / "load")
    (tmp_path / "load" / "a-wrong.yaml").write_text("system: kafka\nspeed: 3\n")
    monkeypatch.setattr(load_wiring, "LOAD_PROFILES", tmp_path / "load")
    ended = shell("load", "profiles", "--json")
    assert ended.exit_code == 1
    found = {one["name"]: one for one in json.loads(ended.stdout)}
    assert found["kafka-steady"]["system"] == "kafka"
    assert "speed" in found["a-wrong"]["wrong"]
    assert all(not one["wrong"] for name, one in found.items() if name != "a-wrong")
    (tmp_path / "load" / "a-wrong.yaml").unlink()
    assert shell("load", "profiles").exit_code == 0
