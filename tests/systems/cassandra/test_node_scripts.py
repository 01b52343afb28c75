"""The scripts that nodes run are run here by a real shell, without a node."""

from __future__ import annotations

import hashlib
import os
import random
import time
import zlib
from pathlib import Path

import pytest

from include.engine.contracts import Stop
from include.engine.errors import Corrupt, PermanentError
from include.engine.sharing import SignedRequest
from include.engine.systems.cassandra import node_scripts
from include.engine.systems.cassandra.node_scripts import Transfer
from include.engine.systems.cassandra.sstables import missing, read_listing, wanted
from include.engine.systems.cassandra.transfer import hash_files
from include.engine.systems.cassandra.transport import CommandTransport

SHELL = CommandTransport("sh", ["sh", "-s"])
NAME = "oa-3h5r_17tt_3y3qo24su3jkj5xnt7-big"


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    folder = tmp_path / "it's data" / "ks" / f"t-{'0' * 32}" / "snapshots" / "tag"
    folder.mkdir(parents=True)
    data = random.Random(3).randbytes(100_000)
    (folder / f"{NAME}-Data.db").write_bytes(data)
    (folder / f"{NAME}-Digest.crc32").write_text(str(zlib.crc32(data)))
    (folder / f"{NAME}-TOC.txt").write_text("Data.db\nDigest.crc32\nTOC.txt\n")
    (folder / "manifest.json").write_text(f'{{"files": ["{NAME}-Data.db"]}}')
    return folder


def run(script: str) -> str:
    return SHELL.run(script, timeout=30)


def test_a_snapshot_is_listed_wherever_it_lies(snapshot: Path) -> None:
    listing = read_listing(run(node_scripts.listing([str(snapshot.parents[3])], "tag")), "tag")
    assert sorted(one.name for one in wanted(listing.files)) == [
        f"{NAME}-{c}" for c in ("Data.db", "Digest.crc32", "TOC.txt")
    ]
    assert missing(listing) == []
    data = next(one for one in listing.files if one.name.endswith("Data.db"))
    found = (snapshot / data.name).stat()
    assert data.identity == (found.st_size, int(found.st_mtime), found.st_ino)


def test_what_may_have_been_written_again_is_hashed_while_it_is_listed(snapshot: Path) -> None:
    mutable = snapshot / f"{NAME}-Statistics.db"
    mutable.write_bytes(b"statistics")
    hidden = snapshot / ".by_type" / f"{NAME}-Statistics.db"
    hidden.parent.mkdir()
    hidden.write_bytes(b"of an index")
    listing = read_listing(run(node_scripts.listing([str(snapshot.parents[3])], "tag")), "tag")
    assert listing.digests == {str(mutable): hashlib.sha256(b"statistics").hexdigest()}


@pytest.mark.parametrize("python", ["", "python3() { return 127; }\n"], ids=["by Python", "on a node without Python"])
def test_digests_are_sha256_and_cassandras_own_crc(snapshot: Path, python: str) -> None:
    path, other, odd = (str(snapshot / name) for name in (f"{NAME}-Data.db", f"{NAME}-TOC.txt", "x-Data.db"))
    Path(odd).write_bytes(b"")
    Path(f"{snapshot}/x-Digest.crc32").write_text("7")  # is not what Cassandra would have written
    said = run(python + node_scripts.digests([path, other, odd], [path, odd])).splitlines()
    content = Path(path).read_bytes()
    assert sorted(said) == sorted(
        [
            *(f"S {hashlib.sha256(Path(one).read_bytes()).hexdigest()} {one}" for one in (path, other, odd)),
            f"C {zlib.crc32(content)} {zlib.crc32(content)} {path}",
            f"C 0 7 {odd}",
        ]
    )


@pytest.mark.parametrize("python", ["", "python3() { return 127; }\n"], ids=["by Python", "on a node without Python"])
def test_a_data_file_without_a_sum_or_without_itself_stops_no_other(snapshot: Path, python: str) -> None:
    path, gone = str(snapshot / f"{NAME}-Data.db"), str(snapshot / "gone-Data.db")
    (snapshot / f"{NAME}-Digest.crc32").unlink()
    said = run(python + node_scripts.digests([gone, path], [gone, path])).splitlines()
    assert said == [f"S {hashlib.sha256(Path(path).read_bytes()).hexdigest()} {path}"]


def test_what_a_backup_does_on_a_node_gives_way_to_everybody_else(snapshot: Path) -> None:
    path = str(snapshot / f"{NAME}-Data.db")
    for script in (node_scripts.digests([path], [path]), node_scripts.uploads([], rate=None)):
        said = run(f"{script}\nchrt -p $$; ionice -p $$")
        assert "SCHED_IDLE" in said
        assert said.endswith("idle")


def test_a_tool_that_a_node_lacks_is_named_before_anything_is_believed(tmp_path: Path) -> None:
    script = node_scripts.listing([str(tmp_path)], "tag")
    with pytest.raises(PermanentError) as told:
        run(f"PATH={tmp_path}\n{script}")
    assert "awk is not installed on this node" in told.value.hint


def test_a_tool_that_a_node_lacks_is_named_before_anything_is_fetched(tmp_path: Path) -> None:
    script = node_scripts.staging(f"{tmp_path}/mainstay-restore-1", "a")
    with pytest.raises(PermanentError) as told:
        run(f'command() {{ [ "$2" != curl ]; }}\n{script}')
    assert "curl is not installed on this node: install it" in told.value.hint
    assert list(tmp_path.iterdir()) == []


