"""A TCP relay to slurmctld that can be cut: its clients lose the controller, while others keep it."""

import selectors
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.sandbox.cluster import Cluster

BUFFER = 65536
"""Bytes carried at a time."""


class Relay:
    """Carries TCP connections from a loopback port of its own to a cluster's slurmctld, until it is cut.

    One thread waits for connections and each connection has one; all end with :meth:`cut` or :meth:`close`.
    Can be used in a ``with`` statement.

    :ivar port: where clients connect
    """

    def __init__(self, cluster: Cluster) -> None:
        """Begin to serve."""
        self._address = cluster.address
        self._target = (cluster.address, cluster.controller_port)
        self._guard = threading.Lock()
        self._connections: dict[threading.Thread, tuple[socket.socket, ...]] = {}
        self._door = _bound(self._address, 0)
        self.port = int(self._door.getsockname()[1])
        self._cut = True
        self.restore()

    def conf_for(self, cluster: Cluster, folder: Path) -> Path:
        """Write a slurm.conf for clients that reach slurmctld through here, and slurmdbd as ever.

        :param folder: is made if absent; all accounts that shall use the file must be able to reach it
        :return: the file, for SLURM_CONF
        """
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        lines = [
            f"SlurmctldPort={self.port}" if line.startswith("SlurmctldPort=") else line
            for line in cluster.conf.read_text().splitlines()
        ]
        conf = folder / "slurm.conf"
        conf.write_text("\n".join(lines) + "\n")
        plugins = folder / "plugstack.conf"  # sbatch and srun look for it beside slurm.conf
        plugins.touch()
        for file in (conf, plugins):
            file.chmod(0o644)
        return conf

    def cut(self) -> None:
        """End all connections and have new ones refused. Returns when that is so."""
        with self._guard:
            if self._cut:
                return
            self._cut = True
            _hang_up(self._door)
        self._end_threads()
        self._door.close()
        # bound but not listening: the port stays ours, and the kernel refuses new connections
        self._door = _bound(self._address, self.port)

    def _end_threads(self) -> None:
        while True:
            with self._guard:
                threads = dict(self._connections)
            if not threads:
                return
            for thread, ends in threads.items():
                for end in ends:
                    _hang_up(end)
                thread.join()
                with self._guard:
                    self._connections.pop(thread, None)

    def restore(self) -> None:
        """Serve again. Nothing happens when it does."""
        with self._guard:
            if self._cut:
                self._cut = False
                self._door.listen(128)
                self._begin(threading.Thread(target=self._accept, args=(self._door,), daemon=True))

    def close(self) -> None:
        """End all connections and give the port back."""
        self.cut()
        self._door.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, thread: threading.Thread, *ends: socket.socket) -> None:
        self._connections[thread] = ends
        thread.start()

    def _accept(self, door: socket.socket) -> None:
        while True:
            try:
                client, _ = door.accept()
            except OSError:  # hung up
                return
            with self._guard:
                self._forget_ended()
                if self._cut:
                    client.close()
                    return
                server = socket.socket()
                self._begin(threading.Thread(target=self._carry, args=(client, server), daemon=True), client, server)

    def _forget_ended(self) -> None:
        for thread in [thread for thread in self._connections if not thread.is_alive()]:
            del self._connections[thread]

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, suppress(OSError), selectors.DefaultSelector() as ready:
            server.settimeout(5)
            server.connect(self._target)
            server.settimeout(None)
            if self._cut:  # before there was a connection to hang up
                return
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while ready.get_map():
                for key, _ in ready.select():
                    source, sink = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    if data := source.recv(BUFFER):
                        sink.sendall(data)
                    else:
                        ready.unregister(source)
                        sink.shutdown(socket.SHUT_WR)


def _bound(address: str, port: int) -> socket.socket:
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind((address, port))
    return door


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):  # it ended already
        end.shutdown(socket.SHUT_RDWR)
