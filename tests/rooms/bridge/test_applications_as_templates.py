"""Applications of today's UCloud are templates: what their jobs ask of Slurm, load and run, and how they fail."""

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.conftest import World
from tests.rooms.bridge.test_templates import ATTACKS
from tests.rooms.config.test_config import changed
from tests.rooms.web.test_endpoint import post
from tests.sandbox.core.today.job import whole_value
from tests.support.factories import application, jinja, job_data, parameter, text, word
from tests.support.scripts import PLAN, Node, build
from ucloud_slurm.bridge.script.resources import Plan
from ucloud_slurm.bridge.template.messages import Request
from ucloud_slurm.config import parse
from ucloud_slurm.errors import Misconfigured, Refused
from ucloud_slurm.provider import rendering
from ucloud_slurm.slurm.sbatch import options

EIGHT = Plan(nodes=2, cpus=8, memory=1024, gres=None, minutes=60)


def value(kind: str, **more: Any) -> dict[str, Any]:
    return whole_value({"type": kind} | more)


def app(template: str, *parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return application(jinja(template), parameters=list(parameters), **more)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.program("tell")
    node.program("scontrol", "#!/bin/bash\nprintf '%s\\n' n1 n2\n")
    return node


# ---- what is run


def test_a_script_runs_in_the_jobs_folder_with_what_ucloud_knows(node: Node) -> None:
    made = app(
        'export HERE=$PWD\ntell {{ a }} {{ n + 1 }} "{{ ucloud.machine.cpu }}/$UCLOUD_MACHINE_CPU" {{ ucloud.jobId }}\n',
        parameter("a", "textarea"),
        parameter("n", "integer"),
    )
    given = {"a": value("text", value="a\nb"), "n": value("integer", value=4)}
    seen = node.run(build(app=made, folder=str(node.jobs), parameters=given))
    assert seen.arguments == [b"a\nb", b"5", b"1/1", b"54112"]
    assert seen.environment[b"HERE"] == f"{node.jobs}/54112".encode()


@pytest.mark.parametrize(
    ("kind", "default", "expected"),
    [
        ("integer", 5, "6"),
        ("integer", {"type": "integer", "value": 5}, "6"),
        ("floating_point", 0.5, "1.5"),
        ("boolean", True, "2"),
        ("text", "x", "'x'1"),
        ("textarea", {"value": "x"}, "'x'1"),
        ("enumeration", "One", "'1'1"),
    ],
)
def test_defaults_come_bare_or_in_an_object_and_keep_their_type(kind: str, default: Any, expected: str) -> None:
    made = app(
        "tell {{ a + ('1' if a is string else 1) }}",
        parameter("a", kind, defaultValue=default, optional=True, options=[{"name": "One", "value": "1"}]),
    )
    assert build(app=made).script.endswith(f"tell {expected}\n")


def test_parameters_that_nobody_declared_are_ignored_unless_a_template_uses_them() -> None:
    given = {
        "ucMetricSampleRate": value("text", value="0ms"),
        "_injected_x": value("text", value="y z"),
        "_injected_modules": value("license_server", id="1"),
    }
    assert build(app=app("tell"), parameters=given).script.endswith("\ntell\n")
    assert build(app=app("tell {{ _injected_x }}"), parameters=given).script.endswith("\ntell 'y z'\n")


def test_the_workflow_that_a_user_wrote_comes_behind_the_template_and_may_have_parameters() -> None:
    workflow = {"job": "tell {{ w }}", "inputs": [parameter("w")], "init": None, "readme": "", "applicationName": "x"}
    given = {"wf": value("workflow", specification=workflow), "w": value("text", value="a b")}
    declared = [parameter("wf", "workflow"), parameter("note", "readme")]
    assert build(app=app("true", *declared), parameters=given).script.endswith("\ntrue\ntell 'a b'\n")
    assert build(app=app("", *declared), parameters=given).script.endswith("\ntell 'a b'\n")


def test_modules_are_those_of_the_tool_then_of_the_site_then_of_the_template_and_the_user(node: Node) -> None:
    (node.folder / "init.sh").write_text(f'module() {{ echo "$@" >> {node.folder}/asked; }}\n')
    made = app(
        'tell{- loadApplication("x", "2") -}',
        parameter("m", "modules"),
        modules=["a"],
        load=[("big", "1"), ("small", "1"), ("none", "1")],
    )
    seen = node.run(
        build(
            app=made,
            folder=str(node.jobs),
            modules_init=f"{node.folder}/init.sh",
            applications={"load": {"big/1": ["b/1", "c/1"], "small": ["s/9"], "none": []}},
            parameters={"m": value("modules", modules=["u/1", "b/1"])},
        )
    )
    assert seen.arguments == [b""]
    asked = ["purge", *(f"load {name}" for name in ("a", "b/1", "c/1", "s/9", "x/2", "u/1"))]
    assert (node.folder / "asked").read_text().splitlines() == asked


@pytest.mark.parametrize("name", ["-x", "a b", "$(id)", "../x", ""])
def test_what_cannot_be_a_module_is_refused_with_its_parameter(name: str) -> None:
    with pytest.raises(Refused, match="'m'"):
        build(app=app("tell", parameter("m", "modules")), parameters={"m": value("modules", modules=[name])})
    with pytest.raises(Refused, match="loadInstructions"):
        build(app=app(f"tell{{{{ loadApplication('{name}', '') }}}}"))


def test_a_private_network_is_refused_by_name() -> None:
    made = app("tell", parameter("net", "private_network"))
    with pytest.raises(Refused, match="'net' needs private networks"):
        build(app=made, parameters={"net": value("private_network", id="1")})


@pytest.mark.parametrize("bad", ["a\x1bb", "a\x00b", "a\u2028b", "a\rb"])
def test_control_characters_other_than_line_ends_are_refused_by_name(bad: str) -> None:
    with pytest.raises(Refused, match="'a'"):
        build(app=app("tell {{ a }}", parameter("a")), parameters={"a": value("text", value=bad)})


def test_the_site_ends_a_script_and_its_status_stays(node: Node) -> None:
    (node.folder / "end.sh").write_text(f'echo "$ucloud_status" > {node.folder}/ended\n')
    seen = node.run(build(app=app("set -e\ntell\nexit 7"), folder=str(node.jobs), epilogue=f"{node.folder}/end.sh"))
    assert (seen.status, seen.arguments) == (7, [b""])
    assert (node.folder / "ended").read_text() == "7\n"


def test_a_script_of_several_nodes_runs_once_and_its_steps_get_environment_and_cpus(node: Node) -> None:
    node.program("srun", '#!/bin/bash\ntell "$SLURM_EXPORT_ENV" "$SRUN_CPUS_PER_TASK" "${SLURM_OVERLAP-}" "$@"\n')
    made = app("{{ srun() }} -n {{ ucloud.nodes }} x")
    submission = build(EIGHT, app=made, folder=str(node.jobs), replicas=2, signal="USR1@5m")
    assert node.run(submission).arguments == [b"ALL", b"8", b"", b"-n", b"2", b"x"]
    # The shell of a script would end by the signal: it goes to the steps.
    assert "--signal=USR1@300" in options(submission)


def test_a_script_in_a_container_runs_there_on_every_node(node: Node) -> None:
    for name, until in (("srun", "--"), ("apptainer", "docker://tools/acme:2.1")):
        node.program(name, f'#!/bin/bash\nwhile [ "$1" != {until} ]; do shift; done\nshift\nexec "$@"\n')
    made = app('x={{ a }}\ntell "$x" {{ ucloud.rank }}', parameter("a"), backend="DOCKER", image="tools/acme:2.1")
    submission = build(
        EIGHT,
        app=made,
        folder=str(node.jobs),
        replicas=2,
        parameters={"a": value("text", value="it's $x")},
        containers={"runtime": "apptainer", "registry": "docker://"},
    )
    assert node.run(submission, SLURM_PROCID="1").arguments == [b"it's $x", b"1"]


def test_a_web_page_finds_its_port(node: Node) -> None:
    seen = node.run(build(app=app("tell {{ ucloud.webPort }}", applicationType="WEB"), folder=str(node.jobs)))
    assert seen.arguments == [seen.environment[b"UCLOUD_PORT"]]
    with pytest.raises(Refused, match="webPort"):
        build(app=app("tell {{ ucloud.webPort }}"))


def test_the_environment_is_made_of_templates_too(node: Node) -> None:
    environment = {"A": word("{{ a }}!"), "B": jinja("{{ a }}"), "C": {"type": "env", "variable": "PATH"}}
    made = app("tell", parameter("a"), environment=environment)
    seen = node.run(build(app=made, folder=str(node.jobs), parameters={"a": text("it's $x")}))
    assert [seen.environment[name] for name in (b"A", b"B")] == [b"it's $x!", b"it's $x"]
    assert seen.environment[b"C"].endswith(b"/bin")
    with pytest.raises(Refused, match="UCLOUD_JOB_ID"):
        build(app=app("tell", environment={"UCLOUD_JOB_ID": word("1")}))


# ---- what is asked of Slurm

FREE = ["ntasks", "ntasks-per-node", "cpus-per-task", "nice", "hint"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["--ntasks-per-node=1", "--cpus-per-task=8"]),
        ({"ntasks-per-node": 4}, ["--ntasks-per-node=4", "--cpus-per-task=2"]),
        ({"ntasks": 16}, ["--ntasks-per-node=8", "--cpus-per-task=1"]),
        ({"cpus-per-task": 4}, ["--ntasks-per-node=1", "--cpus-per-task=4"]),
        ({"ntasks-per-node": 2, "cpus-per-task": 4, "ntasks": 4}, ["--ntasks-per-node=2", "--cpus-per-task=4"]),
        ({"nice": 5, "hint": ""}, ["--nice=5", "--hint", "--ntasks-per-node=1"]),
    ],
)
def test_options_that_the_administrator_lets_applications_set(asked: dict[str, Any], expected: list[str]) -> None:
    calls = "".join(f"{{{{ sbatch('{name}', '{setting}') }}}}" for name, setting in asked.items())
    elements = {name: word(str(setting)) for name, setting in asked.items()}
    for made in (app(f"{calls}tell"), app("tell", sbatch=elements)):
        given = options(build(EIGHT, app=made, replicas=2, applications={"sbatch_options": FREE}))
        assert [option for option in given if option in expected] == expected
        assert len([option for option in given if "ntasks" in option or "cpus-per" in option]) == 2


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        ("account", "root", "'account'"),
        ("partition", "x", "'partition'"),
        ("uid", "0", "'uid'"),
        ("output", "/x", "'output'"),
        ("mem", "1", "'mem'"),
        ("wrap", "id", "'wrap'"),
        ("array", "1-9", "'array'"),
        ("acc", "root", "'acc'"),
        ("nice=1 --uid", "0", "'nice=1 --uid'"),
        ("", "x", "''"),
        ("nice", "1 --uid=0", "invalid value"),
        ("nice", "1\n--uid=0", "invalid value"),
        ("ntasks-per-node", "9", "9 tasks"),
        ("ntasks-per-node", "0", "number above 0"),
        ("cpus-per-task", "9", "9 CPUs"),
        ("ntasks", "3", "each of 2 nodes"),
        ("ntasks", "x", "number above 0"),
    ],
)
def test_other_options_are_refused_by_name(name: str, setting: str, words: str) -> None:
    given = {"a": value("text", value=name), "b": value("text", value=setting)}
    asking = app("{{ sbatch(a, b) }}tell", parameter("a"), parameter("b"))
    for made in (asking, app("tell", sbatch={name: word(setting)})):
        with pytest.raises(Refused, match="cannot be started") as refused:
            build(EIGHT, app=made, replicas=2, parameters=given, applications={"sbatch_options": FREE})
        assert words in refused.value.why


