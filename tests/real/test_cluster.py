"""The private cluster, tried on itself: real servers, real jobs. Most of it needs root."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import ucloud_slurm
from tests import sandbox
from tests.sandbox import processes
from tests.sandbox.accounts import GROUP
from tests.sandbox.cluster import Cluster, ClusterSettings, CommandFailed, SandboxError
from tests.sandbox.daemons import MARK
from tests.sandbox.processes import Process, wait_until
from tests.sandbox.relay import Relay

PORTS_OF_A_CLUSTER = 200
ROOM = Path("/var/tmp")  # tmp_path is closed to other accounts


def free_base_port() -> int:
    """Find two hundred ports in a row that nobody listens on."""
    for base in range(18000, 30000, PORTS_OF_A_CLUSTER):
        if all(processes.port_is_free("127.0.0.1", port) for port in range(base, base + PORTS_OF_A_CLUSTER)):
            return base
    pytest.fail("no free ports")


@pytest.fixture(scope="module")
def room() -> Iterator[Path]:
    """A folder that all accounts can reach."""
    folder = Path(tempfile.mkdtemp(prefix="sandbox-test-", dir=ROOM))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cluster(room: Path) -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    cluster = Cluster(ClusterSettings(folder=room / "full", base_port=free_base_port(), min_job_age=2))
    cluster.start()
    yield cluster
    cluster.remove()


@pytest.fixture
def light(room: Path, cluster: Cluster) -> Iterator[Cluster]:
    """A cluster without a database, not started yet; the other one goes first and owns the accounts."""
    settings = ClusterSettings(folder=room / "light", base_port=free_base_port(), nodes=1, accounting=False)
    light = Cluster(settings)
    yield light
    light.remove()
    assert not light.folder.exists()
    light.remove()


def submit(cluster: Cluster, script: str, *options: str, user: str | None = None) -> int:
    return int(cluster.run("sbatch", "--parsable", *options, user=user, stdin=f"#!/bin/sh\n{script}\n"))


def state_of(cluster: Cluster, job: int) -> str:
    return cluster.run("squeue", "-h", "-t", "all", "-j", f"{job},{job}", "-o", "%T").strip()


def wait_for(cluster: Cluster, job: int, state: str, seconds: float = 20) -> None:
    wait_until(f"job {job} is not {state}", lambda: state_of(cluster, job) == state, seconds=seconds)


def sacct(cluster: Cluster, job: int, fields: str) -> list[str]:
    return cluster.run("sacct", "-n", "-P", "-X", "-D", "-j", str(job), "-o", fields).splitlines()


def processes_of(cluster: Cluster) -> dict[str, Process | None]:
    return {name: cluster._daemons.process(name) for name in cluster.status()}


def elsewhere(code: str, settings: ClusterSettings) -> subprocess.Popen[str]:
    """Run code about the same cluster in a process of its own; it finds ``cluster`` there."""
    return subprocess.Popen(
        [sys.executable, "-c", ABOUT_CLUSTER.format(settings) + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


# ---- life


def test_all_servers_and_nodes_answer_after_start(cluster: Cluster) -> None:
    assert cluster.running()
    nodes = cluster.run("sinfo", "-h", "-N", "-o", "%N %P %t").splitlines()
    assert "n1 debug idle" in nodes
    assert "g1 gpu idle" in nodes
    assert len([line for line in nodes if line.endswith("cpu* idle")]) == 4


def test_a_second_start_finds_the_cluster_running(cluster: Cluster) -> None:
    before = processes_of(cluster)
    with elsewhere("cluster.start()\nprint(cluster.running())", cluster.settings) as other:
        assert other.communicate(timeout=30)[0] == "True\n"
    assert processes_of(cluster) == before


def test_two_starts_at_once_make_one_cluster(light: Cluster) -> None:
    code = "cluster.start()\nprint(cluster.running())"
    with elsewhere(code, light.settings) as first, elsewhere(code, light.settings) as second:
        assert [first.communicate(timeout=30)[0], second.communicate(timeout=30)[0]] == ["True\n", "True\n"]
    controllers = [
        process
        for process in processes.everyone()
        if process.alive()
        and process.environment().get(MARK) == str(light.folder)
        and Path(f"/proc/{process.pid}/comm").read_text() == "slurmctld\n"
    ]
    assert len(controllers) == 1


def test_all_listen_at_loopback_only(cluster: Cluster) -> None:
    if not cluster._layout.facts().bind_address:
        pytest.skip("this machine's name does not lead to a loopback address")
    base = cluster.settings.base_port
    seen = {}
    for line in (Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()).splitlines():
        fields = line.split()
        if fields[3] == "0A":
            address, _, port = fields[1].partition(":")
            seen[int(port, 16)] = address
    ours = {port: address for port, address in seen.items() if base <= port < base + PORTS_OF_A_CLUSTER}
    assert set(ours.values()) == {"0100007F"}
    assert len(ours) == 8


def test_a_taken_port_is_named_and_nothing_is_started(light: Cluster) -> None:
    port = light.controller_port
    with Relay(light) as squatter:
        wanted = ClusterSettings(folder=light.folder, base_port=squatter.port - 17, nodes=1, accounting=False)
        refused = Cluster(wanted)
        with pytest.raises(SandboxError, match=f"Port {squatter.port}, wanted for slurmctld, is taken"):
            refused.start()
        assert list((light.folder / "out").iterdir()) == []
    assert processes.port_is_free("127.0.0.1", port)


def test_a_port_taken_while_its_server_was_down_is_named(light: Cluster) -> None:
    light.start()
    light.stop_daemon("slurmctld")
    with (
        socket.create_server((light.address, light.controller_port)),
        pytest.raises(SandboxError, match=f"Port {light.controller_port}, wanted for slurmctld, is taken"),
    ):
        light.start_daemon("slurmctld")


def test_a_living_cluster_is_not_started_with_other_settings(cluster: Cluster) -> None:
    other = ClusterSettings(folder=cluster.folder, base_port=cluster.settings.base_port, min_job_age=77)
    with pytest.raises(SandboxError, match="other settings"):
        Cluster(other).start()
    assert cluster.running()


def test_stop_leaves_no_process_behind(light: Cluster) -> None:
    light.start()
    # one that ran away from its job, one in the background, the job itself
    script = "(setsid sleep 3001 &) >/dev/null\nsleep 3002 &\nsleep 3003"
    job = submit(light, script, user="alice")
    wait_for(light, job, "RUNNING")
    wait_until("the job's processes", lambda: len(sleepers(light)) == 3, seconds=10)
    light.freeze("slurmctld")
    light.stop()
    assert sleepers(light) == []
    assert not any(light.status().values())
    assert [process for process in marked(light) if process.alive()] == []
    assert "Terminate signal" in (light.folder / "log" / "slurmctld.log").read_text()
    light.stop()


def sleepers(cluster: Cluster) -> list[Process]:
    return [
        process
        for process in processes.everyone()
        if process.environment().get("SLURM_CONF") == str(cluster.conf)
        and Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"sleep\x00300")
    ]


def marked(cluster: Cluster) -> list[Process]:
    return [process for process in processes.everyone() if process.environment().get(MARK) == str(cluster.folder)]


def test_stop_ends_servers_that_nobody_noted(light: Cluster) -> None:
    light.start()
    noted = processes_of(light)["slurmctld"]
    assert noted is not None
    (light.folder / "run" / "slurmctld").unlink()
    assert not light.running()
    light.stop()
    assert not noted.alive()


def test_light_cluster_runs_jobs_without_a_database(light: Cluster) -> None:
    light.start()
    assert set(light.status()) == {"munged", "slurmctld", "slurmd-n1", "slurmd-g1"}
    job = submit(light, "exit 3", user="alice")
    wait_for(light, job, "FAILED")
    with pytest.raises(CommandFailed, match="accounting storage is disabled"):
        light.run("sacct")


def test_a_strict_umask_locks_nobody_out(light: Cluster) -> None:
    strict = os.umask(0o077)
    try:
        light.start()
    finally:
        os.umask(strict)
    job = submit(light, "true", user="bob")
    wait_for(light, job, "COMPLETED")


def test_a_start_that_fails_leaves_nothing_running(light: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.sandbox.servers.controller_answers", lambda _conf: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        light.start()
    assert not any(light.status().values())
    assert not any(process.alive() for process in marked(light))


def test_nothing_is_asked_of_a_cluster_that_is_not_there(light: Cluster) -> None:
    for ask in (lambda: light.run("squeue"), light.forget_all, lambda: light.freeze("slurmctld")):
        with pytest.raises(SandboxError, match="start it first"):
            ask()


def test_a_server_that_ends_says_why(light: Cluster) -> None:
    light.start()
    light.stop_daemon("slurmctld")
    light.conf.write_text(light.conf.read_text() + "NoSuchOption=1\n")
    with pytest.raises(SandboxError, match=r"slurmctld ended by itself.*NoSuchOption"):
        light.start_daemon("slurmctld")


def test_one_user_cluster_without_root(room: Path) -> None:
    """Runs as an account without any privilege, in a Python of its own."""
    home = room / "one"
    home.mkdir()
    # that account may be unable to read this repository and this Python
    shutil.copytree(Path(sandbox.__file__).parent, home / "tests" / "sandbox")
    shutil.copytree(Path(ucloud_slurm.__file__).parent, home / "ucloud_slurm")
    settings = ClusterSettings(folder=home / "cluster", base_port=free_base_port(), nodes=1, min_job_age=2)
    become = []
    if os.geteuid() == 0:
        shutil.chown(home, "daemon")  # Slurm 26.05 does not run as nobody
        become = ["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups", "--inh-caps=-all"]
    done = subprocess.run(
        [*become, "/usr/bin/python3", "-B", "-c", ABOUT_CLUSTER.format(settings) + AS_ONE_USER],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "COMPLETED proj-a\n"
    assert not (home / "cluster").exists()


ABOUT_CLUSTER = """
from pathlib import PosixPath
from tests.sandbox.cluster import Cluster, ClusterSettings
cluster = Cluster({!r})
"""

AS_ONE_USER = r"""
import pwd, os
from tests.sandbox.processes import wait_until
me = pwd.getpwuid(os.geteuid()).pw_name
assert cluster.service_user == me and cluster.users == ()
try:
    cluster.start()
    assert cluster.running() and "slurmd-g1" not in cluster.status()
    job = cluster.run("sbatch", "--parsable", stdin="#!/bin/sh\nid -un > who\n").strip()
    look = ("sacct", "-nPX", "-j", job, "-o", "state,account", "--delimiter= ")
    wait_until("the job is not in accounting", lambda: "COMPLETED" in cluster.run(*look), seconds=20)
    assert cluster.run("cat", "who") == me + "\n"
    assert cluster.sql("SELECT 1") == "1\n"
    print(cluster.run(*look), end="")
