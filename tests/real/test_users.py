"""Jobs as the people who started them, on the real cluster, by the real sudo: alice and bob, and nobody else."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.accounts import GROUP
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import CoreError
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.support.factories import application, job_data, text, word
from tests.support.people import ALICE, BOB, EVE, PATIENCE, People, people_site
from ucloud_slurm.system.slurm_options import OWNED, SITE

pytestmark = pytest.mark.beside


@pytest.fixture(scope="module")
def people(cluster: Cluster, installation: Installation) -> Iterator[People]:
    with people_site(cluster, installation) as people:
        yield people


@pytest.fixture(scope="module")
def theirs(people: People) -> dict[str, str]:
    """A job of each that runs."""
    jobs = {owner: people.submit(owner) for owner in (ALICE, BOB)}
    for job_id in jobs.values():
        people.wait_for(job_id, "RUNNING")
    return jobs


def test_everybody_s_jobs_run_as_themselves_under_their_own_account(people: People, theirs: dict[str, str]) -> None:
    rows = people.squeue("--format=%j %u %a")
    assert f"ucloud-{theirs[ALICE]} alice proj-a" in rows
    assert f"ucloud-{theirs[BOB]} bob proj-b" in rows
    assert people.squeue(f"--user={people.cluster.service_user}") == []


def test_a_job_has_its_users_groups_and_environment_and_nothing_of_ours(people: People) -> None:
    code = "id -u; id -Gn; echo $HOME $USER; umask; pwd; env | grep -c -i -e SUDO -e UCLOUD_SLURM"
    folder = people.folder("alice", "7001")
    assert people.run(ALICE, "7001", word("bash"), word("-c"), word(code))[0] == 200
    people.wait_for_ends(["7001"])
    entry = pwd.getpwnam("alice")
    uid, groups, home, _, place, ours = (folder / "stdout-0.log").read_text().splitlines()
    assert uid == str(entry.pw_uid)
    assert {"science", GROUP} <= set(groups.split())
    assert "root" not in groups.split()
    assert people.cluster.service_user not in groups.split()
    assert (home, place, ours) == (f"{entry.pw_dir} alice", str(folder), "0")


def test_the_folder_of_a_job_is_its_users_alone(people: People, theirs: dict[str, str]) -> None:
    folder = people.folder("alice", theirs[ALICE])
    uid = pwd.getpwnam("alice").pw_uid
    for path in (folder, folder / "job.sh", folder / "stdout-0.log"):
        assert path.stat().st_uid == uid
        assert not path.stat().st_mode & 0o077
    assert people.as_service("/bin/cat", str(folder / "job.sh")).returncode != 0


@pytest.mark.parametrize(
    "attempt",
    [
        lambda people, job: people.core.terminate(job, user=BOB),
        lambda people, job: people.core.extend(job, 10, user=BOB),
        lambda people, job: people.core.suspend(job, user=BOB),
        lambda people, job: people.core.open_session(job, 0, "SHELL", BOB),
    ],
    ids=["terminate", "extend", "suspend", "shell"],
)
def test_nobody_else_acts_on_a_job(people: People, theirs: dict[str, str], attempt: Callable[[People, str], object]) -> None:
    with pytest.raises(CoreError, match="somebody else's") as refusal:
        attempt(people, theirs[ALICE])
    assert refusal.value.status == 403
    assert people.squeue(f"--name=ucloud-{theirs[ALICE]}", "--format=%T") == ["RUNNING"]


def test_nobody_else_follows_a_log(people: People, theirs: dict[str, str]) -> None:
    with people.core.follow(theirs[ALICE], BOB, while_running=False) as followed:
        response = followed.wait_end(10)
        assert response is not None
        assert response.status == 403
        assert followed.text() == ""


def test_a_log_is_followed_as_it_grows_though_only_its_user_may_read_it(people: People) -> None:
    late: list[float] = []

    def heard(_at: float, payload: dict[str, Any]) -> None:
        now = time.time()
        late.extend(now - float(line) for line in (payload["stdout"] or "").split())

    # After the silence nobody would look often any more who is not told.
    talk = "for i in 1 2 3; do sleep 3; date +%s.%N; done; exec sleep 600"
    app = application(word("bash"), word("-c"), word(talk))
    people.core.catalogue.add_application(app)
    job_id = people.submit(ALICE, application=(app["metadata"]["name"], "1.0"), parameters={})
    with people.core.follow(job_id, on_message=heard):
        wait_until("all of it is there", lambda: len(late) == 3, seconds=PATIENCE)
    assert sorted(late)[1] < 0.3


def test_a_shell_is_the_users_own_inside_the_allocation(people: People, theirs: dict[str, str]) -> None:
    session = people.core.open_session(theirs[ALICE], 0, "SHELL", ALICE)
    assert session is not None
    with people.core.shell(session) as shell:
        shell.send("echo I-am-$(id -un)-$UID-$PWD\r")
        shell.wait_for(f"I-am-alice-{pwd.getpwnam('alice').pw_uid}-{people.folder('alice', theirs[ALICE])}")
        assert shell.resize(132, 43).payload == {"type": "ack"}
        # srun passes the size on beside what is typed.
        shell.send("until [ \"$(stty size)\" = '43 132' ]; do :; done; echo resi''zed\r")
        shell.wait_for("resized")
        shell.send("exit\r")
        assert shell.wait_closed().status == 200


def test_who_has_several_slurm_accounts_chooses_one_in_the_form(people: People) -> None:
    def offered(owner: str) -> list[str]:
        form = {"owner": {"createdBy": owner, "project": None}, "application": application(word("true"))}
        status, body = people.core.call("POST", "/ucloud/example/jobs/requestDynamicParameters", form)
        assert status == 200
        return [option["value"] for choice in body["parameters"] for option in choice["options"]]

    assert offered(ALICE) == ["proj-a", "proj-c"]
    assert offered(BOB) == offered(EVE) == []
    for number, (account, status) in enumerate((("proj-c", 200), ("proj-b", 400))):
        data = job_data(
            f"99{number}", app=application(word("sleep"), word("600")), parameters={"_injected_slurmAccount": text(account)}
        )
        data["owner"] = {"createdBy": ALICE, "project": None}
        assert people.create(data)[0] == status
    assert people.squeue("--name=ucloud-990", "--format=%u %a") == ["alice proj-c"]
    people.cluster.run("scancel", "--name=ucloud-990", "--user=alice")


def test_whoever_is_not_connected_is_refused_and_told_how_to_connect(people: People) -> None:
    with pytest.raises(CoreError, match="not connected") as refusal:
        people.submit(EVE)
    assert refusal.value.status == 403


def test_a_pass_of_the_worker_needs_no_sudo(people: People, theirs: dict[str, str]) -> None:
    before = _sudos(people)
    people.site.cli("worker")
    people.site.cli("worker")
    assert _sudos(people) - before == set()
    assert people.core.job(theirs[ALICE]).state == "RUNNING"


# -- the rule of sudo -----------------------------------------------------------------------------------------


def test_the_service_may_run_one_command_with_sudo(people: People) -> None:
    listing = subprocess.run(
        ["sudo", "-l", "-U", people.cluster.service_user], capture_output=True, text=True, check=True
    ).stdout
    allowed = listing.partition("may run the following commands")[2].splitlines()[1:]
    assert [line.strip() for line in allowed if line.strip()] == [f'(%{GROUP}) NOPASSWD: {people.program} ""']


@pytest.mark.parametrize(
    "words",
    [
        ["-u", "alice", "{program}", "--help"],
        ["-u", "alice", "{program}", ""],
        ["-u", "root", "{program}"],
        ["{program}"],
        ["-u", "alice", "-g", "root", "{program}"],
        ["-u", "#0", "{program}"],
        ["-u", "#-1", "{program}"],
        ["-u", "nobody", "{program}"],
        ["-u", "slurm", "{program}"],
        ["-u", "alice", "/bin/sh"],
        ["-u", "alice", "-s"],
        ["-u", "alice", "-i"],
        ["-u", "alice", "{program}/../sh"],
        ["-u", "alice", "LD_PRELOAD=/tmp/x", "{program}"],
        ["-E", "-u", "alice", "{program}"],
        ["-u", "alice", "-C", "9", "{program}"],
        ["-e", "/etc/passwd"],
        ["-u", "alice", "-D", "/tmp", "{program}"],
        ["-u", "alice", "-R", "/tmp", "{program}"],
        ["-u", "ucloud-slurm", "{program}"],
    ],
    ids=lambda words: " ".join(words).replace("{program}", "PROGRAM"),
)
def test_sudo_refuses_everything_else(people: People, words: list[str]) -> None:
    argv = [one.replace("{program}", str(people.program)) for one in words]
    done = people.as_service("/usr/bin/sudo", "-n", *argv)
    assert done.returncode != 0
    assert done.stdout == ""


@pytest.mark.parametrize("stdin", ["nothing", "a file", "a pipe", "a socket of the network"])
def test_the_program_called_by_hand_does_nothing(people: People, stdin: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text('{"verb": "start"}')
    read, write = os.pipe()
    with (tmp_path / "file").open() as file, socket.socket() as network:
        given = {"nothing": subprocess.DEVNULL, "a file": file, "a pipe": read, "a socket of the network": network}
        done = people.as_service("/usr/bin/sudo", "-n", "-u", "alice", str(people.program), stdin=given[stdin])
    os.close(read)
    os.close(write)
    assert done.returncode == 1
    assert re.fullmatch(r"ucloud-slurm-as-user: its standard input is not a (local )?socket.*\n", done.stderr)


def test_the_program_without_sudo_does_nothing(people: People) -> None:
    done = people.as_service(str(people.program))
    assert done.returncode == 1
    assert "was not started by sudo" in done.stderr


# Asks the runner whether there is a file of alice's.
ASKING = """
import json, socket, struct, sys, time
channel = socket.socket(socket.AF_UNIX); channel.connect(sys.argv[1])
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
deadline = time.clock_gettime(time.CLOCK_BOOTTIME) + 5
message = json.dumps({"user": "alice", "verb": "open", "path": "/x/stdout-0.log", "deadline": deadline}).encode()
try:
    socket.send_fds(channel, [struct.pack("!I", len(message)) + message], [theirs.fileno()])
    print(channel.recv(100)[4:].decode() or "nothing")
