"""Notifications from a user's process: whatever it sends, the event loop waits for nothing."""

import asyncio
import socket
import time

from tests.support.lingering import CLOSE_SECONDS, send_lingering
from ucloud_slurm.web.live.inotify import RemoteWatch


def test_a_descriptor_whose_close_takes_long_ends_the_watch_and_keeps_no_loop_waiting() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    async def watched() -> bool:
        changed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        watch = RemoteWatch(ours, changed.set_result)
        watch.arm()
        assert await changed
        close = watch.stop()
        assert ours.fileno() >= 0, "the close may wait: it is for another thread"
        assert close == ours.close
        return watch.ended

    with ours, theirs, send_lingering(theirs):
        begun = time.monotonic()
        assert asyncio.run(watched())
        assert time.monotonic() - begun < CLOSE_SECONDS / 2