finally:
    cluster.remove()
"""


# ---- use


def test_a_job_runs_as_its_user_and_reaches_accounting(cluster: Cluster) -> None:
    job = submit(cluster, "id -un; id -Gn; pwd", "--comment=why, not", user="alice")
    wait_for(cluster, job, "COMPLETED")
    user, groups, folder = cluster.run("cat", f"slurm-{job}.out", user="alice").splitlines()
    assert user == "alice"
    assert "science" in groups.split()
    assert "root" not in groups.split()
    assert folder == str(Path("~alice").expanduser())
    wait_until(
        "the job is not in accounting",
        lambda: sacct(cluster, job, "user,account,state,comment") == ["alice|proj-a|COMPLETED|why, not"],
        seconds=20,
    )


def test_a_command_runs_as_its_user_with_that_users_groups_and_home(cluster: Cluster) -> None:
    user, groups, folder = cluster.run("sh", "-c", "id -un; id -Gn; cd; pwd", user="alice").splitlines()
    assert user == "alice"
    assert {"science", GROUP} <= set(groups.split()) <= {"alice", "science", GROUP}
    assert folder == str(Path("~alice").expanduser())
    with pytest.raises(SandboxError, match="no account nobody-of-that-name"):
        cluster.run("id", user="nobody-of-that-name")


def test_a_command_that_fails_shows_what_it_said(cluster: Cluster) -> None:
    with pytest.raises(subprocess.CalledProcessError, match="Invalid account or account/partition") as failed:
        submit(cluster, "true", "--account=nope", user="alice")
    assert "sbatch: error" in failed.value.stderr


def test_a_job_gets_the_gpus_it_asks_for(cluster: Cluster) -> None:
    job = submit(cluster, "echo $CUDA_VISIBLE_DEVICES", "-pgpu", "--gres=gpu:a100:2", user="alice")
    wait_for(cluster, job, "COMPLETED")
    assert cluster.run("cat", f"slurm-{job}.out", user="alice") == "0,1\n"


def test_limits_are_enforced(cluster: Cluster) -> None:
    jobs = [submit(cluster, "true", "--hold", "-Aproj-c", user="alice") for _ in range(3)]
    with pytest.raises(CommandFailed, match="AssocMaxSubmitJobLimit"):
        submit(cluster, "true", "--hold", "-Aproj-c", user="alice")
    jobs += [submit(cluster, "true", "--hold", "--qos=limited", "--time=1", user="alice") for _ in range(2)]
    with pytest.raises(CommandFailed, match="QOSMaxSubmitJobPerUserLimit"):
        submit(cluster, "true", "--hold", "--qos=limited", "--time=1", user="alice")
    with pytest.raises(CommandFailed, match="Invalid account"):
        submit(cluster, "true", "--hold", "-Aproj-a", user="bob")
    cluster.run("scancel", *map(str, jobs))


def test_a_job_of_high_quality_of_service_sends_others_back_to_the_queue(cluster: Cluster) -> None:
    weak = submit(cluster, "sleep 1000", "-pgpu", "--exclusive", user="bob")
    wait_for(cluster, weak, "RUNNING")
    strong = submit(cluster, "true", "-pgpu", "--qos=high", user="alice")
    wait_for(cluster, strong, "COMPLETED")
    assert state_of(cluster, weak) == "PENDING"
    cluster.run("scancel", str(weak))


def test_the_service_account_may_submit_and_cancel_for_others(cluster: Cluster) -> None:
    own = submit(cluster, "sleep 1000", "--qos=high", user=cluster.service_user)
    others = submit(cluster, "sleep 1000", user="bob")
    cluster.run("scancel", str(own), str(others), user=cluster.service_user)
    wait_for(cluster, own, "CANCELLED")
    wait_for(cluster, others, "CANCELLED")
    held = submit(cluster, "true", "--hold", user="alice")
    with pytest.raises(CommandFailed, match="denied"):
        cluster.run("scancel", str(held), user="bob")
    cluster.run("scancel", str(held))


def test_the_service_account_lives_in_the_folder_of_its_sandbox(cluster: Cluster) -> None:
    assert "/home/" in cluster.run("sh", "-c", "pwd && touch here && id -un", user=cluster.service_user)


# ---- trouble


def test_a_frozen_controller_is_silent_until_it_thaws(cluster: Cluster) -> None:
    cluster.freeze("slurmctld")
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            cluster.run("squeue", timeout=1)
        assert cluster.running()
    finally:
        cluster.thaw("slurmctld")
    cluster.run("squeue", timeout=20)


def test_every_server_can_be_killed_and_started_again(cluster: Cluster) -> None:
    for name in cluster.status():
        cluster.kill_daemon(name)
        assert not cluster.status()[name]
        cluster.start_daemon(name)
        assert cluster.status()[name]
    cluster.forget_all()  # a killed slurmctld forgets the ids it gave last and gives them again
    job = submit(cluster, "true", user="alice")
    wait_until("no end in accounting", lambda: sacct(cluster, job, "state") == ["COMPLETED"], seconds=30)


def test_an_unknown_server_is_refused_by_name(cluster: Cluster) -> None:
    with pytest.raises(SandboxError, match=r"no server slurmd-n9; it has munged, .*slurmd-g1"):
        cluster.freeze("slurmd-n9")


def test_a_forgotten_job_is_unknown_to_squeue_and_sacct(cluster: Cluster) -> None:
    lost = submit(cluster, "sleep 1000", user="alice")
    kept = submit(cluster, "sleep 1000", user="alice")
    wait_for(cluster, lost, "RUNNING")
    cluster.forget_job(lost)
    assert state_of(cluster, lost) == ""
    assert sacct(cluster, lost, "state") == []
    assert cluster.sql(f"SELECT id_job FROM {cluster.name}_job_table WHERE id_job = {lost}") == ""
    assert state_of(cluster, kept) == "RUNNING"
    wait_until("the other is not in accounting", lambda: sacct(cluster, kept, "state") == ["RUNNING"], seconds=10)
    cluster.run("scancel", str(kept))


def test_forgetting_everything_keeps_the_accounts(cluster: Cluster) -> None:
    job = submit(cluster, "sleep 1000", user="alice")
    wait_for(cluster, job, "RUNNING")
    wait_until("the job is not in accounting", lambda: sacct(cluster, job, "state") != [], seconds=20)
    cluster.forget_all()
    assert cluster.running()
    assert cluster.run("squeue", "-h", "-t", "all") == ""
    assert sacct(cluster, job, "state") == []
    assert cluster.sql(f"SELECT COUNT(*) FROM {cluster.name}_job_table") == "0\n"
    assert submit(cluster, "true", "--qos=high", "-Aproj-c", user="alice") == 1


def test_a_cut_relay_refuses_and_a_restored_one_serves(cluster: Cluster) -> None:
    with Relay(cluster) as relay:
        conf = f"SLURM_CONF={relay.conf_for(cluster, cluster.folder / 'relayed')}"
        through_it = ("env", conf, "scontrol", "ping")
        assert "is UP" in cluster.run(*through_it, user="alice")
        relay.cut()
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((cluster.address, relay.port), timeout=1)
        with pytest.raises(CommandFailed):
            cluster.run(*through_it, timeout=5, user="alice")
        assert cluster.run("scontrol", "ping")
        assert cluster.run("env", conf, "sacct", "-n", "-j", "999999", user="alice") == ""
        relay.restore()
        assert "is UP" in cluster.run(*through_it, user="alice")


def test_a_cut_ends_connections_that_hang(cluster: Cluster) -> None:
    with Relay(cluster) as relay:
        conf = relay.conf_for(cluster, cluster.folder / "relayed")
        cluster.freeze("slurmctld")
        try:
            hanging = subprocess.Popen(
                ["squeue"],
                env=cluster.environment() | {"SLURM_CONF": str(conf)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            with hanging:
                wait_until("squeue does not connect", lambda: bool(relay._connections), seconds=5)
                wait_until("squeue does not connect", lambda: len(relay._connections) > 1, seconds=5)
                relay.cut()
                assert hanging.wait(timeout=15) != 0
        finally:
            cluster.thaw("slurmctld")
