"""A listening socket whose connections are served by threads, so many at a time; further ones wait with the kernel."""

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

log = logging.getLogger(__name__)

ACCEPT_SECONDS = 5.0  # after which a listener that was closed is noticed
WAIT_SECONDS = 0.5  # after an error, such as too many open files


def accept(
    listener: socket.socket,
    serve: Callable[[socket.socket], object],
    most: int,
    name: str,
    between: Callable[[], object] = lambda: None,
) -> None:
    """Accepts connections until the listener is closed, and waits for those that are served then.

    :param serve: serves a connection and closes it; raises nothing
    :param most: connections at a time
    :param name: of the threads
    :param between: is called before each connection, and every few seconds without one
    """
    free = threading.Semaphore(most)
    with suppress(OSError):  # it is closed already, which accept says
        listener.settimeout(ACCEPT_SECONDS)
    with ThreadPoolExecutor(most, name) as threads:
        while True:
            between()
            if not free.acquire(timeout=ACCEPT_SECONDS):
                continue
            try:
                connection, _ = listener.accept()
            except OSError as error:
                free.release()
                if error.errno in (errno.EBADF, errno.EINVAL):
                    break
                if not isinstance(error, TimeoutError):
                    log.error("a connection cannot be accepted: %s", error)
                    time.sleep(WAIT_SECONDS)
                continue
            threads.submit(serve, connection).add_done_callback(lambda _: free.release())
