"""check on the real cluster: each wrong setting is one line that names it, and what is right is green."""

import json
import pwd
import shutil
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.cluster import Cluster
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.sandbox.site import toml
from tests.support.factories import word
from tests.support.people import ALICE, BOB, PATIENCE, People, people_site

pytestmark = pytest.mark.beside

RENAMES = """
function slurm_job_submit(desc, part, uid)
    desc.name = "site-" .. uid
    desc.time_limit = 7
    return slurm.SUCCESS
end
function slurm_job_modify(desc, job, part, uid)
    return slurm.SUCCESS
end
return slurm.SUCCESS
"""


@pytest.fixture(scope="module")
def people(cluster: Cluster, installation: Installation) -> Iterator[People]:
    with people_site(cluster, installation) as people:
        yield people


def checked(
    people: People, tables: dict[str, Any] | None = None, product: dict[str, Any] | None = None
) -> dict[str, list[str]]:
    """What check finds with another configuration: texts by level, and ``status``."""
    config = deepcopy(tomllib.loads(people.site.config.read_text()))
    for name, table in (tables or {}).items():
        config[name] = table if isinstance(table, list) else config.get(name, {}) | table
    config["products"][1] |= product or {}
    path = people.site.folder / "other.toml"
    path.write_text(toml(config))
    shutil.chown(path, people.cluster.service_user, people.cluster.service_user)
    done = people.site.cli("--config", str(path), "check", "--json", check=False)
    assert done.stderr == "", "progress is for a terminal"
    found: dict[str, list[str]] = {"failed": [], "warning": [], "ok": []}
    for each in json.loads(done.stdout):
        found[each["level"]].append(each["text"])
    assert done.returncode == bool(found["failed"])
    return found


def test_a_site_on_which_jobs_run_is_green_and_its_products_and_people_were_tried(people: People) -> None:
    found = checked(people)
    assert found["failed"] == []
    assert "Slurm would take jobs of alice on example-compute-1, example-compute-4" in found["ok"]
    assert [text for text in found["warning"] if "alice" in text or "bob" in text] == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("account", "nope", "Invalid account or account/partition combination specified"),
        ("qos", "nope", "Invalid qos specification"),
        ("qos", "high", "Invalid qos specification"),
        ("reservation", "nope", "Requested reservation is invalid"),
        ("constraint", "nope", "Invalid feature specification"),
        ("gres", "nope:1", "Invalid generic resource (gres) specification"),
        ("gpus", 1, "Requested node configuration is not available"),
        ("memory_gb", 4000, "not available"),
        ("cpus", 4000, "not available"),
        ("options", ["--stepmgr"], "unrecognized option"),
        ("partition", "nope", "there is no partition nope"),
    ],
)
def test_a_product_whose_jobs_slurm_would_refuse_is_one_line_with_its_key_and_slurms_words(
    people: People, key: str, value: Any, words: str
) -> None:
    # Alice may use the QOS named high.
    if value == "high":
        people.cluster.run("sacctmgr", "-i", "modify", "user", "alice", "set", "qos-=high")
    try:
        found = checked(people, product={key: value})
    finally:
        if value == "high":
            people.cluster.run("sacctmgr", "-i", "modify", "user", "alice", "set", "qos+=high")
    (line,) = found["failed"]
    assert "product example-compute-4" in line
    assert key in line
    assert words in line
    assert [text for text in found["warning"] if "compute" in text] == []


def test_an_account_that_is_made_of_names_is_told_apart_from_that_of_the_product(people: People) -> None:
    found = checked(people, {"users": {"personal_account": "home-{user}"}})
    assert len(found["failed"]) == 2
    assert all('users.personal_account, which gives "home-alice": Slurm refuses' in text for text in found["failed"])


def test_a_partition_that_is_not_for_these_people_is_named(people: People) -> None:
    people.cluster.run("scontrol", "update", "partition=debug", "AllowGroups=root")
    try:
        (line,) = checked(people, product={"partition": "debug", "time_max": "5m"})["failed"]
    finally:
        people.cluster.run("scontrol", "update", "partition=debug", "AllowGroups=ALL")
    assert 'product example-compute-4: partition = "debug": Slurm refuses' in line


def test_a_time_limit_beyond_that_of_the_partition_is_named(people: People) -> None:
    (line,) = checked(people, product={"partition": "debug", "time_max": "5h"})["failed"]
    assert line == "product example-compute-4: time_max: Jobs on example-compute-4 run at most 5 minutes; it asks for 5 hours."


def test_a_slurm_conf_or_commands_that_are_missing_are_named_at_once(people: People) -> None:
    for table, named in (
        ({"conf": "/nowhere/slurm.conf"}, "/nowhere/slurm.conf"),
        ({"commands": "/var/empty"}, "sbatch, squeue"),
    ):
        begun = time.monotonic()
        found = checked(people, {"slurm": table})
        assert [text for text in found["failed"] if named in text] == found["failed"]
        assert len(found["failed"]) == 1
        assert time.monotonic() - begun < 8


