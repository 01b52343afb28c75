"""What is read ahead on another thread is the same, ends with whoever reads it, and fails where it failed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.engine.store.pipe import ahead


def threads() -> int:
    return sum(thread.name == "ahead" for thread in threading.enumerate())


@given(st.lists(st.binary(max_size=40), max_size=40))
@settings(max_examples=40, deadline=None)
def test_the_bytes_are_the_same(chunks: list[bytes]) -> None:
    assert b"".join(ahead(iter(chunks))) == b"".join(chunks)
    assert threads() == 0


def test_an_error_comes_as_it_is_after_what_came_before_it() -> None:
    def failing() -> Iterator[bytes]:
        yield b"x" * (1 << 20)
        yield b"small"
        raise KeyError("it")

    got: list[bytes] = []
    with pytest.raises(KeyError, match="it"):
        got.extend(ahead(failing()))
    assert b"".join(got) == b"x" * (1 << 20) + b"small"
    assert threads() == 0


def test_a_reader_that_stops_ends_the_source_and_no_more_than_a_few_pieces_were_made() -> None:
    made: list[int] = []
    closed: list[str] = []

    def endless() -> Iterator[bytes]:
        try:
            while True:
                made.append(1)
                yield bytes(1 << 20)
        finally:
            closed.append(threading.current_thread().name)

    reader = ahead(endless(), blocks=2)
    next(iter(reader))
    reader.close()  # type: ignore[attr-defined]
    assert closed == ["ahead"]
    assert len(made) <= 5
    assert threads() == 0
