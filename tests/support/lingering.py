"""A descriptor whose close takes long: a TCP connection with data that nobody reads (socket(7): SO_LINGER)."""

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CLOSE_SECONDS = 30


@contextmanager
def send_lingering(channel: socket.socket, data: bytes = b".", flags: int = 0) -> Iterator[None]:
    """Sends the only copy of such a descriptor. Whoever closes it waits, until the end of this context at most."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        made = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
        with other:  # its end resets the connection
            made.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    made.send(b"x" * 65536)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, CLOSE_SECONDS))
            number = made.fileno().to_bytes(4, sys.byteorder)
            channel.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, number)], flags)
            made.close()
            yield
