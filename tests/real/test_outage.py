"""The rig that kills and spoils everything, in its short form: nothing is lost, doubled, invented or billed wrongly."""

import time

import pytest

from tests.sandbox.cluster import Cluster
from tests.sandbox.installation import Installation
from tests.sandbox.outage.run import SHORT, play

pytestmark = pytest.mark.beside


def test_nothing_is_lost_doubled_or_invented_while_everything_is_killed(cluster: Cluster, installation: Installation) -> None:
    report = play(cluster, installation, int(time.time()), SHORT, print)
    assert report.findings == [], "\n".join(report.lines())  # with its seed
