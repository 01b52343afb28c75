"""Each verb does its work, says it in a table or as one JSON document, and ends with the exit code that was promised."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.engine.errors import Corrupt, Unreachable
from include.engine.model import ArchiveReach, Check, RecoverableWindow, Verdict
from include.engine.store.proven import LastWords
from include.engine.systems.postgres.archive import WalArchive
from include.engine.verbs import backup, upkeep
from include.engine.verbs.pipeline import Pipeline
from tests.cli.conftest import Shell
from tests.cli.paper import TARGET, Paper, PaperLookup


@pytest.fixture
def set_id(shell: Shell, pipeline: Pipeline) -> str:
    """A set that was taken by the command line."""
    done = shell("backup", "--json")
    assert done.exit_code == 0, done.output
    return str(json.loads(done.stdout)["set"]["id"])


@pytest.fixture
def older_set(shell: Shell, pipeline: Pipeline) -> str:
    done = shell("backup", "--id", "20200101T000000Z")
    assert done.exit_code == 0, done.output
    return "20200101T000000Z"


def said_of(pipeline: Pipeline, backup: str) -> Verdict:
    """What reading a backup back has found."""
    found = LastWords(pipeline.catalog).of(TARGET, backup)
    assert found is not None
    return found.verdict


class TestBackup:
    def test_takes_a_set_and_reads_it_back(self, shell: Shell, pipeline: Pipeline, paper: Paper) -> None:
        done = shell("backup")
        assert done.exit_code == 0
        (sealed,) = pipeline.catalog.sets()
        assert said_of(pipeline, sealed.id) is Verdict.PASS
        assert sealed.id in done.stdout
        assert "10.0x" in done.stdout
        assert paper.released == [sealed.id]

    @pytest.mark.parametrize(("verdict", "code"), [(Verdict.FAIL, 1), (Verdict.UNVERIFIED, 3)])
    @pytest.mark.parametrize("options", [(), ("--no-verify",)], ids=["read back", "not read back"])
    def test_says_by_its_exit_code_whether_the_parts_fit_together(
        self,
        shell: Shell,
        pipeline: Pipeline,
        monkeypatch: pytest.MonkeyPatch,
        verdict: Verdict,
        code: int,
        options: tuple[str, ...],
    ) -> None:
        unfit = Check(name="coverage", verdict=verdict, detail="in no backup: a topic")
        monkeypatch.setattr(backup, "judge_coverage", lambda _: unfit)
        done = shell("backup", *options)
        assert done.exit_code == code
        assert "a topic" in done.stdout
        assert len(pipeline.catalog.sets()) == 1

    def test_a_set_that_was_not_read_back_is_not_green(self, shell: Shell, pipeline: Pipeline) -> None:
        done = shell("backup", "--no-verify")
        assert done.exit_code == 3, done.output
        (sealed,) = pipeline.catalog.sets()
        assert sealed.verdict is Verdict.PASS  # the copy is kept, and its parts fit together
        assert f"Nothing was read back: `./mainstay verify {sealed.id}` does that" in done.stdout
        assert shell("verify").exit_code == 0

    def test_releases_the_servers_when_the_copy_fails(self, shell: Shell, pipeline: Pipeline, paper: Paper) -> None:
        paper.on_copy = Unreachable("the store is away", hint="wait")
        done = shell("backup")
        assert done.exit_code == 1
        assert len(paper.released) == 1
        assert pipeline.catalog.sets() == []

    def test_a_release_that_fails_is_told_and_neither_fails_a_set_nor_hides_why_there_is_none(
        self, shell: Shell, pipeline: Pipeline, paper: Paper
    ) -> None:
        paper.on_release = Unreachable("the server is away", hint="wait")
        done = shell("backup", "--id", "20261123T020000Z")
        assert done.exit_code == 0, done.output
        assert "was left on a server: the server is away" in done.stderr
        paper.on_copy = Unreachable("the store is away", hint="wait")
        failed = shell("backup", "--id", "20261124T020000Z")
        assert failed.exit_code == 1
        assert "error: the store is away" in failed.stderr

    def test_finishes_the_set_of_an_earlier_run(self, shell: Shell, pipeline: Pipeline, paper: Paper) -> None:
        paper.on_copy = Unreachable("the store is away", hint="wait")
        shell("backup", "--id", "20261123T020000Z")
        paper.on_copy = None
        assert shell("backup", "--id", "20261123T020000Z").exit_code == 0
        assert [found.id for found in pipeline.catalog.sets()] == ["20261123T020000Z"]

    def test_refuses_targets_for_a_set_that_has_its_own(self, shell: Shell, pipeline: Pipeline) -> None:
        assert shell("backup", "postgres/main", "--id", "20261123T020000Z").exit_code == 1

    def test_names_every_target_that_is_not_there(self, shell: Shell, pipeline: Pipeline) -> None:
        done = shell("backup", "postgres/one", "postgres/two")
        assert done.exit_code == 1
        assert "postgres/one, postgres/two" in done.stderr


def _refuse(*_: object) -> None:
    raise Corrupt("a history file is damaged", hint="fetch it again")


class TestCatalog:
    def test_says_how_to_begin_when_it_is_empty(self, shell: Shell, pipeline: Pipeline) -> None:
        done = shell("catalog")
        assert done.exit_code == 0
        assert "./mainstay backup" in done.stdout

    def test_shows_what_was_proved(self, shell: Shell, set_id: str) -> None:
        assert shell("drill").exit_code == 0
        (backup,) = json.loads(shell("catalog", "--json").stdout)["backups"]
        assert (backup["id"], backup["verified"], backup["drilled"]) == (set_id, "PASS", "PASS")

    def test_drills_whatever_stands_in_a_sandbox_that_stays(self, shell: Shell, set_id: str, paper: Paper) -> None:
        assert shell("drill", "--set", set_id).exit_code == 0
        assert [request.rehearsal for request in paper.asked if request.destination_kind == "sandbox"] == [True]

    def test_shows_a_set_that_was_never_drilled_as_such(self, shell: Shell, set_id: str) -> None:
        done = shell("catalog", "postgres/main")
        assert set_id in done.stdout
        assert "never" in done.stdout

    def test_shows_how_far_the_log_archive_reaches(
        self, shell: Shell, set_id: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        archive = WalArchive(TARGET, pipeline.catalog.bucket)
        monkeypatch.setattr(PaperLookup, "archive", lambda *_: archive)
        at = datetime(2026, 11, 23, 2, tzinfo=UTC)
        window = RecoverableWindow(
            backup=set_id,
            line="timeline 1",
            from_time=at,
            to_time=at,
            from_position="0/3000100",
            to_position="0/5000060",
        )
        missing = ("000000010000000000000004",)
        reach = ArchiveReach(verdict=Verdict.FAIL, windows=(window,), newest=at, missing=missing)
        monkeypatch.setattr(archive, "reach", lambda kept: reach if kept else None)

        done = shell("catalog")
        (listed,) = json.loads(shell("catalog", "--json").stdout)["archives"]

        assert "0/5000060" in done.stdout
        assert missing[0] in done.stdout
        assert listed["reach"]["windows"][0]["to_position"] == "0/5000060"
        monkeypatch.setattr(PaperLookup, "archive", _refuse)
        assert "a history file is damaged" in shell("catalog").stdout


class TestOneDamagedManifest:
    """It is told, and keeps nobody from all that is whole."""

    @pytest.fixture(autouse=True)
    def damaged(self, older_set: str, set_id: str, pipeline: Pipeline) -> str:
        """The older set, whose two manifests cannot be read; the newer one is whole."""
        for key in (f"sets/{older_set}/manifest.json", pipeline.catalog.manifest_key(TARGET, older_set)):
            pipeline.catalog.bucket.delete([key])
            pipeline.catalog.bucket.create(key, b"{")
        return older_set

    def test_is_listed_beside_what_can_be_read(self, shell: Shell, damaged: str, set_id: str) -> None:
        listing = json.loads(shell("catalog", "--json").stdout)
        assert [one["what"] for one in listing["unreadable"]] == [f"postgres/main {damaged}", f"set {damaged}"]
        assert ([one["id"] for one in listing["backups"]], [one["id"] for one in listing["sets"]]) == (
            [set_id],
            [set_id],
        )
        assert f"cannot be read: set {damaged}" in shell("catalog").stdout

    def test_is_left_out_of_a_restore_with_a_warning(self, shell: Shell, damaged: str, set_id: str) -> None:
        plan = json.loads(shell("restore", "postgres/main", "--to", "/x", "--dry-run", "--json").stdout)
        assert plan["backup"] == set_id
        assert f"the backup {damaged} was left out" in plan["warnings"][0]
        named = shell("restore", "postgres/main", "--to", "/x", "--backup", damaged, "--dry-run")
        assert named.exit_code == 1
        assert "is not a valid Manifest" in named.stderr
        assert shell("restore", "latest-set", "--to", "/x", "--dry-run").exit_code == 0

    def test_does_not_stop_the_next_backup(self, shell: Shell, damaged: str, pipeline: Pipeline) -> None:
        done = shell("backup", "--id", "20991123T020000Z")
        assert done.exit_code == 0, done.output
        assert f"nothing builds on {damaged}" in done.stderr
        assert pipeline.catalog.find_set("20991123T020000Z") is not None

    def test_stops_no_drill_of_another_set(self, shell: Shell, damaged: str, set_id: str) -> None:
        assert shell("drill").exit_code == 0
        assert shell("drill", "--set", set_id).exit_code == 0
        assert shell("verify").exit_code == 0
        own = shell("drill", "--set", damaged)
        assert own.exit_code == 1
        assert f"sets/{damaged}/manifest.json is not a valid SetManifest" in own.stderr


class TestRestore:
    def test_shows_the_plan_and_stops_on_a_dry_run(self, shell: Shell, set_id: str, paper: Paper) -> None:
        done = shell("restore", "postgres/main", "--to", "/x", "--dry-run")
        assert done.exit_code == 0
        assert "unpack" in done.stdout
        assert paper.restored == []

    def test_does_nothing_when_nobody_agrees(self, shell: Shell, set_id: str, paper: Paper) -> None:
        done = shell("restore", "postgres/main", "--to", "/x")
        assert done.exit_code == 1
        assert "--dry-run" in done.stderr
        assert paper.restored == []

    def test_restores_to_a_time(self, shell: Shell, set_id: str, paper: Paper) -> None:
        done = shell("restore", "postgres/main", "--at", "2026-11-23T14:05:00Z", "--to", "/x", "--yes", "--json")
        assert done.exit_code == 0
        assert json.loads(done.stdout)["backup"] == set_id
        assert str(paper.restored[0].point) == "2026-11-23T14:05:00+00:00"
        assert paper.restored[0].destination.path == "/x"

    def test_onto_a_server_needs_a_reason(self, shell: Shell, set_id: str, paper: Paper) -> None:
        done = shell("restore", "postgres/main", "--to-server", "spare", "--confirm", "spare", "--yes")
        assert done.exit_code == 1
        assert "reason" in done.stderr
        assert paper.restored == []

    def test_a_part_under_another_name_beside_what_is_there(self, shell: Shell, set_id: str, paper: Paper) -> None:
        done = shell(
            "restore", "postgres/main", "--server", "spare", "--only", "a", "--only", "b", "--rename", "a=c", "--append",
            "--confirm", "other", "--confirm", "spare", "--reason", "looking at old rows", "--yes",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        asked = paper.asked[-1]
        assert (asked.only, asked.rename, asked.append) == (("a", "b"), {"a": "c"}, True)
        assert asked.server == "spare"

    @pytest.mark.parametrize("word", ["latest-set", "set/latest", "set/{}"])
    def test_a_set_in_one_go(self, shell: Shell, set_id: str, paper: Paper, pipeline: Pipeline, word: str) -> None:
        arguments = ("restore", word.format(set_id), "--to", "/x")
        planned = shell(*arguments, "--dry-run")
        assert planned.exit_code == 0, planned.output
        assert set_id in planned.stdout
        assert paper.restored == []
        done = shell(*arguments, "--yes", "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["checks"][0]["name"] == "postgres/main: rows"
        assert [record.set_id for record in pipeline.catalog.restores()] == [set_id]

    def test_the_directory_of_a_set_can_be_entered_whatever_the_umask(
        self, shell: Shell, set_id: str, paper: Paper, tmp_path: Path
    ) -> None:
        before = os.umask(0o077)
        try:
            # With one part the directory is the part's own; those above it are made for all.
            assert shell("restore", "latest-set", "--to", str(tmp_path / "a" / "b" / "part"), "--yes").exit_code == 0
        finally:
            os.umask(before)
        assert [one.stat().st_mode & 0o777 for one in (tmp_path / "a", tmp_path / "a" / "b")] == [0o755, 0o755]
        assert not (tmp_path / "a" / "b" / "part").exists()

    @pytest.mark.parametrize("word", ["postgres/main", "latest-set"], ids=["one target", "a set"])
    def test_without_any_check_is_not_green(self, shell: Shell, set_id: str, paper: Paper, word: str) -> None:
        paper.checks = ()
        assert shell("restore", word, "--to", "/x", "--yes").exit_code == 3

    @pytest.mark.parametrize("word", ["postgres/main", "latest-set"], ids=["one target", "a set"])
    def test_of_which_checks_were_left_out_is_not_green(
        self, shell: Shell, set_id: str, pipeline: Pipeline, word: str
    ) -> None:
        done = shell("restore", word, "--to", "/x", "--yes", "--no-checks")
        assert done.exit_code == 3, done.output
        assert "rows were not read: --no-checks" in done.stdout
        (record,) = pipeline.catalog.restores()
        assert record.verdict is Verdict.UNVERIFIED

    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param((), id="no destination"),
            pytest.param(("--to", "/x", "--to-sandbox"), id="two destinations"),
            pytest.param(("--to", "/x", "--at", "2026-11-23T14:05:00Z", "--point", "latest"), id="two points"),
            pytest.param(("--to", "/x", "--at", "2026-11-23T14:05:00"), id="a time without a zone"),
            pytest.param(("--to", "/x", "--at", "latest"), id="a time that is none"),
            pytest.param(("--server", "one", "--server", "two"), id="two servers"),
            pytest.param(("--to", "/x", "--rename", "a"), id="a new name that is none"),
        ],
    )
    def test_refuses_what_makes_no_sense(self, shell: Shell, set_id: str, arguments: tuple[str, ...]) -> None:
        done = shell("restore", "postgres/main", *arguments)
        assert done.exit_code == 1
        assert "hint:" in done.stderr


def test_two_drills_of_the_same_second_are_both_kept(
    shell: Shell, set_id: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.engine.cli.drill.backup_id", lambda _: "20261123T020000Z")
    shell("drill")
    assert json.loads(shell("drill", "--json").stdout)["id"] == "20261123T020000Z_2"
    assert [report.id for report in pipeline.catalog.drills()] == ["20261123T020000Z", "20261123T020000Z_2"]


def test_a_record_from_the_future_leaves_the_rpo_unverified(shell: Shell, set_id: str, paper: Paper) -> None:
    paper.ahead = timedelta(minutes=5)
    done = shell("drill", "--json")
    assert done.exit_code == 3
    report = json.loads(done.stdout)
    assert report["rpo_seconds"] is None
    (clocks,) = [check for check in report["checks"] if check["name"] == "postgres/main: clocks"]
    assert "300 s newer than the moment of the loss" in clocks["detail"]


@pytest.mark.parametrize(("verdict", "code"), [(Verdict.PASS, 0), (Verdict.FAIL, 1), (Verdict.UNVERIFIED, 3)])
class TestExitCodes:
    def test_of_a_drill_are_its_verdict(
        self, shell: Shell, set_id: str, paper: Paper, verdict: Verdict, code: int
    ) -> None:
        paper.verdict = verdict
        done = shell("drill", "--json")
        assert done.exit_code == code
        assert json.loads(done.stdout)["verdict"] == str(verdict)

    def test_of_a_restore_are_those_of_its_checks(
        self, shell: Shell, set_id: str, paper: Paper, verdict: Verdict, code: int
    ) -> None:
        paper.verdict = verdict
        assert shell("restore", "postgres/main", "--to", "/x", "--yes").exit_code == code


class TestVerify:
    def test_takes_the_newest_set(self, shell: Shell, older_set: str, set_id: str) -> None:
        done = shell("verify", "--json")
        assert done.exit_code == 0
        assert json.loads(done.stdout)["verifications"][0]["backup"] == set_id

    def test_takes_one_backup(self, shell: Shell, set_id: str) -> None:
        assert shell("verify", f"postgres/main@{set_id}").exit_code == 0

    def test_fails_and_names_what_is_missing(self, shell: Shell, pipeline: Pipeline, set_id: str) -> None:
        key = pipeline.catalog.backup(TARGET, set_id).entries[0].key
        pipeline.catalog.bucket.delete([key])
        done = shell("verify", set_id)
        assert done.exit_code == 1
        assert key in done.stdout

    @pytest.mark.parametrize(
        ("name", "verdict", "code", "recorded"),
        [
            ("log", Verdict.PASS, 0, Verdict.PASS),
            ("log", Verdict.FAIL, 1, Verdict.FAIL),
            ("log", Verdict.UNVERIFIED, 3, Verdict.PASS),
            ("log from there on", Verdict.FAIL, 1, Verdict.PASS),
        ],
    )
    def test_reads_the_log_that_the_backup_needs_whose_damage_is_that_of_the_backup(
        self,
        shell: Shell,
        set_id: str,
        pipeline: Pipeline,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        verdict: Verdict,
        code: int,
        recorded: Verdict,
    ) -> None:
        archive = WalArchive(TARGET, pipeline.catalog.bucket)
        monkeypatch.setattr(PaperLookup, "archive", lambda *_: archive)
        check = Check(name=name, verdict=verdict, detail="wal/0001 and what was seen of it")
        monkeypatch.setattr(archive, "read_log_of", lambda *_: [check])
        done = shell("verify", f"postgres/main@{set_id}", "--json")
        assert done.exit_code == code
        assert json.loads(done.stdout)["checks"][0]["name"] == f"postgres/main: {name}"
        assert "wal/0001 and" in shell("verify").stdout
        assert said_of(pipeline, set_id) is recorded

    def test_says_when_no_log_was_read(
        self, shell: Shell, set_id: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        archive = WalArchive(TARGET, pipeline.catalog.bucket)
        monkeypatch.setattr(PaperLookup, "archive", lambda *_: archive)
        done = shell("verify")
        assert done.exit_code == 0
        assert "no log was ever archived, so none was read" in done.stdout
        assert json.loads(shell("verify", "--json").stdout)["unread"]


class TestRetention:
    def test_explains_what_is_kept(self, shell: Shell, older_set: str, set_id: str) -> None:
        done = shell("retention")
        assert done.exit_code == 0
        assert "the newest" in done.stdout
        assert older_set in done.stdout

    def test_expire_only_says_what_would_go(
        self, shell: Shell, pipeline: Pipeline, older_set: str, set_id: str
    ) -> None:
        done = shell("expire")
        assert older_set in done.stdout
        assert "dry run" in done.stdout
        assert len(pipeline.catalog.sets()) == 2

    def test_expire_removes_what_nothing_keeps(
        self, shell: Shell, pipeline: Pipeline, older_set: str, set_id: str
    ) -> None:
        assert shell("expire", "--apply").exit_code == 0
        assert [found.id for found in pipeline.catalog.sets()] == [set_id]

    def test_what_a_person_keeps_stays(self, shell: Shell, pipeline: Pipeline, older_set: str, set_id: str) -> None:
        assert shell("keep", older_set, "--reason", "the audit of 2020").exit_code == 0
        shell("expire", "--apply")
        assert len(pipeline.catalog.sets()) == 2
        assert "the audit of 2020" in shell("catalog").stdout
        assert shell("unkeep", older_set).exit_code == 0
        shell("expire", "--apply")
        assert [found.id for found in pipeline.catalog.sets()] == [set_id]


def test_upkeep_finds_garbage_and_leaves_it_unless_told(shell: Shell, pipeline: Pipeline, set_id: str) -> None:
    done = shell("upkeep", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["orphans"]["targets"][0]["dry_run"] is True


def test_a_damaged_manifest_of_one_target_does_not_keep_garbage_of_the_others(pipeline: Pipeline) -> None:
    bucket = pipeline.catalog.bucket
    bucket.create("cassandra/events/backups/20261101T000000Z/manifest.json", b"{")
    garbage = "kafka/main/backups/20261101T000000Z/a1/x"
    bucket.create(garbage, b"x")
    with pytest.raises(Corrupt, match="cassandra/events"):
        upkeep.sweep_orphans(pipeline, dry_run=False, clock=lambda: datetime.now(UTC) + timedelta(days=3))
    assert not bucket.exists(garbage)