@pytest.mark.parametrize("omit", [["nodes"], ["ntasks-per-node"]])
def test_several_tasks_are_refused_where_their_number_may_not_be_named(omit: list[str]) -> None:
    more: dict[str, Any] = {"app": app("{{ sbatch('ntasks-per-node', 2) }}tell"), "omit": omit}
    with pytest.raises(Refused, match=r"several tasks on a node, and jobs on example-compute-1 have one \(products\.omit\)"):
        build(EIGHT, **more, applications={"sbatch_options": FREE})


def test_no_option_is_free_unless_the_administrator_says_so() -> None:
    with pytest.raises(Refused, match="'ntasks-per-node'"):
        build(PLAN, app=app("{{ sbatch('ntasks-per-node', 1) }}tell"))


@pytest.mark.parametrize(
    ("key", "setting"),
    [
        ("sbatch_options", ["account"]),
        ("sbatch_options", ["acc"]),
        ("sbatch_options", ["--nice"]),
        ("sbatch_options", ["output"]),
        ("sbatch_options", ["mem"]),
        ("sbatch_options", ["nice=1"]),
        ("srun_options", ["-x"]),
        ("srun_options", ["--mpi=a b"]),
        ("load", {"x": "y"}),
    ],
)
def test_what_applications_may_never_do_cannot_be_configured(key: str, setting: Any) -> None:
    with pytest.raises(Misconfigured, match=rf"applications\.{key}"):
        parse(changed(f"applications.{key}", setting))


