"""How programs are started and warned: modules, the site's own beginning and end, nodes, signals, options."""

from pathlib import Path
from typing import Any

import pytest

from tests.rooms.config.test_config import changed
from tests.support.factories import application, word
from tests.support.scripts import Node, build
from ucloud_slurm.bridge.script.resources import Plan
from ucloud_slurm.config import parse, types
from ucloud_slurm.config.types import OMITTABLE
from ucloud_slurm.errors import Misconfigured, Refused
from ucloud_slurm.slurm.sbatch import options
from ucloud_slurm.system.accounts import PeopleRule

TELL = application(word("tell"))
# A module system that knows "known", and writes down what it was asked.
MODULES = """module() {{
    echo "$@" >> {folder}/asked
    [ "$1" != load ] || [ "$2" = known ] && export LOADED=$2
}}
"""
# A srun that says its options, then runs the program on the one node that there is.
SRUN = """#!/bin/bash
while [ "$1" != -- ]; do echo "$1" >> {folder}/srun; shift; done
shift
SLURM_PROCID=3 exec "$@"
"""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.program("tell")
    node.program("srun", SRUN.format(folder=tmp_path))
    node.program("scontrol", '#!/bin/bash\n[ "$1 $2" = "show hostnames" ] && printf "%s\\n" n1 n2\n')
    (tmp_path / "init.sh").write_text(MODULES.format(folder=tmp_path))
    return node


def made(node: Node, **more: Any) -> Any:
    return node.run(build(folder=str(node.jobs), **({"app": TELL} | more)))


# ---- modules


def test_the_configured_file_defines_module_and_every_module_is_loaded_in_order(node: Node) -> None:
    app = application(word("tell"), modules=["known", "known"])
    seen = made(node, app=app, modules_init=str(node.folder / "init.sh"))
    assert seen.environment[b"LOADED"] == b"known"
    assert (node.folder / "asked").read_text() == "purge\nload known\nload known\n"


def test_a_module_that_fails_ends_the_job_with_its_name(node: Node) -> None:
    seen = made(node, app=application(word("tell"), modules=["known", "new"]), modules_init=f"{node.folder}/init.sh")
    assert (seen.status, seen.arguments) == (1, None)
    assert seen.errors == "UCloud: the environment module new could not be loaded.\n"


def test_a_function_of_the_login_environment_will_do(node: Node) -> None:
    function = f'() {{ echo "$@" >> {node.folder}/asked\n}}'
    seen = node.run(
        build(app=application(word("tell"), modules=["known"]), folder=str(node.jobs)), **{"BASH_FUNC_module%%": function}
    )
    assert seen.status == 0
    assert (node.folder / "asked").read_text() == "purge\nload known\n"


def test_a_node_without_modules_says_where_they_were_looked_for(node: Node) -> None:
    app = application(word("tell"), modules=["known"])
    seen = made(node, app=app, modules_init="/nowhere/init.sh")
    assert seen.errors == "UCloud: /nowhere/init.sh (jobs.modules_init) cannot be read on this node.\n"
    (node.folder / "init.sh").write_text("")
    seen = made(node, app=app, modules_init=str(node.folder / "init.sh"))
    assert seen.errors == f"UCloud: this node has no environment modules (looked for in {node.folder}/init.sh).\n"
    assert seen.arguments is None


@pytest.mark.parametrize("name", ["-x", "--force", "a b", "a;b", "$(id)", "", "a\nb", "ü", "x" * 256, "../x", "/x"])
def test_a_module_that_could_be_an_option_or_a_path_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="requiredModules"):
        build(app=application(word("x"), modules=[name]))


# ---- the site's own beginning and end


def test_the_site_begins_and_ends_a_job_and_the_programs_status_stays(node: Node) -> None:
    (node.folder / "begin.sh").write_text("export BEGUN=yes\n")
    (node.folder / "end.sh").write_text(f'echo "$ucloud_status $BEGUN" > {node.folder}/ended\nfalse\n')
    files = {"prologue": str(node.folder / "begin.sh"), "epilogue": str(node.folder / "end.sh")}
    seen = made(node, app=application(word("sh"), word("-c"), word("tell; exit 7")), **files)
    assert (seen.status, seen.environment[b"BEGUN"]) == (7, b"yes")
    assert (node.folder / "ended").read_text() == "7 yes\n"


