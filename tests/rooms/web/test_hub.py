"""The event loop of a process."""

from queue import SimpleQueue

from tests.conftest import World
from ucloud_slurm.system import deadline
from ucloud_slurm.web.live.hub import Hub


def test_a_websocket_keeps_nothing_of_the_request_that_opened_it(world: World) -> None:
    hub, found = Hub(world.provider), SimpleQueue[float]()

    async def work() -> None:
        found.put(deadline.arrived())

    with deadline.arrived_at(1.0):
        hub.start(work)
    assert found.get(timeout=60) > 1.0
    hub.stop()
