"""What tests of WebSockets look at."""

import pytest
from pytest_mock import MockerFixture

from ucloud_slurm.web.live import entrance, hub
from ucloud_slurm.web.live.entrance import Entrance


@pytest.fixture
def entrances(mocker: MockerFixture) -> list[Entrance]:
    """The entrances that processes open from now on, at their first WebSocket."""
    opened: list[Entrance] = []
    make = entrance.Entrance

    def open_(*arguments: object) -> Entrance:
        opened.append(make(*arguments))  # type: ignore[arg-type]
        return opened[-1]

    mocker.patch.object(hub, "Entrance", open_)
    return opened
