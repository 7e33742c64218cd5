"""More than two hundred hostile jobs and requests against a running site whose jobs run as alice and bob."""

import itertools
import json
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.attack.inputs import FIELDS, FOLDERS, LINES, LOGS, NO_MESSAGES, OWNERS, START, TEXTS, WRONG
from tests.sandbox.cluster import Cluster
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.support.factories import application, job_data, parameter, text, var, word
from tests.support.people import ALICE, People, people_site
from ucloud_slurm.system.lean import boot_clock

pytestmark = pytest.mark.beside

MARKERS = Path("/var/tmp/ucloud-slurm-attacks")
FIRST_ID = 880_000


@pytest.fixture(scope="module")
def people(cluster: Cluster, installation: Installation) -> Iterator[People]:
    shutil.rmtree(MARKERS, ignore_errors=True)
    MARKERS.mkdir(mode=0o777)
    MARKERS.chmod(0o1777)
    with people_site(cluster, installation) as people:
        yield people
    shutil.rmtree(MARKERS)


_ids = itertools.count(FIRST_ID)


def no_marker() -> bool:
    return list(MARKERS.iterdir()) == []


def hostile(what: str) -> str:
    return what.replace("{marker}", str(MARKERS / "marker")).replace("{{", "{").replace("}}", "}")


def printer(job_id: str, value: str) -> dict[str, Any]:
    """A job that prints its parameter, and nothing else."""
    app = application(word("printf"), word("%s"), var("value"), parameters=[parameter("value")])
    data = job_data(job_id, app=app, parameters={"value": text(value)})
    data["owner"] = {"createdBy": ALICE, "project": None}
    return data


def test_a_hostile_value_arrives_as_it_is_and_does_nothing(people: People) -> None:
    values = {str(next(_ids)): hostile(what) for what in TEXTS}
    jobs = [printer(job_id, value) for job_id, value in values.items()]
    assert people.create(*jobs)[0] == 200
    people.wait_for_ends(values)
    for job_id, value in values.items():
        assert (people.folder("alice", job_id) / "stdout-0.log").read_text() == value
    assert no_marker()


@pytest.mark.parametrize("what", LINES, ids=repr)
def test_a_value_that_could_begin_a_line_is_refused_by_name(people: People, what: str) -> None:
    status, answer = people.create(printer(str(next(_ids)), hostile(what)))
    assert status == 400
    assert "'value'" in answer["why"] or "JSON" in answer["why"]
    assert no_marker()


@pytest.mark.parametrize("field", FIELDS)
def test_hostile_text_in_any_other_field_does_nothing(people: People, field: str) -> None:
    accepted = []
    before = set(people.squeue("--states=all", "--format=%A %u"))
    for what in (*TEXTS[:-1], *LINES):
        value, job_id = hostile(what), str(next(_ids))
        data = printer(job_id, "harmless")
        application_ = data["status"]["resolvedApplication"]
        tool = application_["invocation"]["tool"]["tool"]["description"]
        places: dict[str, tuple[Any, str]] = {
            "name": (data["specification"], "name"),
            "application": (data["specification"]["application"], "name"),
            "category": (data["specification"]["product"], "category"),
            "owner": (data["owner"], "createdBy"),
            "product": (data["specification"]["product"], "id"),
            "project": (data["owner"], "project"),
            "provider": (data["specification"]["product"], "provider"),
            "image": (tool, "image"),
            "backend": (tool, "backend"),
            "id": (data, "id"),
        }
        if field in places:
            place, key = places[field]
            place[key] = value
            if field == "image":
                tool["backend"] = "DOCKER"
        elif field == "module":
            tool["requiredModules"] = [value]
        elif field == "variable":
            application_["invocation"]["environment"] = {value: word("x")}
        else:
            application_["invocation"]["invocation"] = [word("printf"), word("%s"), word(value)]
        application_["metadata"]["name"] = f"{application_['metadata']['name']}-{job_id}"
        if field != "application":
            data["specification"]["application"]["name"] = application_["metadata"]["name"]
        status, _answer = people.create(data)
        assert status in (200, 400, 403), (field, value)
        if status == 200:
            accepted.append(job_id)
    if field in ("product", "category", "provider", "variable", "owner", "image", "backend", "id"):
        assert accepted == []
    people.wait_for_ends(accepted)
    assert no_marker()
    # Slurm lists what ended before this site was there for a while.
    came = set(people.squeue("--states=all", "--format=%A %u")) - before
    assert {line.split()[1] for line in came} <= {"alice", "bob"}


