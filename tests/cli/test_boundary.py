"""What goes wrong is one block and an exit code; what is secret stays so; a signal stops the work in good order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from include.engine.cli.boundary import stopping
from include.engine.cli.redaction import STRUCK, redacted
from include.engine.errors import Corrupt, Interrupted, Unreachable
from include.engine.verbs.pipeline import Pipeline
from tests.cli.conftest import Shell
from tests.cli.paper import Paper

PROJECT = Path(__file__).resolve().parents[2]
PASSWORD = "s3cr3t-w0rd-0f-the-d4tabase"


class TestErrors:
    def test_are_one_block_without_a_traceback(self, shell: Shell, pipeline: Pipeline, paper: Paper) -> None:
        paper.on_copy = Corrupt("the thing is broken", hint="mend it")
        done = shell("backup")
        assert done.exit_code == 1
        assert done.stdout == ""
        assert done.stderr.endswith("\nerror: the thing is broken\nhint:  mend it\n")
        assert "Traceback" not in done.stderr

    def test_say_when_trying_again_may_help(self, shell: Shell, pipeline: Pipeline, paper: Paper) -> None:
        paper.on_copy = Unreachable("the store is away", hint="wait")
        assert "error: the store is away (trying again may help)" in shell("backup").stderr

    def test_are_a_document_for_machines(self, shell: Shell, pipeline: Pipeline, paper: Paper) -> None:
        paper.on_copy = Unreachable("the store is away", hint="wait")
        document = json.loads(shell("backup", "--json").stdout)["error"]
        assert document == {"kind": "Unreachable", "message": "the store is away", "hint": "wait", "retry": True}

    def test_that_nobody_expected_are_one_block_too(self, shell: Shell, pipeline: Pipeline, paper: Paper) -> None:
        paper.on_copy = ZeroDivisionError("division by zero")
        done = shell("backup")
        assert done.exit_code == 1
        assert "ZeroDivisionError: division by zero" in done.stderr
        assert "MAINSTAY_DEBUG=1" in done.stderr

    def test_of_the_system_are_one_block_too(self, shell: Shell, pipeline: Pipeline, paper: Paper) -> None:
        paper.on_copy = PermissionError(13, "Permission denied", "/srv/spool")
        done = shell("backup")
        assert done.exit_code == 1
        assert "/srv/spool" in done.stderr
        assert "hint:" in done.stderr

    def test_show_where_they_come_from_when_debugging(
        self, shell: Shell, pipeline: Pipeline, paper: Paper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paper.on_copy = Corrupt("the thing is broken", hint="mend it")
        monkeypatch.setenv("MAINSTAY_DEBUG", "1")
        assert isinstance(shell("backup").exception, Corrupt)

    def test_of_the_command_line_end_with_2(self, shell: Shell) -> None:
        assert shell("backup", "--no-such-option").exit_code == 2
        assert shell("no-such-command").exit_code == 2


class TestSecrets:
    @pytest.fixture(autouse=True)
    def _known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_MAIN", f"postgresql://mainstay:{PASSWORD}@db:5432/postgres")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws/" + PASSWORD)

    @pytest.mark.parametrize(
        "text", [PASSWORD, f"AKIA aws/{PASSWORD}", f"postgresql://mainstay:{PASSWORD}@db:5432/postgres"]
    )
    def test_are_struck_out(self, text: str) -> None:
        assert PASSWORD not in redacted(f"could not connect with {text}.")
        assert STRUCK in redacted(text)

    def test_of_age_are_struck_out_wherever_they_come_from(self) -> None:
        assert redacted("bad key AGE-SECRET-KEY-1QQQQQ here") == f"bad key {STRUCK} here"

    def test_never_come_out_of_an_error_that_quotes_them(self, shell: Shell, pipeline: Pipeline, paper: Paper) -> None:
        paper.on_copy = RuntimeError(f"FATAL: cannot log in with {PASSWORD}")
        done = shell("backup", "--json")
        assert PASSWORD not in done.output
        assert "cannot log in with" in done.output

    def test_are_in_no_help_text(self, shell: Shell) -> None:
        for command in ("backup", "restore", "catalog", "wal-archive"):
            assert PASSWORD not in shell(command, "--help").output

    def test_that_cannot_be_read_are_not_quoted(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_STORE", f"{{{PASSWORD}")
        done = shell("catalog", "--bucket", "s3://b", "--store-connection", "store")
        assert done.exit_code == 1
        assert "AIRFLOW_CONN_STORE" in done.stderr
        assert PASSWORD not in done.output

    def test_are_not_in_the_repr_of_what_carries_them(self) -> None:
        from include.engine.wiring import EnvironmentConnections

        assert PASSWORD not in repr(EnvironmentConnections().get("postgres_main"))


class TestSignals:
    def test_the_first_asks_to_stop(self) -> None:
        with stopping() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            deadline = time.monotonic() + 60
            while not stop.stopped and time.monotonic() < deadline:
                time.sleep(0.01)
            with pytest.raises(Interrupted, match="SIGTERM"):
                stop.check()

    def test_are_the_callers_again_afterwards(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with stopping():
            assert signal.getsignal(signal.SIGTERM) is not before
        assert signal.getsignal(signal.SIGTERM) is before

    def test_the_second_ends_the_process(self) -> None:
        code = (
            "import os, signal, time\n"
            "from include.engine.cli.boundary import stopping\n"
            "with stopping() as stop:\n"
            "    os.kill(os.getpid(), signal.SIGINT)\n"
            "    while not stop.stopped: time.sleep(0.01)\n"
            "    os.kill(os.getpid(), signal.SIGINT)\n"
            "    time.sleep(300)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 128 + signal.SIGINT
        assert "once more kills" in done.stderr


class TestStartUp:
    def test_imports_no_client_library_and_no_table(self) -> None:
        code = "import sys, include.engine.cli.app; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
        heavy = {"rich", "pydantic", "obstore", "psycopg", "boto3", "airflow", "yaml", "pyrage"}
        assert not heavy & set(done.stdout.split())

    def test_logins_begin_before_anything_that_validates_is_loaded(self) -> None:
        code = "import sys, include.engine.logins, include.engine.cli.connections, include.engine.systems.cassandra.ahead\n"
        code += "print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
        assert not {"pydantic", "obstore", "rich"} & set(done.stdout.split())

    def test_the_inventory_is_imported_without_building_a_validator(self) -> None:
        code = (
            "import include.engine.inventory as i\n"
            "def below(kind):\n"
            "    for one in kind.__subclasses__(): yield one; yield from below(one)\n"
            "print(*(one.__name__ for one in below(i.Section) if one.__pydantic_complete__))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == ""

    def test_help_lists_every_command_in_its_section(self, shell: Shell) -> None:
        text = shell("--help").stdout
        for word in ("The demo:", "Verbs:", "What is kept:", "The project:", "wal-archive", "unkeep", "inventory"):
            assert word in text