@contextmanager
def conf_of(people: People, name: str, mode: int = 0o644) -> Iterator[Path]:
    """A copy of slurm.conf that belongs to somebody."""
    folder = people.cluster.folder / "other-etc"
    folder.mkdir(mode=0o755)
    try:
        path = folder / "slurm.conf"
        shutil.copy(people.cluster.conf, path)
        path.chmod(mode)
        shutil.chown(path, name)
        yield path
    finally:
        shutil.rmtree(folder)


# Asks the runner to submit as alice.
ASKING = """
import json, socket, struct, sys, time
channel = socket.socket(socket.AF_UNIX); channel.connect(sys.argv[1])
soon = time.clock_gettime(time.CLOCK_BOOTTIME) + 10
def ask(**message):
    data = json.dumps(message | {"deadline": soon}).encode()
    channel.sendall(struct.pack("!I", len(data)) + data)
    return json.loads(channel.recv(10000)[4:])
answer = ask(user="alice", verb="start", command="/usr/bin/sbatch", arguments=["--test-only"], conf=sys.argv[2], ends=soon)
print(json.dumps(ask(verb="go", stdin="#!/bin/sh\\n") if answer.get("waits") else answer))
"""


def submitted(people: People, conf: Path) -> dict[str, Any]:
    """The answer to a submission with that slurm.conf."""
    runner = str(people.site.folder / "runner.sock")
    answer: dict[str, Any] = json.loads(people.as_service("/usr/bin/python3", "-c", ASKING, runner, str(conf)).stdout)
    return answer


@pytest.mark.parametrize("owner", ["root", "slurm"])
def test_a_slurm_conf_of_slurms_own_account_is_used_for_jobs(people: People, owner: str) -> None:
    with conf_of(people, owner) as conf:
        found = checked(people, {"slurm": {"conf": str(conf)}})
        assert submitted(people, conf)["status"] == 0
    assert found["failed"] == []
    assert [text for text in found["warning"] if "alice" in text] == []
    assert any("Slurm would take jobs of alice" in text for text in found["ok"])


@pytest.mark.parametrize(
    ("owner", "mode", "repair"), [("bob", 0o644, "chown"), ("ucloud-slurm", 0o644, "chown"), ("slurm", 0o664, "chmod go-w")]
)
def test_a_slurm_conf_that_others_could_change_is_named_with_its_owner_and_the_repair(
    people: People, owner: str, mode: int, repair: str
) -> None:
    with conf_of(people, owner, mode) as conf:
        found = checked(people, {"slurm": {"conf": str(conf)}})
        (line,) = found["failed"]
        assert str(conf) in line
        assert repair in line
        assert owner in line or "chmod" in repair
        assert str(conf) in submitted(people, conf)["refused"], "so the program that acts as alice does not use it"


def test_everybody_without_an_association_is_named_though_the_first_has_one(people: People) -> None:
    people.cluster.run("sacctmgr", "-i", "delete", "user", "bob", "where", "account=proj-b")
    try:
        found = checked(people)
    finally:
        people.cluster.run("sacctmgr", "-i", "add", "user", "bob", "account=proj-b", "defaultaccount=proj-b")
    (line,) = [text for text in found["warning"] if "bob" in text]
    assert "sacctmgr add user 'bob' account=" in line
    assert found["failed"] == []
    assert any("Slurm would take jobs of alice" in text for text in found["ok"])


def test_whoever_comes_first_without_an_association_does_not_hide_the_products(people: People) -> None:
    people.cluster.run("sacctmgr", "-i", "delete", "user", "alice")
    try:
        found = checked(people, product={"qos": "nope"})
    finally:
        wide = ("account=proj-a,proj-c", "defaultaccount=proj-a", "qoslevel=normal,high,limited")
        people.cluster.run("sacctmgr", "-i", "add", "user", "alice", *wide)
    assert [text for text in found["warning"] if "alice" in text and "sacctmgr add user" in text] != []
    (line,) = found["failed"]
    assert 'qos = "nope"' in line


def test_accounts_of_outside_are_compared_as_slurm_compares(people: People) -> None:
    rule = {"product": "example-compute-1", "category": "example-compute", "created_by": ALICE}
    assert checked(people, {"outside": [rule | {"account": "Proj-C"}]})["failed"] == []
    (line,) = checked(people, {"outside": [rule | {"account": "proj-x"}]})["failed"]
    assert 'outside[1]: account = "proj-x"' in line


def test_the_service_alone_tries_its_own_jobs(people: People) -> None:
    users = {"mapping": "service"}
    assert checked(people, {"users": users})["failed"] == []
    (line,) = checked(people, {"users": users}, product={"constraint": "nope"})["failed"]
    assert 'product example-compute-4: constraint = "nope"' in line