def aged(path: Path, *, hours: int) -> None:
    then = time.time() - 3600 * hours
    for one in (*path.rglob("*"), path):
        os.utime(one, (then, then))


def test_what_nobody_has_touched_for_a_day_is_removed_and_nothing_else(tmp_path: Path) -> None:
    top = tmp_path / "it's staging"
    places = {name: top / f"mainstay-restore-{name}" for name in ("mine", "old", "young", "used")}
    places["others"] = top / "others"
    for place in places.values():
        (place / "host" / "ks").mkdir(parents=True)
        (place / "host" / "ks" / "file").write_bytes(b"rows")
        aged(place, hours=1 if place == places["young"] else 25)
    (places["used"] / "host" / "ks" / "next.part").write_bytes(b"just now")
    aged(places["used"] / "host", hours=25)
    os.utime(places["used"] / "host" / "ks" / "next.part")
    run(node_scripts.staging(str(places["mine"]), "a"))
    assert {name for name, place in places.items() if place.exists()} == {"mine", "young", "used", "others"}
    assert (places["mine"] / "host" / "ks" / "file").read_bytes() == b"rows"  # who goes on finds it, however old


def test_files_are_removed_by_the_attempt_whose_they_are(tmp_path: Path) -> None:
    place = tmp_path / "mainstay-restore-1"
    run(node_scripts.staging(str(place), "first"))
    run(node_scripts.staging(str(place), "second"))
    run(node_scripts.unstaging(str(place), "first"))
    assert [path.name for path in place.iterdir()] == [".attempt-second"]
    run(node_scripts.unstaging(str(place), "second"))
    assert not place.exists()
    run(node_scripts.unstaging(str(place), "second"))


@pytest.mark.parametrize("line", ["C  123 /d/x-Data.db", "C 123  /d/x-Data.db"], ids=["not computed", "not recorded"])
def test_a_crc_that_is_not_there_is_no_proof_of_damage(line: str) -> None:
    class Says:
        name = "a node"

        def run(self, *_: object, **__: object) -> str:
            return line

    with pytest.raises(PermanentError, match="could not be compared") as told:
        hash_files(Says(), [], check_data=True, timeout=1, stop=Stop())
    assert not isinstance(told.value, Corrupt)


def test_parts_are_hashed_one_by_one_and_the_whole_in_the_same_reading(snapshot: Path) -> None:
    path = snapshot / f"{NAME}-Data.db"
    said = run(node_scripts.part_digests(str(path), 100_000, 40_000)).splitlines()
    content = path.read_bytes()
    parts = [content[:40_000], content[40_000:80_000], content[80_000:]]
    digests = [f"P {n} {hashlib.sha256(part).hexdigest()}" for n, part in enumerate(parts, start=1)]
    assert said == [*digests, f"W {hashlib.sha256(content).hexdigest()}"]


def test_ten_thousand_files_are_listed_and_hashed(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "ks" / f"t-{'0' * 32}" / "snapshots" / "tag"
    folder.mkdir(parents=True)
    for n in range(10_000):
        (folder / f"nb-{n}-big-Data.db").write_text(str(n))
    listing = read_listing(run(node_scripts.listing([str(tmp_path / "data")], "tag")), "tag")
    assert len(listing.files) == 10_000
    said = run(node_scripts.digests([one.path for one in listing.files], []))
    assert len(said.splitlines()) == 10_000


def test_what_is_fetched_gets_its_name_only_when_it_is_right(tmp_path: Path) -> None:
    places = {name: tmp_path / "it's a place" / name for name in ("right", "same", "wrong", "gone", "stale")}
    contents = {"right": b"one", "same": b"one", "wrong": b"three", "stale": b"five"}
    wished = {**contents, "wrong": b"other", "gone": b"four"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    places["stale"].parent.mkdir()
    places["stale"].write_bytes(b"of an earlier attempt")
    transfers = [
        Transfer(
            sha256=hashlib.sha256(wished[name]).hexdigest(),
            path=str(place),
            bytes=len(wished[name]),
            request=SignedRequest(url=f"file://{tmp_path}/{name}"),
        )
        for name, place in places.items()
    ]
    said = run(node_scripts.downloads(transfers, rate=None)).splitlines()
    assert {line for line in said if line.startswith("V ")} == {
        f"V {places[name]}" for name in ("right", "same", "stale")
    }
    assert {line for line in said if line.startswith("W ")} == {f"W 5 {places['wrong']}", f"W 0 {places['gone']}"}
    assert said[-1].startswith("A ")
    assert {path.name: path.read_bytes() for path in places["right"].parent.iterdir()} == {
        **{name: contents[name] for name in ("right", "same", "stale")},
        "wrong.part": b"three",
    }


def test_curl_gets_names_and_headers_as_they_are() -> None:
    request = SignedRequest(url='http://127.0.0.1:1/b/k?sig=a"b\\c', headers={"If-None-Match": "*"})
    one = Transfer(sha256="0" * 64, path='/da ta/"quoted"', bytes=1, request=request)
    script = node_scripts.uploads([one], rate=2048)
    assert 'url = "http://127.0.0.1:1/b/k?sig=a\\"b\\\\c"' in script
    assert 'upload-file = "/da ta/\\"quoted\\""' in script
    assert "limit-rate = 2048" in script
    assert f"U 000 0 {'0' * 64}:0" in run(script)
