"""A listening socket whose connections are served by threads, so many at a time; further ones wait with the kernel."""

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

ACCEPT_SECONDS = 5.0  # after which a listener that was closed is noticed


def accept(listener: socket.socket, serve: Callable[[socket.socket], object], most: int, name: str) -> None:
    """Accepts connections until the listener is closed, and waits for those that are served then.

    :param serve: serves a connection and closes it; raises nothing
    :param most: connections at a time
    :param name: of the threads
    """
    free = threading.Semaphore(most)
    listener.settimeout(ACCEPT_SECONDS)
    with ThreadPoolExecutor(most, name) as threads:
        while True:
            free.acquire()
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                free.release()
                continue
            except OSError:
                break
            threads.submit(serve, connection).add_done_callback(lambda _: free.release())
