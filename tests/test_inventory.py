"""The inventory tells every mistake at once, each with its line, and never guesses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.engine import wiring
from include.engine.errors import Misconfigured, NotFound
from include.engine.inventory import Inventory, TargetSettings, load, parse
from include.engine.model import System, Target

SCHEMAS: Mapping[System, type[TargetSettings]] = {System.POSTGRES: TargetSettings}
MAIN = Target(System.POSTGRES, "main")
SMALLEST = """\
pipeline: shop
store:
  url: s3://backups/shop
postgres:
  main:
    connection: postgres_main
"""


def read(text: str) -> Inventory:
    return parse(text, SCHEMAS)


def mistakes(text: str) -> list[str]:
    """Every mistake, as ``line N: …``."""
    with pytest.raises(Misconfigured) as refused:
        read(text)
    return re.findall(r"line \d+: .*", refused.value.message)


class TestReading:
    def test_the_smallest_inventory_has_sound_defaults(self) -> None:
        found = read(SMALLEST)
        assert found.targets[MAIN].connection == "postgres_main"
        assert found.objectives_of(MAIN).rpo == timedelta(minutes=15)
        assert found.encryption_of(MAIN).recipients == ()

    def test_what_is_no_yaml_is_shown(self) -> None:
        with pytest.raises(Misconfigured) as refused:
            read("pipeline: shop\n  store: nowhere\n")
        assert "line 2, column 8:\n      store: nowhere\n           ^" in refused.value.message

    def test_a_target_may_have_its_own_terms(self) -> None:
        found = read(SMALLEST + "    objectives: {rpo: 30s, rto: 2h}\n    encryption: {recipients: [age1x]}\n")
        assert found.objectives_of(MAIN).rpo == timedelta(seconds=30)
        assert found.encryption_of(MAIN).recipients == ("age1x",)

    def test_what_it_lacks_is_named_with_what_it_has(self) -> None:
        with pytest.raises(NotFound, match="postgres/other") as missing:
            read(SMALLEST).settings(Target(System.POSTGRES, "other"))
        assert "postgres/main" in missing.value.hint

    @pytest.mark.parametrize("name", ["inventory.yaml", "inventory.docker.yaml"])
    def test_the_repositorys_own_are_right(self, name: str) -> None:
        found = wiring.load_inventory(wiring.PROJECT / "include" / "config" / name)
        assert MAIN in found.targets

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match=r"nowhere\.yaml") as missing:
            load(tmp_path / "nowhere.yaml", SCHEMAS)
        assert "MAINSTAY_INVENTORY" in missing.value.hint


class TestMistakes:
    def test_are_told_all_at_once_with_their_lines(self) -> None:
        text = (
            "pipeline: shop\n"
            "colour: red\n"
            "store:\n"
            "  url: s3://b\n"
            "  bucket: b\n"
            "objectives:\n"
            "  rpo: soon\n"
            "retention:\n"
            "  redundancy: 0\n"
            "postgres:\n"
            "  main:\n"
            "    connection: c\n"
            "    speed: fast\n"
            "  Main:\n"
            "    connection: c\n"
        )
        told = mistakes(text)
        assert [line.partition(":")[0] for line in told] == [f"line {n}" for n in (2, 5, 7, 9, 13, 14)]
        assert "colour: unknown key" in told[0]
        assert "store.bucket: unknown key" in told[1]
        assert "like 30s, 15m, 2h, 7d or 4w" in told[2]
        assert "postgres.main.speed: unknown key" in told[4]
        assert "'postgres/Main' is not a target" in told[5]

    def test_of_a_missing_key_are_told_at_the_section_that_lacks_it(self) -> None:
        assert "line 5: postgres.main.connection: is required" in mistakes(
            "pipeline: shop\nstore:\n  url: s3://b\npostgres:\n  main: {}\n"
        )

    @pytest.mark.parametrize("text", ["", "# nothing\n", "[]", "just words", "null"])
    def test_of_an_inventory_that_is_none_are_told(self, text: str) -> None:
        with pytest.raises(Misconfigured, match="empty"):
            read(text)

    def test_of_yaml_are_told_with_the_line(self) -> None:
        with pytest.raises(Misconfigured, match="line 2"):
            read("pipeline: shop\n  store: [\n")

    def test_of_keys_that_are_given_twice_are_told(self) -> None:
        twice = SMALLEST + "  main:\n    connection: another\n"
        assert "line 7: main: given twice" in mistakes(twice)

    def test_of_an_inventory_without_a_target_are_told(self) -> None:
        assert any("no target at all" in line for line in mistakes("pipeline: shop\nstore: {url: s3://b}\n"))

    @pytest.mark.parametrize("section", ["postgres:", "postgres: {}", "postgres: [main]", "postgres: main"])
    def test_of_a_section_that_is_no_mapping_are_told(self, section: str) -> None:
        told = mistakes(f"pipeline: shop\nstore: {{url: s3://b}}\n{section}\n")
        assert any("expected a mapping" in line for line in told)

    def test_of_a_system_that_is_not_installed_are_told(self) -> None:
        told = mistakes(SMALLEST + "kafka:\n  main: {connection: k}\n")
        assert told == ["line 7: kafka: this installation has no such system"]

    def test_of_types_are_told(self) -> None:
        told = mistakes(SMALLEST.replace("pipeline: shop", "pipeline: [shop]\nversion: two"))
        assert [line.partition(":")[0] for line in told] == ["line 1", "line 2"]

    def test_of_a_newer_format_are_told(self) -> None:
        assert any("version" in line for line in mistakes(SMALLEST + "version: 2\n"))

    def test_of_settings_that_are_no_mapping_are_told(self) -> None:
        assert mistakes("pipeline: shop\nstore: {url: s3://b}\npostgres:\n  main: postgres_main\n")

    @settings(deadline=None)
    @given(st.text(max_size=200))
    def test_of_any_text_are_ours(self, text: str) -> None:
        with pytest.raises(Misconfigured):
            read(text)

    @settings(deadline=None)
    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.text(st.characters(codec="ascii", categories=["L"]), max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
            max_leaves=8,
        )
    )
    def test_of_any_value_in_any_place_are_ours(self, value: object) -> None:
        for key in ("store", "objectives", "retention", "schedule", "postgres", "servers", "late_after"):
            lines = [f"{name}: {text}" for name, text in _SMALLEST_FLOW.items() if name != key]
            try:
                read("\n".join([*lines, f"{key}: {json.dumps(value)}"]) + "\n")
            except Misconfigured:
                continue


_SMALLEST_FLOW = {"pipeline": "shop", "store": "{url: s3://b}", "postgres": "{main: {connection: c}}"}


class TestDurations:
    @given(st.integers(1, 10_000), st.sampled_from([("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)]))
    def test_are_a_number_and_a_unit(self, count: int, unit: tuple[str, int]) -> None:
        found = read(SMALLEST + f"late_after: {count}{unit[0]}\n")
        assert found.late_after == timedelta(seconds=count * unit[1])

    @pytest.mark.parametrize("text", ["15", "15 minutes", "-1h", "PT15M", "1h30m", "''", "true", "[1h]"])
    def test_of_another_form_are_refused(self, text: str) -> None:
        assert any("is not a duration" in line for line in mistakes(SMALLEST + f"late_after: {text}\n"))


class TestSchedules:
    @pytest.mark.parametrize("text", ['"0 2 * * *"', '"@daily"', "null"])
    def test_are_cron_or_nothing(self, text: str) -> None:
        assert read(SMALLEST + f"schedule: {{backup: {text}}}\n").schedule.backup == json.loads(text)

    @pytest.mark.parametrize("text", ["daily", '"0 2 * *"', "2"])
    def test_of_another_form_are_refused(self, text: str) -> None:
        assert mistakes(SMALLEST + f"schedule: {{backup: {text}}}\n")

    def test_a_drill_may_follow_the_backups_and_nothing_else_may(self) -> None:
        assert read(SMALLEST + "schedule: {drill: after-backup}\n").schedule.drill == "after-backup"
        assert mistakes(SMALLEST + "schedule: {backup: after-backup}\n")


def test_secrets_cannot_be_written_into_it() -> None:
    """It names connections; a password in it is an unknown key."""
    assert "line 7: postgres.main.password: unknown key" in mistakes(SMALLEST + "    password: hunter2\n")
