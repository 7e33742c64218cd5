"""The attack kit: what is quick of it, against the installed service; ``make attack`` has the rest, and all of it at once."""

from collections.abc import Iterator

import pytest

from tests.sandbox.attack.model import Attack
from tests.sandbox.attack.run import ATTACKS, play
from tests.sandbox.attack.stage import Stage
from tests.sandbox.cluster import Cluster
from tests.sandbox.installation import Installation

pytestmark = pytest.mark.apart

QUICK = [attack for attack in ATTACKS if attack.quick]
# Other tests run beside it on the same processors: what is measured is whether anything stops, not how fast it is.
CALL_SECONDS, ECHO_SECONDS = 4.5, 3.0
SCALE = 0.1


@pytest.fixture(scope="module")
def stage(cluster: Cluster, installation: Installation) -> Iterator[Stage]:
    with Stage(cluster, installation, seconds=CALL_SECONDS, echo=ECHO_SECONDS, scale=SCALE) as stage:
        yield stage
    assert stage.core.protocol_errors == []


@pytest.mark.parametrize("attack", QUICK, ids=lambda attack: attack.name)
def test_the_service_holds(stage: Stage, attack: Attack) -> None:
    row = play(stage, attack)
    assert row.outcome.held, row.outcome.got
