"""The event loop of a process."""

from queue import SimpleQueue

from tests.conftest import World
from ucloud_slurm.system import deadline
from ucloud_slurm.system.request_id import Served, served, serving
from ucloud_slurm.web.live.hub import Hub


def test_a_websocket_keeps_the_id_of_the_request_that_opened_it_and_no_deadline(world: World) -> None:
    hub, found = Hub(world.provider), SimpleQueue[tuple[float, Served | None]]()

    async def work() -> None:
        found.put((deadline.arrived(), served()))

    request = Served("abcdefgh", "Ada#1")
    with deadline.arrived_at(1.0), serving(request):
        hub.start(work)
    hub.start(work)
    (first, its), (second, other) = found.get(timeout=60), found.get(timeout=60)
    assert min(first, second) > 1.0
    assert (its, other) == (request, None)
    hub.stop()
