"""More than two hundred hostile jobs and requests against a running site whose jobs run as alice and bob."""

import itertools
import json
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.cluster import Cluster
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.support.factories import application, job_data, parameter, text, var, word
from tests.support.people import ALICE, People, people_site
from ucloud_slurm.system.process import boot_clock

pytestmark = pytest.mark.beside

MARKERS = Path("/var/tmp/ucloud-slurm-attacks")
FIRST_ID = 880_000

# Each tries to become more than a value; {marker} is a file that must never appear.
TEXTS = (
    "$(touch {marker})",
    "`touch {marker}`",
    "'; touch {marker}; '",
    '"; touch {marker}; "',
    "\\'; touch {marker}; \\'",
    "| touch {marker}",
    "&& touch {marker}",
    "& touch {marker} &",
    ">{marker}",
    "<(touch {marker})",
    "${{IFS}}touch",
    "$((`touch {marker}`))",
    "--wrap=touch {marker}",
    "--uid=0",
    "-u root",
    "--",
    "-",
    "!!",
    "{{a,b}}",
    "~root",
    "*",
    "@{marker}",
    "%j",
    "$'\\x27; touch {marker}; \\x27'",
    "a'$(touch {marker})'b",
    "\\$(touch {marker})",
    "'\"'\"'; touch {marker} #",
    "#SBATCH --uid=0",
    "EOF\\ntouch {marker}",
    "\t; touch {marker}",
    "é; touch {marker}",
    "\u202e; touch {marker}",
    "🙂`touch {marker}`",
    "=touch {marker}",
    "[[ -e x ]] || touch {marker}",
    "x" * 100_000,
)
LINES = (
    "x\n#SBATCH --uid=0",
    "x\r#SBATCH --uid=0",
    "x\ntouch {marker}",
    "\n",
    "x\u2028touch {marker}",
    "x\x85touch {marker}",
    "x\x0btouch {marker}",
    "x\x1b[2J",
    "x\x00y",
    "x\x7f",
)


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


# Fields of a job other than its parameters; each gets every text.
FIELDS = (
    "name",
    "application",
    "product",
    "category",
    "provider",
    "module",
    "variable",
    "owner",
    "project",
    "image",
    "backend",
    "word",
    "id",
)


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


@pytest.mark.parametrize(
    "owner",
    [
        "root",
        "alice",
        "bob",
        "ALICE#1",
        "Alice#1 ",
        " Alice#1",
        "Alice#1\n",
        "Alice#1\x00",
        "Alice#",
        "Alice#1;Bob#2",
        "Alice#1,Bob#2",
        "_UCloud",
        "#P_example",
        "",
        "../Alice#1",
        "Alice#1' or '1'='1",
        "%",
        "\u0410lice#1",
        "ucloud-slurm",
    ],
)
def test_nobody_is_somebody_else_by_a_name_that_resembles_theirs(people: People, owner: str) -> None:
    data = printer(str(next(_ids)), "x")
    data["owner"]["createdBy"] = owner
    assert people.create(data)[0] in (400, 403)


# -- what stands in the place of files ------------------------------------------------------------------------


def as_alice(people: People, script: str) -> None:
    people.cluster.run("bash", "-ec", script, user="alice")


@pytest.mark.parametrize(
    "make",
    [
        "ln -sf /etc/shadow {log}",
        "ln -sf /etc/passwd {log}",
        "rm -f {log}; mkfifo {log}",
        "rm -f {log}; mkdir {log}",
        "ln -sf /dev/zero {log}",
        "echo mine > ~/private; ln -sf ~/private {log}",
        "rm -f {log}; ln -s {log} {log}",
        "ln -sfn / {log}",
        "ln -sf {bobs} {log}",
    ],
)
def test_what_stands_in_the_place_of_a_log_is_not_shown(people: People, make: str) -> None:
    job_id = people.submit(ALICE)
    people.wait_for(job_id, "RUNNING")
    bobs = Path(pwd.getpwnam("bob").pw_dir) / ".profile"
    as_alice(people, make.format(log=people.folder("alice", job_id) / "stdout-0.log", bobs=bobs))
    with people.core.follow(job_id, ALICE) as followed:
        wait_until("it is said", lambda: "not shown" in followed.text(0, "stderr"), seconds=10)
        assert followed.text() == ""
    people.core.terminate(job_id)


