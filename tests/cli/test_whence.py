"""A command finds its pipeline by the inventory, or by the bucket alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from include.engine import wiring
from include.engine.cli.inventory import named_connections
from include.engine.cli.whence import Whence
from include.engine.errors import Misconfigured, NotFound
from tests.cli.conftest import Shell

PROJECT = Path(__file__).resolve().parents[2]

INVENTORY = """
pipeline: test
store: {url: "file://%s"}
postgres: {main: {connection: test_main}}
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    file = tmp_path / "inventory.yaml"
    file.write_text(INVENTORY % (tmp_path / "bucket"))
    return file


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAINSTAY_INVENTORY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)


def test_a_bucket_alone_is_enough(tmp_path: Path, shell: Shell) -> None:
    done = shell("catalog", "--bucket", f"file://{tmp_path}/bucket", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["backups"] == []


def test_a_bucket_is_read_without_airflow_and_without_an_inventory(tmp_path: Path) -> None:
    """In a process of its own, in which every import of Airflow fails."""
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'airflow': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "from include.engine.cli.app import app\n"
        f"app(['catalog', '--bucket', 'file://{tmp_path}/bucket', '--json'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={"PATH": "/usr/bin:/bin", "MAINSTAY_INVENTORY": "/nowhere/inventory.yaml"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sets"] == []


def test_the_key_pair_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    store = Whence(bucket="s3://b/p", endpoint="http://127.0.0.1:9", region="eu-central-1").store()
    assert store is not None
    assert (store.login, store.password) == ("id", "secret")
    assert store.extra == {"endpoint_url": "http://127.0.0.1:9", "region_name": "eu-central-1"}


def test_nothing_said_leaves_the_platforms_own_credentials() -> None:
    assert Whence(bucket="s3://b/p").store() is None


def test_a_named_connection_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STORE", '{"login": "other", "password": "p"}')
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    store = Whence(bucket="s3://b/p", store_connection="store").store()
    assert store is not None
    assert store.login == "other"


def test_options_of_a_bucket_mean_nothing_without_one(inventory: Path) -> None:
    with pytest.raises(Misconfigured, match="--store-connection and --identity-file"):
        Whence(inventory_file=inventory, store_connection="s", identity_file=Path("k")).pipeline()


def test_an_identity_file_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFound, match="/nowhere/key"):
        Whence(bucket="memory://x", identity_file=Path("/nowhere/key")).pipeline()


def test_the_inventory_gives_the_targets(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TEST_MAIN", "postgresql://u:p@h/d")
    assert [str(target) for target in Whence(inventory_file=inventory).pipeline().targets] == ["postgres/main"]


def test_a_pipeline_is_opened_without_loading_the_demos_servers(inventory: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom include.engine.cli.whence import Whence\n"
        f"Whence(inventory_file=Path({str(inventory)!r})).pipeline()\n"
        "assert not any(name.endswith(('.server', '.demo_sandbox')) for name in sys.modules), sorted(sys.modules)\n"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "AIRFLOW_CONN_TEST_MAIN": "postgresql://u:p@h/d",
        "PYTHONPATH": str(PROJECT),
    }
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=PROJECT, check=True)


class TestTheDemosConnections:
    @pytest.fixture(autouse=True)
    def _demo(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from include.engine.cli import demo_sandbox

        monkeypatch.setattr(demo_sandbox, "existing_connections", lambda: {"postgres_main": '{"host": "demo"}'})

    def test_serve_the_demos_inventory_and_that_is_said(self, capsys: pytest.CaptureFixture[str]) -> None:
        from include.engine.cli.connections import ShellConnections
        from include.engine.cli.demo_place import INVENTORY

        assert ShellConnections(INVENTORY).get("postgres_main").host == "demo"
        assert "demo" in capsys.readouterr().err

    def test_never_serve_another_inventory(self, inventory: Path) -> None:
        from include.engine.cli.connections import ShellConnections

        with pytest.raises(Misconfigured, match="postgres_main"):
            ShellConnections(inventory).get("postgres_main")

    def test_give_way_to_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from include.engine.cli.connections import ShellConnections
        from include.engine.cli.demo_place import INVENTORY

        monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_MAIN", '{"host": "mine"}')
        assert ShellConnections(INVENTORY).get("postgres_main").host == "mine"


class TestInventoryCheck:
    def test_passes_when_every_connection_is_there(
        self, shell: Shell, inventory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_TEST_MAIN", "postgresql://u:p@h:5432/d")
        done = shell("inventory", "check", "--inventory", str(inventory))
        assert done.exit_code == 0, done.output
        assert "h:5432" in done.stdout

    def test_fails_and_names_the_one_that_is_missing(self, shell: Shell, inventory: Path) -> None:
        done = shell("inventory", "check", "--inventory", str(inventory), "--json")
        assert done.exit_code == 1
        assert "AIRFLOW_CONN_TEST_MAIN" in json.loads(done.stdout)["checks"][0]["detail"]

    def test_looks_for_every_connection_that_anything_of_it_needs(self, tmp_path: Path) -> None:
        document = {
            "pipeline": "shop",
            "store": {"url": "memory://x", "connection": "a_store"},
            "evidence": {"key": "a_signer"},
            "kafka": {
                "main": {
                    "connection": "a_kafka",
                    "mirrors": {"dr": {"connect": "a_connect", "to": "a_copy"}},
                    "load": {"allowed": True, "connection": "a_loader"},
                }
            },
            "spark": {
                "pipeline": {
                    "checkpoint": "file:///x",
                    "kafka": "a_kafka",
                    "cassandra": "a_cassandra",
                    "engine": "standalone",
                    "cluster": "a_cluster",
                    "flows": {"events": {"shape": "events", "topic": "events", "table": "shop.events"}},
                    "load": {"connections": {"kafka": "a_topic_maker"}},
                }
            },
        }
        file = tmp_path / "inventory.yaml"
        file.write_text(yaml.safe_dump(document))
        wanted = set(re.findall(r"\ba_\w+", file.read_text()))
        assert len(wanted) == 9
        assert set(named_connections(wiring.load_inventory(file))) == wanted

    def test_tells_every_mistake_with_its_line(self, shell: Shell, tmp_path: Path) -> None:
        file = tmp_path / "wrong.yaml"
        file.write_text("pipeline: x\nstore: {url: memory://x}\npostgres:\n  main:\n    colour: red\n")
        done = shell("inventory", "check", "--inventory", str(file))
        assert done.exit_code == 1
        assert "line 5: postgres.main.colour: unknown key" in done.stderr
        assert "line 4: postgres.main.connection: is required" in done.stderr


class TestKeys:
    def test_a_new_key_goes_to_a_private_file_and_is_not_printed(self, shell: Shell, tmp_path: Path) -> None:
        file = tmp_path / "backup.key"
        done = shell("key", "new", str(file))
        assert done.exit_code == 0, done.output
        assert file.stat().st_mode & 0o777 == 0o600
        secret = file.read_text().strip().splitlines()[-1]
        assert secret.startswith("AGE-SECRET-KEY-1")
        assert secret not in done.output
        (recipient,) = json.loads(shell("key", "show", str(file), "--json").stdout)["recipients"]
        assert recipient in done.stdout

    def test_an_existing_file_is_never_overwritten(self, shell: Shell, tmp_path: Path) -> None:
        file = tmp_path / "backup.key"
        file.write_text("precious")
        assert shell("key", "new", str(file)).exit_code == 1
        assert file.read_text() == "precious"