except (BrokenPipeError, ConnectionResetError):
    print("nothing")
"""


def test_a_site_that_has_sudo_record_what_is_typed_does_not_come_between_the_runner_and_the_program(
    people: People, tmp_path: Path
) -> None:
    rule = Path("/etc/sudoers.d/ucloud-slurm-recording")
    service = people.cluster.service_user
    rule.touch(mode=0o440)
    rule.write_text(
        "".join(f"Defaults:{service} {each}\n" for each in ("log_input, log_output, use_pty", f"iolog_dir={tmp_path}"))
    )
    ours, theirs = socket.socketpair()
    try:
        with ours, theirs:
            argv = ["runuser", "-u", service, "--", "sudo", "-n", "-u", "alice", "--", str(people.program)]
            done = subprocess.run(argv, stdin=theirs.fileno(), capture_output=True, text=True, check=False, timeout=60)
    finally:
        rule.unlink()
    assert "a socket of another account" in done.stderr, "it is root's, and it is the socket"


def test_the_runner_serves_the_service_only(people: People) -> None:
    path = people.site.folder / "runner.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    assert people.as_service("/usr/bin/python3", "-c", ASKING, str(path)).stdout == '{"found": false}\n'
    done = subprocess.run([sys.executable, "-c", ASKING, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "nothing\n", "root is not the service either"


def test_a_user_whose_account_may_not_be_used_any_more_gets_no_jobs(people: People) -> None:
    subprocess.run(["usermod", "--shell", "/usr/sbin/nologin", "bob"], check=True)
    try:
        with pytest.raises(CoreError, match="may not run jobs") as refusal:
            people.submit(BOB)
        assert refusal.value.status == 403
    finally:
        subprocess.run(["usermod", "--shell", "/bin/bash", "bob"], check=True)


def test_who_becomes_root_through_a_group_gets_no_jobs_and_the_program_refuses_too(people: People) -> None:
    for group in ("disk", "root"):
        subprocess.run(["gpasswd", "--add", "bob", group], check=True, capture_output=True)
        try:
            with pytest.raises(CoreError, match=f"administrator, through the group {group}") as refusal:
                people.submit(BOB)
            assert refusal.value.status == 403
            shown = people.as_service("/usr/bin/sudo", "-n", "-u", "bob", str(people.program))
            assert shown.stderr == f"ucloud-slurm-as-user: bob is in the group {group}, whose members can become root\n"
        finally:
            subprocess.run(["gpasswd", "--delete", "bob", group], check=True, capture_output=True)


def test_what_is_installed_beside_the_program_does_not_run_as_a_user(people: People, installation: Installation) -> None:
    """In the virtual environment a dependency has left what every Python runs."""
    packages = installation.folder / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    marker = people.site.folder / "ran"
    packages.mkdir(parents=True)
    (packages / "any.pth").write_text(f"import os; os.close(os.open({str(marker)!r}, os.O_CREAT, 0o666))\n")
    mode = people.site.folder.stat().st_mode
    people.site.folder.chmod(0o777)
    try:
        shown = people.as_service("/usr/bin/sudo", "-n", "-u", "bob", str(people.program))
        assert "standard input is not a socket" in shown.stderr
        assert not marker.exists()
        subprocess.run([installation.folder / "bin" / "python3", "-c", ""], check=True, env={})
        assert marker.exists(), "so it runs in any other Python there"
    finally:
        people.site.folder.chmod(mode)
        shutil.rmtree(packages.parents[1])


def test_a_users_own_processes_do_not_read_the_memory_of_the_program(people: People, theirs: dict[str, str]) -> None:
    asked = str(people.site.folder / "runner.sock")
    assert people.as_service("/usr/bin/python3", "-c", ASKING, asked).stdout == '{"found": false}\n'
    entry = pwd.getpwnam("alice")
    alice: dict[str, Any] = {
        "user": entry.pw_uid,
        "group": entry.pw_gid,
        "extra_groups": os.getgrouplist("alice", entry.pw_gid),
    }

    def reached(pid: int | str) -> list[str]:
        paths = [f"/proc/{pid}/{name}" for name in ("mem", "environ", "maps", "fd/0")]
        argv = ["/bin/sh", "-c", 'for path; do ( : < "$path" ) 2> /dev/null && echo "$path"; done', "sh", *paths]
        done: subprocess.CompletedProcess[str] = subprocess.run(argv, capture_output=True, text=True, check=False, **alice)
        return done.stdout.split()

    with subprocess.Popen(["/bin/sleep", "600"], stdin=subprocess.DEVNULL, **alice) as other:
        assert len(reached(other.pid)) == 4
        other.kill()
    program = ["pgrep", "-u", "alice", "-f", str(people.program)]
    found = subprocess.run(program, capture_output=True, text=True, check=True).stdout.split()
    assert [reached(pid) for pid in found] == [[] for _ in found]


def test_every_option_of_this_sbatch_is_known(people: People) -> None:
    names = set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]+)", people.cluster.run("sbatch", "--help")))
    assert len(names) > 80
    assert names - OWNED - SITE == set()


def test_a_program_that_was_stopped_makes_no_second_job(people: People) -> None:
    people.core.terminate(people.submit(ALICE), user=ALICE)  # a program of alice's waits now
    stopped = _programs(people, "alice")
    assert stopped
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    job_id = people.submit(ALICE)
    # The job is looked up, and submitted again when nothing was found.
    wait_until("it is submitted", lambda: people.squeue(f"--name=ucloud-{job_id}") != [], seconds=PATIENCE)
    for pid in stopped:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    wait_until("they have ended, and sudo", lambda: not stopped & _programs(people, "alice"), seconds=PATIENCE)
    assert len(people.squeue(f"--name=ucloud-{job_id}")) == 1
    people.core.terminate(job_id, user=ALICE)


def test_a_shell_outlives_the_program_that_started_it_and_ends_with_its_connection(
    people: People, theirs: dict[str, str]
) -> None:
    session = people.core.open_session(theirs[ALICE], 0, "SHELL", ALICE)
    assert session is not None
    uid = pwd.getpwnam("alice").pw_uid
    with people.core.shell(session) as shell:
        shell.send("echo rea''dy\r")
        shell.wait_for("ready")
        srun = _processes_of(uid, "srun")
        assert srun
        for pid in _programs(people, "alice"):
            os.kill(pid, signal.SIGKILL)
        shell.send("echo still-h''ere\r")
        shell.wait_for("still-here")
    wait_until("srun has ended", lambda: not srun & _processes_of(uid, "srun"), seconds=PATIENCE)


def _programs(people: People, user: str) -> set[int]:
    """The programs that act as a user and wait for requests of the runner, not what they have started."""
    uid, found = pwd.getpwnam(user).pw_uid, set()
    for pid in _sudos(people):
        with suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            parent = re.search(r"^PPid:\s+(\d+)", status, re.MULTILINE)
            if f"Uid:\t{uid}\t" in status and parent and "sudo" in Path(f"/proc/{parent[1]}/comm").read_text():
                found.add(pid)
    return found


def _processes_of(uid: int, name: str) -> set[int]:
    found = subprocess.run(["pgrep", "-U", str(uid), "-x", name], capture_output=True, text=True, check=False).stdout
    return {int(pid) for pid in found.split()}


def _sudos(people: People) -> set[int]:
    """The programs of sudo that run for the service."""
    found = subprocess.run(["pgrep", "-f", str(people.program)], capture_output=True, text=True, check=False).stdout
    return {int(pid) for pid in found.split()}
