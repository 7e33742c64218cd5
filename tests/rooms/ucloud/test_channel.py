"""The channel's messages are read as UCloud writes them, and whatever else comes is told apart."""

import struct
import time
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rooms.listener import records
from ucloud_slurm.ucloud import channel
from ucloud_slurm.ucloud.channel import CategoryRecord, OwnerKind, Payer, Project, ProtocolError, Reader, User, Wallet

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
signed = st.integers(-(2**63), 2**63 - 1)
unsigned = st.integers(0, 2**32 - 1)


@given(number=unsigned, name=names, quota=signed, usage=signed, locked=st.booleans(), at=signed)
def test_a_wallet_of_a_user_is_read_as_it_was_written(
    number: int, name: str, quota: int, usage: int, locked: bool, at: int
) -> None:
    message = records.user(number, name) + records.category(number, "cpu", "other")
    message += records.wallet(number, number, locked=locked, quota=quota, usage=usage, at=at)
    payer = Payer(OwnerKind.USER, name, "cpu")
    assert records.read(message) == [
        User(name),
        CategoryRecord("cpu", "other"),
        Wallet(payer, "other", True, quota, usage, locked or usage > quota, at / 1000),
    ]


@given(id_=names, members=st.lists(names, max_size=4), at=signed, consumes=st.booleans(), title=names)
def test_a_wallet_of_a_project_is_read_as_it_was_written(
    id_: str, members: list[str], at: int, consumes: bool, title: str
) -> None:
    message = records.project(7, id_, members, at, title=title, canConsumeResources=consumes) + records.category(9)
    found = records.read(message + records.wallet(7, 9, of_project=True))
    assert found[0] == Project(id_, title, at / 1000, consumes, tuple(members))
    assert isinstance(found[2], Wallet)
    assert (found[2].payer, found[2].consumes) == (Payer(OwnerKind.PROJECT, id_, "example-compute"), consumes)


@given(st.binary(max_size=300))
def test_any_bytes_are_records_or_garbage(data: bytes) -> None:
    with suppress(ProtocolError):
        records.read(data)


PARTS = (records.user(0, "Ada#1"), records.project(1, "p", ["Ada#1"]), records.category(2), records.wallet(0, 2))
WHOLE = b"".join(PARTS)
BORDERS = {len(b"".join(PARTS[:number])) for number in range(len(PARTS))}


@given(place=st.integers(0, len(WHOLE) - 1), value=st.integers(0, 255))
def test_a_message_with_a_wrong_byte_is_records_or_garbage(place: int, value: int) -> None:
    with suppress(ProtocolError):
        records.read(WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :])


def test_a_message_that_breaks_off_is_garbage() -> None:
    assert len(records.read(WHOLE)) == 4
    for length in set(range(len(WHOLE))) - BORDERS:
        with pytest.raises(ProtocolError, match="ends in the middle"):
            records.read(WHOLE[:length])


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (struct.pack(">BI", 9, 0), "of the unknown kind 9"),
        (struct.pack(">BI", 0, 0), "of the unknown kind 0"),
        (records.user(0, ""), "name is missing"),
        (struct.pack(">BI", 4, 0) + records.text(b"\xff\xfe"), "not UTF-8"),
        (struct.pack(">BII", 4, 0, 2**32 - 1), "ends in the middle"),
        (struct.pack(">BI", 3, 0) + records.text("{"), "a category that is not a JSON object"),
        (struct.pack(">BI", 3, 0) + records.text("[]"), "a category that is not a JSON object"),
        (struct.pack(">BI", 3, 0) + records.text("[" * 100_000), "a category that is not a JSON object"),
        (struct.pack(">BI", 3, 0) + records.text("1" * 100_000), "a category that is not a JSON object"),
        (struct.pack(">BI", 3, 0) + records.text('{"name": "cpu"}'), "provider is missing"),
        (struct.pack(">BI", 3, 0) + records.text('{"name": "\\ud800", "provider": "p"}'), "half a character"),
        (struct.pack(">BIq", 2, 0, 0) + records.text('{"id": null}'), "id is missing"),
        (records.user(0, "Ada#1") + records.wallet(0), "was not defined before"),
        (records.category(0) + records.wallet(0), "was not defined before"),
        (records.user(0, "Ada#1") + records.category(0) + records.wallet(0, of_project=True), "was not defined before"),
    ],
)
def test_what_is_wrong_with_a_message_is_said_in_a_sentence(message: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        records.read(message)


def test_numbers_of_owners_and_categories_stand_until_the_connection_ends() -> None:
    reader = Reader()
    assert len(list(reader.records(records.user(0, "Ada#1") + records.category(0)))) == 2
    (found,) = reader.records(records.wallet(0))
    assert isinstance(found, Wallet)
    assert found.payer.owner == "Ada#1"
    with pytest.raises(ProtocolError):
        records.read(records.wallet(0))


def test_a_large_message_is_read_quickly_and_one_of_too_many_records_is_garbage() -> None:
    message = records.user(0, "a") * channel.MAX_RECORDS
    begun = time.monotonic()
    assert len(records.read(message)) == channel.MAX_RECORDS
    assert time.monotonic() - begun < 10
    with pytest.raises(ProtocolError, match="more than"):
        records.read(message + records.user(0, "a"))
    with pytest.raises(ProtocolError, match="bytes"):
        records.read(b"\4" * (channel.MAX_MESSAGE_BYTES + 1))


def test_records_are_not_kept_when_they_have_been_read() -> None:
    message = records.project(0, "p-1", ["Ada#1"] * 100) * 1000
    tracemalloc.start()
    for _ in Reader().records(message):
        pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < len(message) / 10


@given(since=st.integers(0, channel.LAST_MS), token=names, flags=st.integers(0, 2**64 - 1))
def test_what_is_sent_is_what_ucloud_reads(since: int, token: str, flags: int) -> None:
    data = token.encode()
    frame = channel.auth_frame(since, token, flags)
    assert struct.unpack(">BqQI", frame[:21]) == (0, since, flags, len(data))
    assert frame[21:] == data


@pytest.mark.parametrize(("asked", "sent"), [(-(2**63), 0), (5, 5), (2**63 - 1, 253_402_300_799_000)])
def test_ucloud_is_asked_for_no_time_that_its_database_does_not_have(asked: int, sent: int) -> None:
    assert struct.unpack_from(">q", channel.auth_frame(asked, "token"), 1) == (sent,)
