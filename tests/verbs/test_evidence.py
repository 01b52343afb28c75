"""Evidence is believed when it is what was signed, by whom one trusts; every other file is told from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from include.engine.cli.backup import clearing, take
from include.engine.cli.redaction import redacted
from include.engine.contracts import Stop
from include.engine.errors import Misconfigured
from include.engine.model import encode
from include.engine.model.evidence import SignedEvidence
from include.engine.store.signing import generate_key, is_signed, key_in, sign
from include.engine.verbs import drill
from include.engine.verbs.pipeline import Pipeline
from tests.cli.conftest import Shell, paper, pipeline, shell
from tests.cli.paper import Paper
from tests.estate import Quiet, clock

__all__ = ["paper", "pipeline", "shell"]  # fixtures of the command line's tests


@pytest.fixture
def files(shell: Shell, pipeline: Pipeline, tmp_path: Path) -> dict[str, Any]:
    """A drill, made into evidence by the command line, and the public key."""
    assert shell("backup").exit_code == 0
    assert shell("drill").exit_code == 0
    made = shell("evidence", "key", str(tmp_path / "key"), "--json")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    done = shell("evidence", "make", "--key-file", str(tmp_path / "key"), "--to", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    (document,) = (tmp_path / "out").glob("*.json")
    (page,) = (tmp_path / "out").glob("*.html")
    return {"document": document, "page": page, "public": json.loads(made.stdout)["public"]}


@pytest.mark.parametrize("which", ["document", "page"])
def test_what_was_signed_is_believed_offline(shell: Shell, files: dict[str, Any], which: str) -> None:
    assert shell("evidence", "verify", str(files[which]), "--key", files["public"]).exit_code == 0
    assert shell("evidence", "verify", str(files[which])).exit_code == 3
    assert shell("evidence", "verify", str(files[which]), "--key", generate_key().public).exit_code == 1


@pytest.mark.parametrize("which", ["document", "page"])
def test_a_word_that_was_changed_is_found(shell: Shell, files: dict[str, Any], which: str) -> None:
    text = files[which].read_text()
    assert '"postgres/main: rows"' in text
    for changed in (
        text.replace('"as it was"', '"as it is"'),
        text.replace('"rto_seconds": 1.0', '"rto_seconds": 0.5'),
    ):
        assert changed != text
        files[which].write_text(changed)
        assert shell("evidence", "verify", str(files[which]), "--key", files["public"]).exit_code == 1


def test_a_page_that_says_more_than_its_document_is_found(shell: Shell, files: dict[str, Any]) -> None:
    files["page"].write_text(files["page"].read_text().replace("<h2>What was checked</h2>", "<h2>All was checked</h2>"))
    done = shell("evidence", "verify", str(files["page"]), "--key", files["public"])
    assert done.exit_code == 1
    assert "the page does not say what was signed" in done.stdout


def test_signed_again_by_somebody_else_is_not_trusted(shell: Shell, files: dict[str, Any]) -> None:
    from include.engine.verbs.evidence import canonical

    signed = msgspec.json.decode(files["document"].read_bytes(), type=SignedEvidence)
    other = generate_key()
    forged = msgspec.structs.replace(signed, key=other.public, signature=sign(canonical(signed.evidence), other))
    files["document"].write_bytes(encode(forged))
    assert shell("evidence", "verify", str(files["document"]), "--key", files["public"]).exit_code == 1


def test_what_is_no_evidence_is_one_clear_error(shell: Shell, tmp_path: Path) -> None:
    for text in ("{}", "<html></html>", "", "\x00"):
        (tmp_path / "x").write_text(text)
        done = shell("evidence", "verify", str(tmp_path / "x"))
        assert done.exit_code == 1
        assert "hint:" in done.stderr


def test_names_in_the_report_cannot_break_out_of_the_page(
    shell: Shell, pipeline: Pipeline, tmp_path: Path, paper: Paper
) -> None:
    paper.checks = ("</script><script>alert(1)</script>",)
    assert shell("backup").exit_code == 0
    shell("drill")
    shell("evidence", "key", str(tmp_path / "key"))
    assert shell("evidence", "make", "--key-file", str(tmp_path / "key"), "--to", str(tmp_path)).exit_code == 0
    (page,) = tmp_path.glob("*.html")
    assert "<script>alert" not in page.read_text()
    assert shell("evidence", "verify", str(page)).exit_code == 3


def test_a_signing_key_is_neither_shown_nor_quoted() -> None:
    key = generate_key()
    assert key.secret not in repr(key)
    assert key.secret not in redacted(f"it says {key.secret}")
    assert key_in(f"# a comment\n{key.secret}\n") == key
    with pytest.raises(Misconfigured) as raised:
        key_in(key.secret[:-4])
    assert key.secret[:-4] not in str(raised.value)
    assert not is_signed(b"text", "no base64", key.public)


def test_a_drill_signs_itself_when_the_inventory_names_a_key(shell: Shell, paper: Paper, tmp_path: Path) -> None:
    from tests.cli import paper as on_paper

    key = generate_key()
    signing = dataclasses.replace(on_paper.pipeline(paper), signer=key.file_text(clock()))
    assert key.secret not in repr(signing)
    taken = "20261123T020000Z"
    with clearing(signing, taken, signing.targets, Quiet()) as release:
        sealed = take(signing, taken, signing.targets, full=False, progress=Quiet(), stop=Stop(), release=release)
    report = drill.drill(
        signing, drill.choose(signing), drill_id="20261123T030000Z", progress=Quiet(), stop=Stop(), clock=clock
    )
    keys = [found.key for found in signing.catalog.bucket.list("evidence")]
    assert sorted(keys) == [f"evidence/{report.id}.html", f"evidence/{report.id}.json"]
    for name in keys:
        content = signing.catalog.bucket.read(name)
        assert key.secret.encode() not in content
        file = tmp_path / name.rpartition("/")[2]
        file.write_bytes(content)
        assert shell("evidence", "verify", str(file), "--key", key.public).exit_code == 0
    assert sealed.id in content.decode()
