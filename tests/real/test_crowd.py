"""A hundred researchers press Start in the same second, on the real cluster: UCloud, which waits for 3 s, loses no job."""

import json
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import site_opener
from tests.sandbox.bench.stage import APPLICATION, NODE, PRODUCT
from tests.sandbox.cluster import Cluster
from tests.sandbox.core.applications import application, word
from tests.sandbox.core.user_requests import UserRequest
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.support import crowd_client
from tests.support.people import LINKS

pytestmark = [pytest.mark.beside, pytest.mark.timed]
CROWD = 100
PATIENCE_SECONDS = 3.0
PLENTY = 10**12


@pytest.mark.parametrize("links", [{}, LINKS], ids=["service account", "alice and bob, whose programs are cold"])
def test_a_hundred_creates_at_once_are_all_accepted_and_make_a_hundred_jobs(
    cluster: Cluster, installation: Installation, links: dict[str, str]
) -> None:
    owners = list(links) or ["user"]
    for user in cluster.users:
        shutil.rmtree(Path(pwd.getpwnam(user).pw_dir) / "ucloud-jobs", ignore_errors=True)
    with site_opener(cluster, installation) as open_site:
        site, core = open_site(loop=0.5, workers=2, threads=32, era="2022", links=links, products=(PRODUCT,))
        core.catalogue.add_application(application(*APPLICATION, [word("sleep"), word("3000")]))
        for owner in owners:
            core.accounts.set_quota(PLENTY, owner)
        product = str(PRODUCT["id"])
        jobs = core.have([UserRequest(APPLICATION, product, owner=owners[each % len(owners)]) for each in range(CROWD)])
        address = urlsplit(site.url)
        question = {
            "host": address.hostname,
            "port": address.port,
            "path": f"/ucloud/{core.provider}/jobs",
            "headers": {"Authorization": f"Bearer {core.tokens.core_token()}"},
            "bodies": [json.dumps({"items": [job]}) for job in jobs],
            "patience": PATIENCE_SECONDS,
        }
        cluster.run("scontrol", "update", f"NodeName={NODE}", "State=DRAIN", "Reason=crowd")  # they wait, and cost nothing
        try:
            client = [sys.executable, "-I", "-S", crowd_client.__file__]
            done = subprocess.run(client, input=json.dumps(question), capture_output=True, text=True, check=True)
            answers = json.loads(done.stdout)
            assert [answer for answer in answers if answer["status"] != 200] == [], "UCloud withdraws these jobs"
            live = "select 1 from jobs where phase = 'live'"
            wait_until("Slurm has all of them", lambda: len(site.rows(live)) == CROWD, seconds=90)
            names = cluster.run("squeue", "--noheader", "--format=%j").split()
            assert sorted(name for name in names if name in {f"ucloud-{job['id']}" for job in jobs}) == sorted(
                f"ucloud-{job['id']}" for job in jobs
            )
        finally:
            for user in {cluster.service_user, *cluster.users}:
                cluster.run("scancel", f"--user={user}")
            cluster.run("scontrol", "update", f"NodeName={NODE}", "State=RESUME")
