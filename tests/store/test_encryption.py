"""What is encrypted opens with the right key alone, streams, and says what is wrong when it does not open."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pyrage
import pytest

from include.engine.errors import Corrupt, Misconfigured, Unauthorized
from include.engine.store.encryption import decrypt, encrypt, generate_identity, identities_in, recipient_of
from tests.store.making import NOW

ALICE, BOB, MALLORY = (generate_identity() for _ in range(3))
TEXT = bytes(range(256)) * 4096  # a MiB, more than one age chunk


def sealed(*recipients: str, text: bytes = TEXT) -> bytes:
    return b"".join(encrypt([text], recipients or (ALICE.recipient,)))


def age_threads() -> int:
    return sum(thread.name == "age" for thread in threading.enumerate())


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 3_000_001])
def test_what_goes_in_comes_out(size: int) -> None:
    text = (TEXT * 3)[:size]
    assert b"".join(decrypt([sealed(text=text)], [ALICE.identity], what="x")) == text


def test_every_recipient_can_open_it_alone() -> None:
    raw = sealed(ALICE.recipient, BOB.recipient)
    for key in (ALICE, BOB):
        assert b"".join(decrypt([raw], [MALLORY.identity, key.identity], what="x")) == TEXT


def test_the_stock_tool_opens_it_and_we_open_what_the_stock_tool_wrote() -> None:
    identity = pyrage.x25519.Identity.from_str(ALICE.identity)
    assert pyrage.decrypt(sealed(), [identity]) == TEXT
    raw = pyrage.encrypt(TEXT, [identity.to_public()])
    assert b"".join(decrypt([raw[:1000], raw[1000:]], [ALICE.identity], what="x")) == TEXT


def test_without_the_key_the_error_names_the_key_that_is_needed() -> None:
    with pytest.raises(Unauthorized) as caught:
        list(decrypt([sealed()], [MALLORY.identity], what="base.tar.age", key_ids=[ALICE.recipient]))
    assert "base.tar.age" in caught.value.message
    assert ALICE.recipient in caught.value.hint
    assert MALLORY.identity not in str(caught.value)


@pytest.mark.parametrize("identities", [(), (MALLORY.identity,)], ids=["no key", "the wrong key"])
def test_without_the_key_and_its_id_it_is_still_unauthorized(identities: tuple[str, ...]) -> None:
    with pytest.raises(Unauthorized, match=r"no key at hand opens x.*key_ids"):
        list(decrypt([sealed()], identities, what="x"))


@pytest.mark.parametrize("place", [0, 40, 100, 190, 600, 70_000, -1])
def test_one_flipped_bit_is_corrupt_wherever_it_is_even_in_the_header(place: int) -> None:
    raw = bytearray(sealed())
    raw[place] ^= 1
    with pytest.raises(Corrupt, match=r"a/b\.age"):
        list(decrypt([bytes(raw)], [ALICE.identity], what="a/b.age", key_ids=[ALICE.recipient]))


@pytest.mark.parametrize("length", [0, 30, 150, 300, 66_000, -1])
def test_a_truncated_ciphertext_is_corrupt(length: int) -> None:
    with pytest.raises(Corrupt, match="x cannot be decrypted"):
        list(decrypt([sealed()[:length]], [ALICE.identity], what="x", key_ids=[ALICE.recipient]))


def test_bytes_after_the_end_are_corrupt() -> None:
    with pytest.raises(Corrupt):
        list(decrypt([sealed(), b"more"], [ALICE.identity], what="x"))


@pytest.mark.parametrize("error", [KeyError("mine"), OSError("disk"), Corrupt("x is short", hint="h"), SystemExit(3)])
def test_the_error_of_the_source_comes_through_unchanged(error: BaseException) -> None:
    def source() -> Iterator[bytes]:
        yield sealed()[:100_000]
        raise error

    for chunks in (encrypt(source(), [ALICE.recipient]), decrypt(source(), [ALICE.identity], what="x")):
        with pytest.raises(type(error)) as caught:
            list(chunks)
        assert caught.value is error


def test_the_source_is_read_to_its_end_so_that_it_can_compare_its_digest() -> None:
    ended = []

    def source() -> Iterator[bytes]:
        yield sealed()
        ended.append(True)

    list(decrypt(source(), [ALICE.identity], what="x"))
    assert ended == [True]


def test_a_reader_who_gives_up_ends_the_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield TEXT
        finally:
            closed.set()

    before = age_threads()
    chunks = encrypt(endless(), [ALICE.recipient])
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert closed.wait(5)
    assert age_threads() == before


def test_a_slow_reader_does_not_make_the_source_run_ahead() -> None:
    given = 0

    def source() -> Iterator[bytes]:
        nonlocal given
        for _ in range(200):
            given += 1
            yield TEXT

    chunks = encrypt(source(), [ALICE.recipient])
    next(chunks)
    seen = -1
    while seen != given:  # wait until it stands still
        seen = given
        time.sleep(0.1)
    assert given < 20
    assert sum(map(len, chunks)) > 190 << 20


def test_nothing_starts_before_somebody_reads() -> None:
    before = age_threads()
    encrypt([TEXT], [ALICE.recipient])
    assert age_threads() == before


@pytest.mark.parametrize("recipients", [[], ["age1nonsense"], [ALICE.recipient, ""]])
def test_a_recipient_that_is_none_is_told_before_anything_is_read(recipients: list[str]) -> None:
    with pytest.raises(Misconfigured, match=r"recipient|public key"):
        encrypt([TEXT], recipients)


def test_a_secret_key_given_as_recipient_is_not_quoted() -> None:
    with pytest.raises(Misconfigured, match="a secret key is not an age public key") as caught:
        encrypt([TEXT], [ALICE.identity])
    assert ALICE.identity not in str(caught.value)


def test_an_identity_that_is_none_is_told_and_not_quoted() -> None:
    with pytest.raises(Misconfigured) as caught:
        decrypt([b""], ["AGE-SECRET-KEY-1OOPS"], what="x")
    assert "OOPS" not in str(caught.value)


def test_a_key_file_survives_writing_and_reading() -> None:
    text = ALICE.file_text(NOW)
    assert f"# public key: {ALICE.recipient}" in text
    assert identities_in(text + "\n# and an old one\n" + BOB.identity + "\n") == (ALICE.identity, BOB.identity)
    assert recipient_of(ALICE.identity) == ALICE.recipient
    assert ALICE.identity not in repr(ALICE)


@pytest.mark.parametrize("text", ["", "# only a comment\n"])
def test_a_key_file_without_a_key_is_a_mistake(text: str) -> None:
    with pytest.raises(Misconfigured, match="no age secret key"):
        identities_in(text)


def test_a_damaged_key_file_names_the_line_and_not_the_secret() -> None:
    with pytest.raises(Misconfigured, match="line 2 ") as caught:
        identities_in("# fine\n" + ALICE.identity[:-1] + "\n")
    assert ALICE.identity[:30] not in str(caught.value)
