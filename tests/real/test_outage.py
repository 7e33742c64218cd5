"""The short form of ``make outage``: the truth is compared after everything was disturbed, and a broken build is found out."""

import pytest

from tests.sandbox.cluster import Cluster
from tests.sandbox.installation import Installation
from tests.sandbox.outage.broken import BUILDS, spoilt
from tests.sandbox.outage.run import SHORT, of_broken, play

pytestmark = pytest.mark.beside

SEED = 306


def test_nothing_is_lost_doubled_or_invented_while_everything_is_disturbed(
    cluster: Cluster, installation: Installation
) -> None:
    report = play(cluster, installation, SEED, SHORT, print)
    assert report.findings == [], "\n".join(report.lines())
    assert report.kills.total() >= SHORT.kills
    assert report.others["away munged"] == 1
    assert report.jobs + report.failed_creates >= SHORT.stories


@pytest.mark.parametrize("build", BUILDS)
def test_a_broken_build_is_found_out(cluster: Cluster, installation: Installation, build: str) -> None:
    broken = BUILDS[build]
    with spoilt(installation, broken):
        report = play(cluster, installation, SEED, of_broken(broken), print)
    assert report.catches(broken), "\n".join(report.lines())
