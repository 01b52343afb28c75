"""The model: names that can be trusted, documents that are read strictly, verdicts that are never greener than what they join."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.errors import Corrupt, Misconfigured, Unsupported
from include.engine.model import (
    MANIFEST_VERSION,
    Check,
    Cut,
    DrillReport,
    Entry,
    Kind,
    Manifest,
    PointKind,
    RecoveryPoint,
    SourceIdentity,
    System,
    Target,
    Verdict,
    backup_id,
    backup_time,
    decode,
    encode,
    worst,
)

PROJECT = Path(__file__).resolve().parents[1]
AT = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


def a_manifest(**changes: object) -> Manifest:
    made = Manifest(
        id="20261123T020000Z",
        target=Target(System.POSTGRES, "main"),
        kind=Kind.FULL,
        started=AT,
        finished=AT,
        recoverable_from=AT,
        recoverable_to=AT,
        cut=Cut(at=AT, position="0/1", detail={"timeline": 1}),
        entries=(
            Entry(name="a", key="k/a", bytes=10, sha256="s", original_bytes=100),
            Entry(name="again", key="k/a", bytes=10, sha256="s", original_bytes=100),
            Entry(name="b", key="k/b", bytes=5, sha256="s"),
        ),
        source=SourceIdentity(identity="7", version="17.10"),
    )
    return msgspec.structs.replace(made, **changes)


class TestTargets:
    @given(st.sampled_from(System), st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True))
    def test_are_read_back_as_they_are_written(self, system: System, name: str) -> None:
        assert Target.parse(str(Target(system, name))) == Target(system, name)

    @pytest.mark.parametrize(
        "text",
        ["", "postgres", "postgres/", "/main", "oracle/main", "postgres/Main", "postgres/a/b", "postgres/../x", "postgres/-a",
         "postgres/main\n", "POSTGRES/main", "postgres/" + "a" * 64],
    )  # fmt: skip
    def test_of_another_form_are_refused(self, text: str) -> None:
        with pytest.raises(Misconfigured, match="is not a target"):
            Target.parse(text)

    @given(st.text(max_size=80))
    def test_are_read_or_refused_and_nothing_else(self, text: str) -> None:
        try:
            read = str(Target.parse(text))
        except Misconfigured:
            return
        assert read == text


class TestNamesOfBackups:
    @given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1), timezones=st.just(UTC)))
    def test_are_the_time_to_the_second(self, at: datetime) -> None:
        assert backup_time(backup_id(at)) == at.replace(microsecond=0)

    def test_are_in_utc_whatever_the_zone(self) -> None:
        assert backup_id(datetime(2026, 11, 23, 4, tzinfo=timezone(timedelta(hours=2)))) == "20261123T020000Z"

    @pytest.mark.parametrize("text", ["", "latest", "20261123", "2026-11-23T02:00:00Z", "20261323T020000Z", "../x"])
    def test_of_another_form_are_refused(self, text: str) -> None:
        with pytest.raises(Misconfigured, match="is not the name of a backup"):
            backup_time(text)


class TestRecoveryPoints:
    @pytest.mark.parametrize(
        ("text", "kind", "value"),
        [
            ("latest", PointKind.LATEST, ""),
            ("backup", PointKind.BACKUP, ""),
            ("position:0/16B3748", PointKind.POSITION, "0/16B3748"),
            ("name:before:the upgrade", PointKind.NAME, "before:the upgrade"),
        ],
    )
    def test_can_be_named(self, text: str, kind: PointKind, value: str) -> None:
        point = RecoveryPoint.parse(text)
        assert (point.kind, point.value) == (kind, value)

    @given(
        st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(9000, 1, 1), timezones=st.just(UTC)),
        st.integers(-14 * 60, 14 * 60),
    )
    def test_at_a_time_are_the_same_instant_in_utc(self, at: datetime, minutes: int) -> None:
        elsewhere = at.astimezone(timezone(timedelta(minutes=minutes)))
        found = RecoveryPoint.parse(elsewhere.isoformat()).time
        assert found == at
        assert found.tzinfo is UTC

    def test_at_a_time_without_a_zone_are_refused_with_the_way_out(self) -> None:
        with pytest.raises(Misconfigured, match="has no zone") as refused:
            RecoveryPoint.parse("2026-11-23T14:05:00")
        assert "2026-11-23T14:05:00Z" in refused.value.hint

    @pytest.mark.parametrize("text", ["", "position:", "name:", "yesterday", "time:2026-11-23T14:05:00Z", "latest:1"])
    def test_of_another_form_are_refused(self, text: str) -> None:
        with pytest.raises(Misconfigured, match="is not a point"):
            RecoveryPoint.parse(text)

    @given(st.sampled_from(["latest", "backup", "position:0/1", "name:x", "2026-11-23T14:05:00+00:00"]))
    def test_are_written_as_they_are_read(self, text: str) -> None:
        assert str(RecoveryPoint.parse(text)) == text


class TestVerdicts:
    @given(st.lists(st.sampled_from(Verdict)))
    def test_joined_are_never_greener_than_any_of_them(self, verdicts: list[Verdict]) -> None:
        joined = worst(verdicts)
        assert (joined is Verdict.FAIL) == (Verdict.FAIL in verdicts)
        assert (joined is Verdict.PASS) == (bool(verdicts) and set(verdicts) == {Verdict.PASS})

    def test_of_nothing_are_no_pass(self) -> None:
        assert worst([]) is Verdict.UNVERIFIED

    def test_are_told_to_the_shell(self) -> None:
        assert [verdict.exit_code for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.UNVERIFIED)] == [0, 1, 3]


class TestDocuments:
    def test_are_read_back_as_they_were_written(self) -> None:
        assert decode(encode(a_manifest()), Manifest, where="x") == a_manifest()

    def test_can_be_read_by_people(self) -> None:
        assert b'\n  "id": "20261123T020000Z",\n' in encode(a_manifest())

    def test_of_a_newer_version_are_refused_before_anything_else_is_read(self) -> None:
        raw = b'{"version": %d, "kind": {"of": "the future"}}' % (MANIFEST_VERSION + 1)
        with pytest.raises(Unsupported, match="newer Mainstay") as refused:
            decode(raw, Manifest, where="sets/x/manifest.json")
        assert "sets/x/manifest.json" in refused.value.message

    @pytest.mark.parametrize(
        "raw",
        [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"version": "one"}', b'{"version": 1}', encode(a_manifest())[:-40]],
        ids=["empty", "cut", "list", "null", "not text", "version", "missing fields", "truncated"],
    )
    def test_that_are_damaged_are_corrupt_and_named(self, raw: bytes) -> None:
        with pytest.raises(Corrupt, match="where/it/is"):
            decode(raw, Manifest, where="where/it/is")

    def test_with_fields_of_a_later_release_can_still_be_read(self) -> None:
        raw = encode(a_manifest()).replace(b'"version": 1', b'"version": 1, "colour": "red"')
        assert decode(raw, Manifest, where="x") == a_manifest()

    @given(st.binary(max_size=200))
    def test_of_any_bytes_are_refused_as_ours(self, raw: bytes) -> None:
        with pytest.raises((Corrupt, Unsupported)):
            decode(raw, DrillReport, where="x")

    def test_are_read_by_many_threads_from_the_first_one_on(self) -> None:
        """msgspec prepares a type when it is first used; a second thread that comes meanwhile crashes the process."""
        code = (
            "import sys, threading\n"
            "sys.setswitchinterval(1e-6)\n"
            "from tests.test_model import a_manifest\n"
            "from include.engine.model import Manifest, decode, encode\n"
            "raw = encode(a_manifest())\n"
            "together = threading.Barrier(16)\n"
            "def read():\n"
            "    together.wait()\n"
            "    decode(raw, Manifest, where='x')\n"
            "threads = [threading.Thread(target=read) for _ in range(16)]\n"
            "[thread.start() for thread in threads]\n"
            "[thread.join() for thread in threads]\n"
        )
        for _ in range(8):
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-500:]}"


class TestSizes:
    def test_count_shared_objects_once(self) -> None:
        assert a_manifest().bytes == 15

    def test_before_compression_are_as_far_as_they_are_known(self) -> None:
        assert a_manifest().original_bytes == 105


def test_a_check_costs_no_time_unless_it_says_so() -> None:
    assert Check(name="x", verdict=Verdict.PASS, detail="").seconds == 0
