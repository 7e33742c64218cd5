"""Messages between processes: whole or not at all, within their limits, and with no more descriptors than expected."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ucloud_slurm.system import ipc

Pair = tuple[socket.socket, socket.socket]


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
def test_descriptors_beyond_those_expected_are_closed_whatever_pieces_they_come_in(pair: Pair, expected: int) -> None:
    body = b"{}   "
    reading, writing = os.pipe()
    for piece in (len(body).to_bytes(4, "big"), *(body[n : n + 1] for n in range(len(body)))):
        socket.send_fds(pair[0], [piece], [writing] * 3)
    os.close(writing)
    descriptors = ipc.receive(pair[1], 1000, within=5, descriptors=expected)[1]
    assert len(descriptors) == expected
    ipc.close(descriptors)
    assert os.read(reading, 1) == b"", "a copy of the other end is still open"
    os.close(reading)


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