@pytest.mark.parametrize(
    "make", ["ln -s /tmp {folder}", "ln -s {bob} {folder}", "touch {folder}", "mkfifo {folder}", "ln -s {folder} {folder}"]
)
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
RUN = {"verb": "run", "command": "/usr/bin/sbatch", "arguments": ["--parsable"], "stdin": "#!/bin/sh\n"}
OPEN: dict[str, Any] = {"verb": "open"}
PREPARE: dict[str, Any] = {"verb": "prepare", "folder": "{home}/x", "files": {}}
SHELL: dict[str, Any] = {"verb": "terminal", "command": "/usr/bin/srun"}
# What is changed in a message that is right otherwise, and to what.
CHANGES: tuple[tuple[dict[str, Any], str, list[Any]], ...] = (
    (
        RUN,
        "user",
        [
            "root",
            "-r",
            "#0",
            "#-1",
            "0",
            "",
            "alice bob",
            "../alice",
            "nobody",
            "slurm",
            "daemon",
            "mysql",
            "ucloud-slurm",
            "root ",
            "a/b",
            "al\nice",
            "%sudo",
            None,
            5,
        ],
    ),
    (RUN, "verb", ["", "exec", "shell", "Run", "run ", "__init__", None, 1, ["run"]]),
    (
        RUN,
        "command",
        [
            "/bin/sh",
            "sbatch",
            "/usr/bin/env",
            "/usr/bin/../bin/sbatch",
            "",
            None,
            "/var/tmp/sbatch",
            "/usr/bin/sbatch\x00",
            "/usr/bin/srun",
            "/tmp/x/sbatch",
        ],
    ),
    (
        RUN,
        "arguments",
        [
            ["x.sh"],
            ["--uid=0"],
            ["--gid=0"],
            ["--wrap=id"],
            ["-n1"],
            "--help",
            None,
            ["--", "/bin/sh"],
            [5],
            [["--x"]],
            ["--get-user-env=L"],
            ["--uid", "0"],
            ["--ui=0"],
            ["--parsable", "--wra=id"],
            ["--get-user=L"],
            ["--nic=1"],
            ["--parsable=1"],
            ["--export-file=/etc/passwd"],
        ],
    ),
    (RUN, "conf", ["", None, "slurm.conf", "/proc/self/environ", "/tmp/../etc/passwd", "{own}", "/nowhere"]),
    (RUN, "stdin", [None, 5, ["x"], {"a": 1}]),
    (RUN, "deadline", ["5", None, [1], 1e300, True]),
    (
        OPEN,
        "path",
        [
            "/etc/shadow",
            "/etc/passwd",
            "stdout-0.log",
            "/x/../stdout-0.log",
            "/x/job.sh",
            None,
            "/x/stdout-0.log/",
            "/x/stdout-0.log\x00",
            "/x/.bashrc",
        ],
    ),
    (PREPARE, "folder", ["", "jobs", "/a/../b", None, "/root/x", "/x\x00y"]),
    (PREPARE, "files", [{"../x.sh": ""}, {"/etc/x.sh": ""}, [], None, {".bashrc": ""}, {"x": ""}, {"job.sh": 5}]),
    (
        SHELL,
        "arguments",
        [
            ["--pty", "/bin/sh", "-c", "id"],
            ["/bin/bash"],
            ["--uid=0", "/bin/bash", "-l"],
            None,
            [],
            ["-x", "/bin/bash", "-l"],
            ["/bin/zsh", "-l"],
            ["--jobid=1", "--ui=0", "/bin/bash", "-l"],
            ["--jobid=1", "--pt", "/bin/bash", "-l"],
            ["--jobid=1", "--export=ALL", "/bin/bash", "-l"],
        ],
    ),
)
WRONG = [form | {key: value} for form, key, values in CHANGES for value in values]


def test_the_runner_does_nothing_that_is_not_in_its_one_form(people: People) -> None:
    own = people.site.folder / "config.toml"
    before = set(people.squeue("--states=all", "--format=%i"))
    for wrong in WRONG:
        message = RUN | {"user": "alice", "conf": str(people.cluster.conf), "deadline": boot_clock() + 5} | wrong
        told = json.dumps(message).replace("{own}", str(own)).replace("{home}", pwd.getpwnam("alice").pw_dir)
        done = people.as_service("/usr/bin/python3", "-c", ASK, str(people.site.folder / "runner.sock"), told)
        assert done.stdout, (wrong, done.stderr)
        answer, descriptors = json.loads(done.stdout)
        assert descriptors == 0, wrong
        assert {"refused", "problem", "trouble"} & set(json.loads(answer)), (wrong, answer)
    assert set(people.squeue("--states=all", "--format=%i")) <= before  # Slurm forgets those that ended


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x00\x00\x00\x05hello",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02[]",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x04null",
        b"\x00\x00\x10\x00{",
    ],
)
def test_what_is_no_message_is_not_answered_and_the_runner_lives_on(people: People, said: bytes) -> None:
    done = people.as_service("/usr/bin/python3", "-c", SAY, str(people.site.folder / "runner.sock"), said.hex())
    assert done.stdout == "nothing\n"
    assert "uid" in people.site.cli("users", "test", ALICE).stdout


def test_the_attacks_are_more_than_two_hundred() -> None:
    texts = len(TEXTS) + len(LINES)
    assert texts + len(FIELDS) * (texts - 1) + len(WRONG) > 600
