"""Messages between processes: whole or not at all, within their limits, and with no more descriptors than expected."""

import itertools
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.lingering import CLOSE_SECONDS, send_lingering
from ucloud_slurm.system import ipc

Pair = tuple[socket.socket, socket.socket]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_message_arrives_with_its_descriptors_which_no_child_inherits(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("hello")
    with (tmp_path / "log").open() as log:
        ipc.send(pair[0], {"found": True}, [log.fileno()], within=5)
    message, descriptors = ipc.receive(pair[1], 1000, within=5, descriptors=1)
    assert (message, os.read(descriptors[0], 10)) == ({"found": True}, b"hello")
    assert not os.get_inheritable(descriptors[0])
    ipc.close(descriptors)


@pytest.mark.parametrize("expected", [0, 1])
@pytest.mark.parametrize("sent", [[2], [4, 4], [253], [1, 1], [0, 1, 1], [1] * 9, [3] * 9])
def test_a_message_with_more_descriptors_than_expected_is_refused_and_they_are_closed(
    pair: Pair, expected: int, sent: list[int]
) -> None:
    body = b"{}   "
    reading, writing = os.pipe()
    pieces = (len(body).to_bytes(4, "big"), *(body[n : n + 1] for n in range(len(body))), b" ", b" ", b" ")
    for piece, count in itertools.zip_longest(pieces, sent):
        socket.send_fds(pair[0], [piece], [writing] * (count or 0))
    os.close(writing)
    before = descriptors()
    with pytest.raises(ipc.MessageError, match="descriptors"):
        ipc.receive(pair[1], 1000, within=5, descriptors=expected)
    assert descriptors() == before
    pair[1].close()
    assert os.read(reading, 1) == b"", "a copy of the other end is still open"
    os.close(reading)


@pytest.mark.parametrize("answer", [{}, OSError("no")])
def test_what_came_with_a_request_is_closed_however_it_is_answered(pair: Pair, answer: ipc.Message | OSError) -> None:
    def answering(_message: ipc.Message, given: Sequence[int]) -> ipc.Message:
        assert len(given) == 1
        if isinstance(answer, OSError):
            raise answer
        return answer

    reading, writing = os.pipe()
    ipc.send(pair[0], {}, [writing], within=5)
    os.close(writing)
    with suppress(OSError):
        ipc.serve(pair[1], answering, waits=5, sends=5, descriptors=1)
    assert os.read(reading, 1) == b"", "a copy of the other end is still open"
    os.close(reading)


@pytest.mark.parametrize(("count", "arrives"), [(0, False), (1, True), (2, False), (253, False)])
def test_one_descriptor_is_taken_from_a_socket_of_packets_and_no_other_number(count: int, arrives: bool) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading, writing = os.pipe()
    with ours, theirs:
        assert ipc.receive_descriptor(ours) is None, "it does not wait"
        socket.send_fds(theirs, [b"."], [writing] * count)
        os.close(writing)
        found = ipc.receive_descriptor(ours)
        assert (found is not None) == arrives
        ipc.close([found] if found is not None else [])
        assert os.read(reading, 1) == b"", "a copy of the other end is still open"
    os.close(reading)


@pytest.mark.parametrize("before", [0, 1, 6])
def test_a_message_whose_descriptor_takes_long_to_close_is_refused_at_once(pair: Pair, before: int) -> None:
    message = b"\0\0\0\4{}  "
    pair[0].sendall(message[:before])
    with send_lingering(pair[0], message[before:]):
        begun = time.monotonic()
        with pytest.raises(ipc.MessageError, match="descriptors"):
            ipc.receive(pair[1], 1000, within=5)
        assert time.monotonic() - begun < CLOSE_SECONDS / 2


@pytest.mark.parametrize("before", [0, 1, 6])
def test_a_descriptor_that_comes_out_of_band_is_refused_at_once(pair: Pair, before: int) -> None:
    ipc.keep_in_line(pair[1])
    pair[0].sendall(b"\0\0\0\4{}  "[:before])
    with send_lingering(pair[0], flags=socket.MSG_OOB):
        pair[0].sendall(b"\0\0\0\4{}  ")
        begun = time.monotonic()
        with pytest.raises(ipc.MessageError, match="descriptors"):
            ipc.receive(pair[1], 1000, within=5)
        assert time.monotonic() - begun < CLOSE_SECONDS / 2


@pytest.mark.parametrize(
    ("sent", "why"),
    [(b"\0\0", "took too long"), (b"\0\0\0\2[]", "no object"), (b"\0\0\0\2{x", "cannot be read"), (b"\0\0\4\0", "too long")],
)
def test_a_peer_that_breaks_the_protocol_is_distinguished_from_one_that_closed(pair: Pair, sent: bytes, why: str) -> None:
    pair[0].sendall(sent)
    with pytest.raises(ipc.MessageError, match=why):
        ipc.receive(pair[1], 1000, within=0.05)
    pair[0].close()
    with pytest.raises(ipc.ConnectionLostError, match="closed") as closed:
        ipc.receive(pair[1], 1000, within=5)
    assert type(closed.value) is ipc.ConnectionLostError
