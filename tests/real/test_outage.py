"""The rig that kills and spoils everything, in a form shorter still: nothing is lost, doubled, invented or billed wrongly."""

from dataclasses import replace

import pytest

from tests.sandbox.cluster import Cluster
from tests.sandbox.installation import Installation
from tests.sandbox.outage.run import SHORT, play

pytestmark = pytest.mark.beside
SEED = 24  # `make outage` has others
SIZE = replace(SHORT, stories=40, at_once=40, kills=12)


def test_nothing_is_lost_doubled_or_invented_while_everything_is_killed(cluster: Cluster, installation: Installation) -> None:
    report = play(cluster, installation, SEED, SIZE, print)
    assert report.findings == [], "\n".join(report.lines())
