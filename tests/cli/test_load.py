"""``./mainstay load``: what it says of the profiles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from include.engine import load_wiring
from include.engine.store.loads import Loads
from include.engine.verbs.pipeline import Pipeline
from tests.cli.conftest import Shell
from tests.loading.test_judging import result


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


def test_a_result_that_is_damaged_hides_no_other_and_is_told(shell: Shell, pipeline: Pipeline) -> None:
    bucket, good = pipeline.catalog.bucket, result("20261123T000002Z", 5.0, seed=1)
    bucket.create("loads/20261123T000001Z.json", b"{")
    Loads(bucket).commit(good, "a page")
    ended = shell("load", "list", "--json")
    assert ended.exit_code == 1
    assert [one["id"] for one in json.loads(ended.stdout)] == [good.id]
    assert "cannot be read: loads/20261123T000001Z.json" in ended.stderr
    assert good.id in shell("load", "list").stdout
