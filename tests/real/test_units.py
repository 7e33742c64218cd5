"""The units as systemd runs them: a real one, with what it forbids, on the real cluster."""

import json
import pwd
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.sandbox.browser import Browser
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.installation import Installation
from tests.sandbox.living import WANTED, WEB_SOCKET, Living
from tests.sandbox.processes import wait_until
from tests.support.factories import application, word
from tests.support.real import started_core
from ucloud_slurm.system.limits import OPEN_FILES

pytestmark = pytest.mark.apart

PATIENCE = 60.0
PROGRAM = "/opt/ucloud-slurm/bin/ucloud-slurm"
PERSON = "Alice#1"
CALL = "/ucloud/example/jobs/retrieveProducts"
ONCE = pytest.mark.parametrize("mapping", ["table"], indirect=True, scope="module")
# It ends when it is told to, so that its log and a shell can be looked at while it runs.
APPLICATION = application(
    word("bash"), word("-c"), word("id -un; echo files=$(ulimit -Sn); until [ -e go ]; do sleep 0.2; done; echo bye")
)


@pytest.fixture(scope="module")
def core() -> Iterator[SimulatedCore]:
    with started_core(APPLICATION, PERSON, first_id=754_112) as core:
        yield core


@pytest.fixture(scope="module")
def mapping(request: pytest.FixtureRequest) -> str:
    """Whom jobs run as: the account of the service, or each its researcher."""
    return str(request.param)


@pytest.fixture(scope="module")
def living(cluster: Cluster, installation: Installation, core: SimulatedCore, mapping: str) -> Iterator[Living]:
    living = Living(cluster, installation, core)
    jobs = {"folder": str(living.jobs) if mapping == "service" else "{home}/ucloud-jobs"}
    # One submission in ten seconds: the second job is the worker's.
    pace = {"submit_per_second": 0.1}
    shutil.rmtree(Path(pwd.getpwnam("alice").pw_dir) / "ucloud-jobs", ignore_errors=True)
    try:
        living.start(users={"mapping": mapping}, jobs=jobs, slurm=pace)
        living.systemctl("start", "nginx.service", *WANTED)
        yield living
    finally:
        living.stop()
        for user in (cluster.service_user, *cluster.users):
            cluster.run("scancel", f"--user={user}")


@pytest.fixture(scope="module")
def account(living: Living, core: SimulatedCore, cluster: Cluster, mapping: str) -> str:
    """The account of the person; where each has their own it is connected as the guide says."""
    if mapping == "service":
        return cluster.service_user
    browser = Browser.sent_to(core.connect_user(PERSON), living.url)
    typed = f"echo {browser.code()} | {PROGRAM} link --yes"
    with browser.answering():
        assert f"{PERSON} is connected with alice." in living.run("sh", "-c", typed, user="alice")
    return "alice"


def start(core: SimulatedCore) -> str:
    metadata = APPLICATION["metadata"]
    return core.submit(
        application=(metadata["name"], metadata["version"]),
        product="example-compute-1",
        owner=PERSON,
        minutes=10,
        parameters={},
    )


def answers(living: Living, path: str) -> bool:
    try:
        return living.ask(path, timeout=5)[0] == 200
    except OSError:
        return False


def creates(living: Living) -> float:
    """How many creates one of the processes says that there were."""
    text = living.ask("/metrics")[1]
    (count,) = re.findall(r"^ucloud_slurm_create_duration_seconds_count (\S+)$", text, re.MULTILINE)
    return float(count)


def open_files(living: Living, unit: str, *, of_children: bool = False) -> tuple[int, int]:
    """The limits on open files, soft and hard, of the main process of a unit, or of one that it has started."""
    living.systemctl("start", unit)
    pid = living.systemctl("show", "--value", "--property=MainPID", unit)
    if of_children:
        pid = living.run("pgrep", "--parent", pid, "--oldest")
    (line,) = [line for line in living.read(f"/proc/{pid}/limits").splitlines() if line.startswith("Max open files")]
    soft, hard = line.split()[3:5]
    return int(soft), int(hard)


def folder(living: Living, account: str, mapping: str, job: str) -> Path:
    return (living.jobs if mapping == "service" else Path(pwd.getpwnam(account).pw_dir) / "ucloud-jobs") / job