def configure(cluster: Cluster, text: str) -> None:
    """Gives the controller another slurm.conf."""
    cluster.conf.write_text(text)
    cluster.stop_daemon("slurmctld")
    cluster.start_daemon("slurmctld")

    def registered() -> bool:
        return set(cluster.run("sinfo", "--noheader", "--Node", "--format=%T").split()) == {"idle"}

    wait_until("the nodes have registered", registered, seconds=PATIENCE)


@contextmanager
def plugin(cluster: Cluster, text: str) -> Iterator[None]:
    """A job_submit plugin in lua."""
    path, before = cluster.conf.parent / "job_submit.lua", cluster.conf.read_text()
    path.write_text(text)
    path.chmod(0o644)
    try:
        configure(cluster, before + "JobSubmitPlugins=lua\n")
        yield
    finally:
        configure(cluster, before)
        path.unlink()


def test_a_plugin_that_changes_jobs_is_shown_and_nothing_is_left(people: People) -> None:
    with plugin(people.cluster, RENAMES):
        found = checked(people, product={"time_max": "30m"})
        assert people.squeue("--user=alice", "--format=%j") == []
    (line,) = [text for text in found["warning"] if "JobSubmitPlugins" in text]
    assert "the name from 'ucloud-check-" in line
    assert f"to 'site-{pwd.getpwnam('alice').pw_uid}'" in line
    assert found["failed"] == []


@contextmanager
def rule(installation: Installation, text: str, owner: str = "root", mode: int = 0o644) -> Iterator[Path]:
    """The rule about people."""
    path = installation.rule
    path.write_text(text)
    path.chmod(mode)
    shutil.chown(path, owner)
    try:
        yield path
    finally:
        path.unlink()


def test_the_rule_about_people_counts_for_every_part(people: People, installation: Installation) -> None:
    with rule(installation, 'names = "a.*"\n'):
        found = checked(people)
        assert [text for text in found["warning"] if "bob" in text and "not a name that users have here (a.*)" in text] != []
        done = people.site.cli("users", "add", "Other#9", "bob", check=False)
        assert done.returncode == 78
        assert people.run(BOB, "8811", word("true"))[0] == 403


@pytest.mark.parametrize(
    ("text", "owner", "mode", "said"),
    [
        ('names = "["\n', "root", 0o644, "names: should be a regular expression"),
        ("nams = 1\n", "root", 0o644, "nams is not a key that exists"),
        ("uid_floor = true\n", "root", 0o644, "uid_floor: should be a whole number above 0"),
        ("=\n", "root", 0o644, "people.toml"),
        ('slurm_user = "slurm"\n', "ucloud-slurm", 0o644, "belongs to ucloud-slurm"),
        ('slurm_user = "slurm"\n', "root", 0o666, "can be changed by others"),
    ],
)
def test_a_broken_rule_is_one_sentence_and_nobody_is_impersonated(
    people: People, installation: Installation, text: str, owner: str, mode: int, said: str
) -> None:
    with rule(installation, text, owner, mode) as path:
        found = checked(people)
        (line,) = [text for text in found["failed"] if str(path) in text][:1]
        assert said in line
        assert "rule about people" in submitted(people, people.cluster.conf)["busy"]
        assert people.run(ALICE, "8812", word("true"))[0] == 500, "nobody is refused for good"
        shown = people.as_service("/usr/bin/sudo", "-n", "-u", "alice", str(people.program))
        assert shown.returncode == 1
        assert shown.stderr.startswith(f"ucloud-slurm-as-user: {path}: ")
        assert shown.stderr.count("\n") == 1


def test_a_rule_that_people_cannot_read_is_named(people: People, installation: Installation) -> None:
    with rule(installation, "uid_floor = 1000\n", mode=0o640) as path:
        shutil.chown(path, group=people.cluster.service_user)
        found = checked(people)
    assert f"{path}: the program that acts as users cannot read it; chmod 644 {path}" in found["failed"]


def test_a_link_of_the_callers_own_leads_to_no_trusted_file(people: People) -> None:
    """The caller could turn the link between the check and the start."""
    folder = people.site.folder / "links"
    folder.mkdir()
    (folder / "slurm.conf").symlink_to(people.cluster.conf)
    shutil.chown(folder, people.cluster.service_user)
    people.site.folder.chmod(0o711)
    try:
        found = checked(people, {"slurm": {"conf": str(folder / "slurm.conf")}})
        assert "belongs to ucloud-slurm" in submitted(people, folder / "slurm.conf")["refused"]
    finally:
        people.site.folder.chmod(0o700)
    assert any("belongs to ucloud-slurm" in text for text in found["failed"])


def test_status_of_a_site_that_runs_is_well(people: People) -> None:
    done = people.site.cli("status", "--json", check=False)
    found = {each["what"]: each for each in json.loads(done.stdout)["conditions"]}
    parts = ("service", "worker", "slurm", "ucloud", "runner", "database", "people", "programs")
    assert [found[what]["text"] for what in parts if not found[what]["well"]] == []
    assert found["people"]["text"] == "2 are connected"
