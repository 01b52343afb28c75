"""``./mainstay`` makes its environment once, from anywhere, whoever else does so at the same time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CLI = "import sys; print(sys.executable, *sys.argv[1:])\n"

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose command line says who runs it, and whose lock file names nothing."""
    project = tmp_path_factory.mktemp("clone")
    for file in ("mainstay", "deploy/bootstrap/uv.txt"):
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / file, project / file)
    (project / "include/engine").mkdir(parents=True)
    (project / "include/engine/cli.py").write_text(CLI)
    (project / "requirements-dev.lock").write_text("# nothing yet\n")
    return project


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "MAINSTAY_PYTHON"}}
    return kept | extra


def mainstay(command: Path, *arguments: str, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command, *arguments], cwd=cwd, env=environment(**extra), capture_output=True, text=True, check=False
    )


def test_those_who_start_at_the_same_time_install_once(project: Path) -> None:
    starts = [
        subprocess.Popen(
            [project / "mainstay", "x"],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    results = [(*start.communicate(), start.returncode) for start in starts]
    assert {code for _, _, code in results} == {0}, results
    assert {out for out, _, _ in results} == {f"{project}/.venv/bin/python x\n"}
    assert {code for _, _, code in results} == {0}
    assert sum("installing uv" in err for _, err, _ in results) == 1


def test_a_package_of_the_same_name_where_the_caller_stands_is_not_run(project: Path, tmp_path: Path) -> None:
    (tmp_path / "include/engine").mkdir(parents=True)
    (tmp_path / "include/engine/cli.py").write_text("raise SystemExit('not ours')\n")
    assert mainstay(project / "mainstay", "x", cwd=tmp_path).stdout == f"{project}/.venv/bin/python x\n"


def test_what_is_ready_is_not_installed_again_and_a_link_from_anywhere_finds_it(project: Path, tmp_path: Path) -> None:
    link = tmp_path / "mainstay"
    link.symlink_to(project / "mainstay")
    done = mainstay(link, "backup", "--all", cwd=tmp_path)
    assert done.stdout == f"{project}/.venv/bin/python backup --all\n"
    assert done.stderr == ""


def test_a_new_lock_file_is_installed(project: Path, tmp_path: Path) -> None:
    (project / "requirements-dev.lock").write_text("# another nothing\n")
    done = mainstay(project / "mainstay", cwd=tmp_path)
    assert done.returncode == 0
    assert "installing what requirements-dev.lock names" in done.stderr
    assert "installing uv" not in done.stderr


def test_a_package_without_a_hash_is_not_installed(project: Path, tmp_path: Path) -> None:
    good = (project / "requirements-dev.lock").read_text()
    (project / "requirements-dev.lock").write_text("iniconfig==2.1.0\n")
    done = mainstay(project / "mainstay", cwd=tmp_path)
    (project / "requirements-dev.lock").write_text(good)
    assert done.returncode == 1
    assert "the environment could not be installed" in done.stderr
    assert done.stdout == ""


def test_an_environment_whose_python_has_gone_is_made_again(project: Path, tmp_path: Path) -> None:
    for name in ("python", "python3"):
        (project / ".venv/bin" / name).unlink(missing_ok=True)
    done = mainstay(project / "mainstay", "x", cwd=tmp_path)
    assert done.stdout == f"{project}/.venv/bin/python x\n"
    assert "making .venv" in done.stderr


def test_a_given_python_is_used_as_it_is_and_nothing_is_installed(project: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(project, bare, ignore=shutil.ignore_patterns(".venv", ".mainstay"))
    done = mainstay(bare / "mainstay", "restore", cwd=tmp_path, MAINSTAY_PYTHON=sys.executable)
    assert done.stdout == f"{sys.executable} restore\n"
    assert done.stderr == ""
    assert not (bare / ".venv").exists()
    assert not (bare / ".mainstay").exists()


def test_a_machine_without_python_is_told_what_to_install(project: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "readlink", "sha256sum", "cut", "mkdir", "flock", "printf", "rm"):
        (tools / name).symlink_to(shutil.which(name) or "")
    bare = tmp_path / "bare"
    shutil.copytree(project, bare, ignore=shutil.ignore_patterns(".venv", ".mainstay"))
    done = mainstay(bare / "mainstay", "demo", cwd=tmp_path, PATH=str(tools))
    assert done.returncode == 1
    assert (
        done.stderr == "mainstay: Python 3.11 or newer is not installed: apt-get install python3.11 python3.11-venv\n"
    )
