"""Connections are accepted until the listener is closed, whatever goes wrong meanwhile."""

import errno
import socket
import threading
from pathlib import Path

import pytest

from ucloud_slurm.system import acceptor

PATIENCE = 20.0


class Failing(socket.socket):
    """A listener whose next calls fail."""

    errors: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, errno.errorcode[number])
        return super().accept()


def test_an_error_of_one_connection_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor, "WAIT_SECONDS", 0.0)
    served = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.close()
        served.set()

    with Failing(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.errors = [errno.EMFILE, errno.ECONNABORTED]
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        thread = threading.Thread(target=acceptor.accept, args=(listener, serve, 2, "test"))
        thread.start()
        caller.connect(str(tmp_path / "s"))
        assert served.wait(PATIENCE)
        listener.errors = [errno.EBADF]
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(tmp_path / "s"))
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert caplog.text.count("a connection cannot be accepted") == 2