@ONCE
def test_everything_is_up(living: Living) -> None:
    wait_until("it is ready", lambda: answers(living, "/readyz"), seconds=PATIENCE)
    assert living.systemctl("is-active", *WANTED).split() == ["active"] * len(WANTED)
    assert [line for unit in WANTED for line in living.journal(unit) if "Traceback" in line] == []


@pytest.mark.parametrize("mapping", ["table", "service"], indirect=True, scope="module")
def test_jobs_live_their_lives(living: Living, core: SimulatedCore, cluster: Cluster, account: str, mapping: str) -> None:
    # What sudo starts for a user raises its soft limit itself.
    own, most = open_files(living, "ucloud-slurm.service")
    files = own if mapping == "service" else open_files(living, "ucloud-slurm-runner.service")[1]
    jobs = [start(core), start(core)]  # one is submitted by the service, one by the worker
    for job in jobs:
        core.wait_until(lambda job=job: core.job(job).state != "IN_QUEUE", PATIENCE, "it to begin")  # type: ignore[misc]
        assert core.job(job).state == "RUNNING", core.job(job).updates
    listed = cluster.run("squeue", "--noheader", "--format=%j %u").splitlines()
    assert {f"ucloud-{job} {account}" for job in jobs} <= set(listed)
    journal = living.journal("ucloud-slurm.service"), living.journal("ucloud-slurm-worker.service")
    submitted = [[job for job in jobs if re.search(rf"job {job}: is Slurm job", "\n".join(lines))] for lines in journal]
    assert sorted(submitted) == [[job] for job in jobs], submitted  # on a busy host the first is left to the worker
    assert {creates(living) for _ in range(20)} == {len(jobs)}, "every process shows the sum"
    for job in jobs:
        with core.follow(job, PERSON) as followed:
            followed.wait_for(lambda followed=followed: account in followed.text(), PATIENCE)  # type: ignore[misc]
            with core.shell(core.open_session(job, user=PERSON) or {}, user=PERSON) as shell:
                shell.send("touch go; id -un | tr a-z A-Z\r")
                shell.wait_for(account.upper(), PATIENCE)
            followed.wait_for(lambda followed=followed: "bye" in followed.text(), PATIENCE)  # type: ignore[misc]
            assert f"files={files}\n" in followed.text()
    assert open_files(living, "ucloud-slurm.service", of_children=True)[0] == min(most, OPEN_FILES) > own
    for job in jobs:
        core.wait(job, "SUCCESS", PATIENCE)
        assert (folder(living, account, mapping, job) / "job.sh").exists()


@ONCE
def test_a_service_that_is_killed_comes_back(living: Living) -> None:
    living.systemctl("kill", "--signal=KILL", "ucloud-slurm.service")
    wait_until("it is gone", lambda: not answers(living, "/healthz"), seconds=PATIENCE)
    wait_until("it is back", lambda: answers(living, "/healthz"), seconds=PATIENCE)


@contextmanager
def load(living: Living) -> Iterator[Counter[int]]:
    """Calls through nginx, from several clients all the time; counts the statuses."""
    statuses, stop = Counter[int](), threading.Event()

    def work() -> None:
        with requests.Session() as session:
            while not stop.is_set():
                statuses[session.get(living.url + CALL, timeout=60).status_code] += 1

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(work) for _ in range(4)]
        try:
            yield statuses
        finally:
            stop.set()
        for future in futures:
            future.result()


@ONCE
def test_a_reload_and_a_restart_under_load_lose_no_answer(living: Living) -> None:
    with load(living) as statuses:
        for what in ("reload", "restart"):
            before = statuses.total()
            main = living.systemctl("show", "--property=MainPID", "ucloud-slurm.service")
            living.systemctl(what, "ucloud-slurm.service")
            wait_until("many calls were answered", lambda before=before: statuses.total() > before + 200, seconds=PATIENCE)  # type: ignore[misc]
            assert (living.systemctl("show", "--property=MainPID", "ucloud-slurm.service") == main) is (what == "reload")
    assert set(statuses) == {401}
    assert living.systemctl("is-active", "ucloud-slurm.service") == "active"