def test_a_file_of_the_sites_that_is_missing_is_named(node: Node) -> None:
    seen = made(node, prologue="/nowhere/begin.sh")
    assert (seen.status, seen.arguments) == (1, None)
    assert seen.errors == "UCloud: /nowhere/begin.sh (the prologue of the site) cannot be read on this node.\n"


# ---- nodes


def test_a_step_runs_the_program_once_on_each_node_and_says_which_it_is(node: Node) -> None:
    plan = Plan(nodes=2, cpus=4, memory=1, gres=None, minutes=90)
    app = application(word("tell"), word("it's"), environment={"GREETING": word("a b")})
    seen = made(node, plan=plan, replicas=2, app=app)
    asked = (node.folder / "srun").read_text().splitlines()
    assert {"--export=ALL", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=4"} <= set(asked)
    assert seen.arguments == [b"it's"]
    facts = {
        name: seen.environment[name.encode()].decode()
        for name in (
            "UCLOUD_RANK",
            "UCLOUD_NODES",
            "UCLOUD_REPLICAS",
            "UCLOUD_TIME_LIMIT",
            "UCLOUD_HOSTFILE",
            "GREETING",
            "SLURM_EXPORT_ENV",
            "SLURM_OVERLAP",
        )
    }
    assert facts == {
        "UCLOUD_RANK": "3",
        "UCLOUD_NODES": "2",
        "UCLOUD_REPLICAS": "2",
        "UCLOUD_TIME_LIMIT": "90",
        "UCLOUD_HOSTFILE": f"{node.jobs}/54112/hostfile",
        "GREETING": "a b",
        "SLURM_EXPORT_ENV": "ALL",
        "SLURM_OVERLAP": "1",
    }
    assert Path(facts["UCLOUD_HOSTFILE"]).read_text() == "n1\nn2\n"


def test_a_job_of_one_node_has_a_list_of_one_and_needs_neither_srun_nor_scontrol(node: Node) -> None:
    for name in ("srun", "scontrol"):
        node.program(name, "#!/bin/false\n")
    seen = made(node)
    assert seen.environment[b"UCLOUD_RANK"] == b"0"
    assert Path(seen.environment[b"UCLOUD_HOSTFILE"].decode()).read_text() == "n1\n"


def test_a_list_that_cannot_be_made_ends_the_job(node: Node) -> None:
    node.program("scontrol", "#!/bin/false\n")
    seen = made(node, plan=Plan(2, 1, 1, None, 1), replicas=2)
    assert (seen.arguments, seen.errors) == (None, "UCloud: the list of the nodes could not be written.\n")


def test_a_job_without_a_time_limit_is_told_none(node: Node) -> None:
    assert b"UCLOUD_TIME_LIMIT" not in made(node, plan=Plan(1, 1, 1, None, None)).environment


# ---- options of sbatch


def test_the_signal_goes_to_the_process_that_becomes_the_program_or_to_its_step() -> None:
    alone = build(app=TELL, signal="USR1@5m")
    assert "--signal=B:USR1@300" in options(alone)
    assert alone.script.endswith("exec -- tell\n")
    for more in ({"epilogue": "/etc/end.sh"}, {"plan": Plan(2, 1, 1, None, 1), "replicas": 2}):
        made = build(app=TELL, signal="USR1@5m", **more)
        assert "--signal=USR1@300" in options(made)
        assert "\nsrun --export=ALL " in made.script
    assert not [option for option in options(build(app=TELL)) if option.startswith("--signal")]


def test_the_sites_own_options_come_before_ours() -> None:
    given = options(build(app=TELL, options=["--nice=100", "--no-requeue"], exclusive=True))
    assert given[:4] == ["--parsable", "--nice=100", "--no-requeue", "--exclusive"]
    assert "--exclusive" not in options(build(app=TELL))


@pytest.mark.parametrize("omit", [["mem"], ["nodes"], ["gres"], ["cpus-per-task", "ntasks-per-node"], list(OMITTABLE)])
def test_a_product_leaves_out_the_options_that_its_site_forbids(omit: list[str]) -> None:
    plan = Plan(nodes=1, cpus=4, memory=1024, gres="gpu:1", minutes=60)
    every = options(build(plan, app=TELL))
    left = options(build(plan, app=TELL, omit=omit))
    assert {option.split("=")[0].removeprefix("--") for option in every if option not in left} == set(omit)
    assert [option for option in every if option in left] == left


def test_a_job_of_two_nodes_says_so_by_its_tasks_where_it_may_not_name_nodes() -> None:
    more: dict[str, Any] = {"plan": Plan(2, 4, 1, None, 1), "replicas": 2, "app": TELL}
    given = options(build(omit=["nodes"], **more))
    assert {"--ntasks=2", "--ntasks-per-node=1"} <= set(given)
    assert "--nodes=2" not in given
    assert "--nodes=2" in options(build(omit=["ntasks-per-node"], **more))
    with pytest.raises(Refused, match=r"specification\.replicas: jobs on example-compute-1 run on one node only"):
        build(omit=["nodes", "ntasks-per-node"], **more)


def test_a_step_asks_for_no_cpus_that_its_job_did_not_name() -> None:
    more: dict[str, Any] = {"plan": Plan(2, 4, 1, None, 1), "replicas": 2}
    assert " --cpus-per-task=4 " in build(app=TELL, **more).script
    assert "cpus-per-task" not in build(app=TELL, omit=["cpus-per-task"], **more).script


def test_the_account_of_the_owner_stands_before_that_of_the_product() -> None:
    assert "--account=of-the-owner" in options(build(app=TELL, account="of-the-owner"))
    assert "--account=proj-a" in options(build(app=TELL))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("options", ["--partition=x"], "ucloud-slurm sets --partition itself"),
        ("options", ["--part=x"], "ucloud-slurm sets --partition itself"),
        ("options", ["--uid=0"], "sets --uid itself"),
        ("options", ["--wrap=id"], "sets --wrap itself"),
        ("options", ["--chdir=/"], "sets --chdir itself"),
        ("options", ["--exp=ALL"], "--export"),
        ("options", ["--ui=0"], "ucloud-slurm sets --uid itself"),
        ("options", ["--tasks-per-node=2"], "ucloud-slurm sets --tasks-per-node itself"),
        ("options", ["--nic=1"], "--nic is not the whole name of an option of sbatch, such as --nice"),
        ("options", ["--container-image=x"], "in /etc/ucloud-slurm-people.toml (plugin_options)"),
        ("options", ["-p", "x"], "long option"),
        ("options", ["--nice=1 --uid=0"], "long option"),
        ("options", ["--nice=1\n"], "long option"),
        ("options", ["script.sh"], "long option"),
        ("signal", "KILL@5m", "USR1"),
        ("signal", "USR1", "USR1@5m"),
        ("signal", "USR1@5", "duration"),
        ("signal", "B:USR1@5m", "USR1"),
        ("signal", "USR1@2d", "65535 seconds"),
        ("signal", "USR1@0s", "65535 seconds"),
        ("prologue", "begin.sh", "absolute path"),
        ("epilogue", "/a/../b", "absolute path"),
        ("epilogue", "/a b", "absolute path"),
        ("exclusive", "maybe", "exclusive"),
        ("memory_gb", 0.1, "whole number of MiB"),
    ],
)
def test_what_a_product_may_not_say_is_named(key: str, value: Any, words: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        parse(changed(f"products.{key}", value))
    assert any(f"products[1].{key}" in text and words in text for text in raised.value.sentences), raised.value.sentences


def test_an_option_of_a_plugin_is_accepted_where_the_rule_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(types, "read_rule", lambda: PeopleRule(plugin_options=("container-image",)))
    assert parse(changed("products.options", ["--container-image=x"])).products[0].options == ("--container-image=x",)
    for other in ("--container=x", "--container-imag=x"):
        with pytest.raises(Misconfigured, match="--container"):
            parse(changed("products.options", [other]))