# ---- limits


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "takes too long"),
        ("{% for i in range(99999) %}{{ 'x' * 99999 }}{% endfor %}", ""),
        ("{% set n = namespace(a='x' * 999) %}{% for i in range(40) %}{% set n.a = n.a + n.a %}{% endfor %}", "memory"),
        ("{% for i in range(99999) %}xxxx{% endfor %}", "more than"),
        ("{% set n = namespace(a=2**60) %}{% for i in range(99) %}{% set n.a = n.a * n.a %}{% endfor %}", ""),
        ("{{ 'a' is match('(a*)*b') }}{{ ('a' * 99) is match('(a*)*b') }}", "takes too long"),
        ("x" * 300_000, "more than"),
        *((template, "") for template in list(ATTACKS)[::7]),
    ],
)
def test_a_template_that_is_too_slow_or_too_large_is_stopped(template: str, words: str) -> None:
    began = time.monotonic()
    with pytest.raises(Refused) as refused:
        rendering.render(Request(template, values={"text": "x"}, absent=("gone",)), within=10.0)
    assert words in refused.value.why
    assert time.monotonic() - began < 8.0  # it has one second of processor time, and this machine has others to serve


def test_a_process_of_its_own_renders_the_same() -> None:
    request = Request("tell {{ a }}", {"E": "{{ a }}"}, {}, {"a": "it's"}, ("b",), {"nodes": 1}, {"p": "P"})
    first = rendering.render(request, within=10.0)
    assert (first.script, first.environment) == ("tell 'it'\\''s'", {"E": "it's"})
    assert rendering.render(request, within=10.0) == first