@ONCE
def test_a_call_while_the_service_is_stopped_starts_it_and_is_answered(living: Living) -> None:
    living.systemctl("stop", "ucloud-slurm.service")
    assert living.systemctl("is-active", *WANTED[:2], check=False).split() == ["active", "inactive"]
    assert requests.get(living.url + CALL, timeout=60).status_code == 401
    assert living.systemctl("is-active", "ucloud-slurm.service") == "active"


@ONCE
@pytest.mark.parametrize("state", ["start", "stop"])
def test_nobody_on_the_host_can_take_the_place_of_the_service_or_connect_to_it(living: Living, state: str) -> None:
    living.systemctl(state, "ucloud-slurm.service")
    for doing in ("connect(P)", "bind(P)"):
        code = f"import socket; P = {WEB_SOCKET!r}; socket.socket(socket.AF_UNIX).{doing}"
        said = living.run("/usr/bin/python3", "-c", code, user="bob", check=False)
        assert re.search(r"Permission denied|Address already in use", said), said
    for command in (["rm", "-f", WEB_SOCKET], ["mv", WEB_SOCKET, "/tmp/x"], ["ln", "-sf", "/tmp/x", WEB_SOCKET]):
        assert "Permission denied" in living.run(*command, user="bob", check=False)
    ports = living.run("ss", "-Hltnp")
    assert [line for line in ports.splitlines() if "gunicorn" in line or "python" in line] == []
    assert requests.get(living.url + CALL, timeout=60).status_code == 401


@ONCE
def test_half_open_connections_do_not_stop_calls(living: Living) -> None:
    half = [living.connect() for _ in range(200)]
    for sock in half[::2]:
        sock.sendall(b"POST /ucloud/example/jobs HTTP/1.1\r\nContent-Length: 9\r\n")
    assert requests.get(living.url + CALL, timeout=5).status_code == 401
    for sock in half:
        sock.close()


@ONCE
def test_a_mistake_in_the_configuration_is_one_line_in_the_journal_and_is_mended_without_a_restart(
    living: Living, core: SimulatedCore
) -> None:
    right = living.read("/etc/ucloud-slurm/config.toml")
    living.write("/etc/ucloud-slurm/config.toml", right.replace("[slurm]\n", "[slurm]\nbackand = 1\n"))
    living.systemctl("restart", "ucloud-slurm-listener.service")

    def told() -> list[str]:
        return [line for line in living.journal("ucloud-slurm-listener.service") if "backand" in line]

    wait_until("it is told", lambda: told() != [], seconds=PATIENCE)
    assert told()[0].startswith("ucloud-slurm: ")
    assert [line for line in living.journal("ucloud-slurm-listener.service") if "Traceback" in line] == []
    wait_until("it hears nothing", lambda: core.notifications.connected == 0, seconds=PATIENCE)
    living.write("/etc/ucloud-slurm/config.toml", right)
    wait_until("it hears again", lambda: core.notifications.connected > 0, seconds=PATIENCE)


@ONCE
def test_the_command_line_of_the_guide_works(living: Living, cluster: Cluster, account: str) -> None:
    found = json.loads(living.run(PROGRAM, "check", "--json", user=cluster.service_user, check=False))
    assert [each for each in found if each["level"] == "failed"] == []
    web = [(each["level"], each["text"]) for each in found if each["what"] == "web"]
    assert web == [("ok", f"the web service answers on {WEB_SOCKET}")]
    assert account in living.run(PROGRAM, "jobs", "--all", user=cluster.service_user)


@ONCE
def test_nothing_is_left_of_it_when_it_is_stopped(living: Living) -> None:
    # A pass can be anywhere when it is stopped; here it is at its beginning.
    living.systemctl("restart", "--no-block", "ucloud-slurm-worker.service")
    wait_until(
        "a pass is under way",
        lambda: living.systemctl("is-active", "ucloud-slurm-worker.service", check=False) == "activating",
        seconds=PATIENCE,
    )
    living.systemctl("stop", *WANTED, "ucloud-slurm-worker.service", "ucloud-slurm-runner.service", "ucloud-slurm-link.service")
    left = living.commands()
    assert [line for line in left if "ucloud" in line or "gunicorn" in line] == []
    failed = living.systemctl("list-units", "--failed", "--plain", "--no-legend", "ucloud-slurm*")
    assert failed == ""