@pytest.mark.parametrize("owner", OWNERS)
def test_nobody_is_somebody_else_by_a_name_that_resembles_theirs(people: People, owner: str) -> None:
    data = printer(str(next(_ids)), "x")
    data["owner"]["createdBy"] = owner
    assert people.create(data)[0] in (400, 403)


# -- what stands in the place of files ------------------------------------------------------------------------


def as_alice(people: People, script: str) -> None:
    people.cluster.run("bash", "-ec", script, user="alice")


@pytest.mark.parametrize("make", LOGS)
def test_what_stands_in_the_place_of_a_log_is_not_shown(people: People, make: str) -> None:
    job_id = people.submit(ALICE)
    people.wait_for(job_id, "RUNNING")
    bobs = Path(pwd.getpwnam("bob").pw_dir) / ".profile"
    as_alice(people, make.format(log=people.folder("alice", job_id) / "stdout-0.log", bobs=bobs))
    with people.core.follow(job_id, ALICE) as followed:
        wait_until("it is said", lambda: "not shown" in followed.text(0, "stderr"), seconds=10)
        assert followed.text() == ""
    people.core.terminate(job_id)


@pytest.mark.parametrize("make", FOLDERS)
def test_a_job_folder_that_is_something_else_is_not_used(people: People, make: str) -> None:
    job_id = str(next(_ids))
    folder = people.folder("alice", job_id)
    as_alice(people, make.format(folder=folder, bob=pwd.getpwnam("bob").pw_dir))
    status, answer = people.create(printer(job_id, "x"))
    assert status == 507, answer
    assert "folder" in answer["why"]
    assert people.squeue(f"--name=ucloud-{job_id}") == []


# -- the runner, from inside ----------------------------------------------------------------------------------

ASK = """
import json, socket, struct, sys
path, message = sys.argv[1], sys.argv[2].encode()
channel = socket.socket(socket.AF_UNIX); channel.settimeout(20); channel.connect(path)
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
given = [theirs.fileno()] if json.loads(message).get("verb") in ("open", "listen", "terminal") else []
socket.send_fds(channel, [struct.pack("!I", len(message)) + message], given)
theirs.close()
answer, descriptors, _, _ = socket.recv_fds(channel, 65536, 8)
descriptors += socket.recv_fds(ours, 1, 8)[1]
print(json.dumps([answer[4:].decode(), len(descriptors)]))
"""
SAY = """
import socket, sys
channel = socket.socket(socket.AF_UNIX); channel.connect(sys.argv[1])
try:
    channel.sendall(bytes.fromhex(sys.argv[2])); channel.shutdown(socket.SHUT_WR)
    print(channel.recv(10) or "nothing")
except ConnectionResetError:
    print("nothing")
"""


def test_the_runner_does_nothing_that_is_not_in_its_one_form(people: People) -> None:
    own = people.site.folder / "config.toml"
    before = set(people.squeue("--states=all", "--format=%i"))
    for wrong in WRONG:
        soon = boot_clock() + 5
        right = {"user": "alice", "conf": str(people.cluster.conf), "deadline": soon, "ends": soon}
        message = START | right | wrong
        told = json.dumps(message).replace("{own}", str(own)).replace("{home}", pwd.getpwnam("alice").pw_dir)
        done = people.as_service("/usr/bin/python3", "-c", ASK, str(people.site.folder / "runner.sock"), told)
        assert done.stdout, (wrong, done.stderr)
        answer, descriptors = json.loads(done.stdout)
        assert descriptors == 0, wrong
        assert {"refused", "problem", "trouble"} & set(json.loads(answer)), (wrong, answer)
    assert set(people.squeue("--states=all", "--format=%i")) <= before  # Slurm forgets those that ended


@pytest.mark.parametrize("said", NO_MESSAGES)
def test_what_is_no_message_is_not_answered_and_the_runner_lives_on(people: People, said: bytes) -> None:
    done = people.as_service("/usr/bin/python3", "-c", SAY, str(people.site.folder / "runner.sock"), said.hex())
    assert done.stdout == "nothing\n"
    assert "uid" in people.site.cli("users", "test", ALICE).stdout


def test_the_attacks_are_more_than_two_hundred() -> None:
    texts = len(TEXTS) + len(LINES)
    assert texts + len(FIELDS) * (texts - 1) + len(WRONG) > 600