def test_where_no_time_is_left_no_process_is_started(mocker: MockerFixture) -> None:
    run = mocker.spy(rendering, "run")
    with pytest.raises(rendering.RenderingUnavailableError, match="no time"):
        rendering.render(Request("tell"), within=0.1)
    assert run.call_count == 0


def test_a_renderer_that_cannot_begin_says_nothing_about_the_template(mocker: MockerFixture) -> None:
    mocker.patch("ucloud_slurm.provider.rendering.CHILD", "nothing_of_that_name")
    with pytest.raises(rendering.RenderingUnavailableError, match="nothing_of_that_name"):
        rendering.render(Request("tell"), within=10.0)


def test_the_renderer_needs_no_path_but_that_of_the_package(mocker: MockerFixture) -> None:
    places = [place for place in sys.path if not place or not (Path(place) / "ucloud_slurm").is_dir()]
    mocker.patch.object(sys, "path", places)
    assert rendering.render(Request("tell"), within=10.0).script == "tell"


# ---- at the endpoint


def test_a_template_that_is_wrong_refuses_the_job_with_a_sentence(world: World) -> None:
    status, body = post(world, "jobs", job_data(app=app("tell {{ nothing }}")))
    assert status == 400
    assert body["why"].startswith("The application app-")
    assert "'nothing' is undefined" in body["why"]
    assert not world.model.jobs


def test_a_template_becomes_the_script_of_the_job(world: World) -> None:
    status, _ = post(world, "jobs", job_data("77", app=app("tell {{ a }}", parameter("a")), parameters={"a": text("x y")}))
    assert status == 200
    assert world.slurm("77").submission.script.endswith("\ntell 'x y'\n")


def test_on_a_host_that_is_too_busy_the_job_is_accepted_and_rendered_later(
    world: World, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    busy = mocker.patch("ucloud_slurm.provider.submission.render", side_effect=rendering.RenderingUnavailableError("busy"))
    assert post(world, "jobs", job_data("77", app=app("tell")))[0] == 200
    caplog.clear()
    world.work(20)
    assert world.model.of("77") == []
    assert [record.message for record in caplog.records if "77" in record.message] == ["job 77: not submitted yet: busy"]
    mocker.stop(busy)
    world.work(20)
    assert world.slurm("77").submission.script.endswith("\ntell\n")


def test_what_is_wrong_with_a_template_that_waited_is_the_failure_of_its_job(world: World, mocker: MockerFixture) -> None:
    busy = mocker.patch("ucloud_slurm.provider.submission.render", side_effect=rendering.RenderingUnavailableError("busy"))
    made = app("tell {{ nothing }}")
    assert post(world, "jobs", job_data("77", app=made))[0] == 200
    mocker.stop(busy)
    world.work(20)
    row = world.row("77")
    assert "'nothing' is undefined" in (row.refused_why or "")
