"""An Airflow without servers for tests that import it: import this module before the first import of Airflow.

Airflow reads its settings once, at its first import.  Everything it writes goes to a directory that is deleted at exit.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def settings(home: Path) -> dict[str, str]:
    """The variables of an Airflow in *home* that has this project's DAGs and plugins, and SQLite."""
    inventory = home / "inventory.yaml"
    inventory.write_text((PROJECT / "include" / "config" / "inventory.yaml").read_text())
    return {
        "MAINSTAY_INVENTORY": str(inventory),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def _enter() -> Path:
    given = os.environ.get("AIRFLOW_HOME", "")
    if "airflow" in sys.modules:
        assert given.startswith(tempfile.gettempdir()), (
            "Airflow was imported before its settings: import this one first"
        )
        return Path(given)
    home = Path(tempfile.mkdtemp(prefix="mainstay-airflow-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ.update(settings(home))
    return home


HOME = _enter()
