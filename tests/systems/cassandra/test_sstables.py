"""File names of every generation are read, and what must be there is there."""

from __future__ import annotations

import json

import pytest

from include.engine.errors import Corrupt, Incomplete
from include.engine.systems.cassandra.sstables import (
    SnapshotFile,
    SSTableName,
    known_digests,
    missing,
    read_listing,
    require_whole,
    unlisted,
    wanted,
)

FOLDER = "/d/data/ks/t-cc8f1ac0e77011f1b460c17300ceb305/snapshots/tag"
UUID_NAME = "oa-3h5r_17tt_3y3qo24su3jkj5xnt7-big"


def file(name: str, *, modified: int = 1, inode: int = 1, table: str = "t") -> SnapshotFile:
    place = {"keyspace": "ks", "table": table, "table_id": "0" * 32, "name": name}
    return SnapshotFile(path=f"/d/{table}/{name}", bytes=10, modified=modified, inode=inode, **place)


@pytest.mark.parametrize(
    ("name", "component"),
    [
        (f"{UUID_NAME}-Data.db", "Data.db"),
        ("nb-12-big-Statistics.db", "Statistics.db"),
        ("da-3h5r_17tt_3y3qo24su3jkj5xnt7-bti-Partitions.db", "Partitions.db"),
        (f"{UUID_NAME}-SAI+aa+by_duration+Meta.db", "SAI+aa+by_duration+Meta.db"),
    ],
    ids=["time-based id", "counter", "bti", "SAI"],
)
def test_names_of_every_generation_are_read(name: str, component: str) -> None:
    parsed = SSTableName.parse(name)
    assert parsed is not None
    assert parsed.component == component


@pytest.mark.parametrize("name", ["manifest.json", "schema.cql", "backups", "oa-xyz-big-Data.db"])
def test_what_is_no_sstable_is_not_taken_for_one(name: str) -> None:
    assert SSTableName.parse(name) is None


def test_a_listing_is_read_and_hidden_folders_are_left_out() -> None:
    text = "\n".join(
        [
            f"T {FOLDER}",
            f"F 100 7 42 {FOLDER}/{UUID_NAME}-Data.db",
            f"F 9 7 43 {FOLDER}/.by_type/{UUID_NAME}-Data.db",
            f"F 9 7 44 {FOLDER}/manifest.json",
            f"D {FOLDER}/manifest.json",
            f'|{{"files": ["{UUID_NAME}-Data.db", ".by_type/{UUID_NAME}-Data.db"]}}',
            "",
        ]
    )
    listing = read_listing(text, "tag")
    assert [(one.keyspace, one.table, one.bytes, one.inode) for one in listing.files] == [("ks", "t", 100, 42)]
    assert listing.tables == {("ks", "t")}
    assert missing(listing) == []


def test_a_line_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(Corrupt, match="cannot read"):
        read_listing("find: Permission denied", "tag")


def test_sstables_that_the_snapshots_own_list_names_must_be_there() -> None:
    document = json.dumps({"files": [f"{UUID_NAME}-Data.db"]})
    listing = read_listing(f"T {FOLDER}\nD {FOLDER}/manifest.json\n|{document}\n", "tag")
    assert missing(listing) == [f"{FOLDER}/{UUID_NAME}-Data.db"]


def test_the_list_in_one_data_directory_names_the_sstables_of_all() -> None:
    other = FOLDER.replace("/d/data", "/second/disk")
    document = json.dumps({"files": [f"{UUID_NAME}-Data.db"]})
    text = f"T {FOLDER}\nD {FOLDER}/manifest.json\n|{document}\nT {other}\nF 1 1 1 {other}/{UUID_NAME}-Data.db\n"
    assert missing(read_listing(text, "tag")) == []
    another_table = text.replace(f"F 1 1 1 {other}", f"F 1 1 1 {other.replace('/t-', '/u-')}")
    assert missing(read_listing(another_table, "tag")) == [f"{FOLDER}/{UUID_NAME}-Data.db"]


def test_a_folder_without_its_list_was_never_finished() -> None:
    text = f"T {FOLDER}\nF 1 1 1 {FOLDER}/{UUID_NAME}-Data.db\n"
    assert unlisted(read_listing(text, "tag")) == [("ks", "t")]
    other = FOLDER.replace("/d/data", "/second/disk")
    listed = f'{text}T {other}\nD {other}/manifest.json\n|{{"files": []}}\n'
    assert unlisted(read_listing(listed, "tag")) == []


def test_components_that_the_table_of_contents_names_must_be_there() -> None:
    text = (
        f"T {FOLDER}\nF 1 1 1 {FOLDER}/{UUID_NAME}-TOC.txt\nD {FOLDER}/{UUID_NAME}-TOC.txt\n"
        "|TOC.txt\n|Filter.db\n|SAI+aa+Meta.db\n"
    )
    assert missing(read_listing(text, "tag")) == [f"{FOLDER}/{UUID_NAME}-Filter.db"]


def test_an_sstable_without_its_rows_is_incomplete() -> None:
    with pytest.raises(Incomplete, match=r"lacks Data\.db"):
        require_whole([file(f"{UUID_NAME}-Statistics.db"), file(f"{UUID_NAME}-TOC.txt")], "n1")


def test_an_sstable_that_was_streamed_whole_has_no_table_of_contents_and_is_whole() -> None:
    require_whole([file(f"{UUID_NAME}-Data.db"), file(f"{UUID_NAME}-Statistics.db")], "n1")


def test_indexes_and_views_are_left_out() -> None:
    files = [file(f"{UUID_NAME}-Data.db"), file(f"{UUID_NAME}-SAI+aa+Meta.db"), file(f"{UUID_NAME}-Data.db", table="v")]
    assert wanted(files, [("ks", "v")]) == files[:1]


def test_only_what_cannot_have_changed_is_not_hashed_again() -> None:
    same, touched, mutable = (
        file(f"{UUID_NAME}-Data.db"),
        file(f"{UUID_NAME}-Index.db", modified=2),
        file(f"{UUID_NAME}-Statistics.db"),
    )
    earlier = {one.place: ((10, 1, 1), "digest") for one in (same, touched, mutable)}
    assert known_digests([same, touched, mutable], earlier) == {same.path: "digest"}


def test_a_counter_that_was_used_again_is_another_file() -> None:
    again = file("nb-1-big-Data.db", inode=99)
    assert known_digests([again], {again.place: ((10, 1, 1), "digest")}) == {}
