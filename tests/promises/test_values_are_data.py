"""Whatever stands in a job arrives in its program byte for byte, or is refused by name. The scripts are really run."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.factories import application, jinja, parameter, text, var, word
from tests.support.scripts import Node, Seen, build
from ucloud_slurm.bridge.script.resources import Plan
from ucloud_slurm.errors import Refused
from ucloud_slurm.slurm.sbatch import options

# Each example starts processes, and all share one folder on purpose.
REALLY = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
HOSTILE = (
    "x\n#SBATCH --uid=0",
    "x\r#SBATCH --uid=0",
    "\u2028#SBATCH --uid=0",
    "\x85#SBATCH",
    "\x0b#SBATCH",
    "a\0b",
    "$(touch was-here)",
    "`touch was-here`",
    "'; touch was-here; '",
    '"',
    "\\",
    "${IFS}",
    "!!",
    "{a,b}",
    "~root",
    "*",
    "-",
    "--",
    "-x",
    "--wrap=id",
    "@/etc/passwd",
    "A=b",
    "if",
    "",
    " ",
    "\t",
    "é 🦆 \u202e",
    "x" * 1000,
    "%j",
    "a,b:c",
    "#SBATCH --uid=0",
    "\ud800",
    "eval",
    "../../etc",
    "/",
    "a/../../b",
)
ANY = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=40),
    st.text(alphabet=st.sampled_from("\n\r\t\x0b\x0c\x85\u2028#SBATCH --uid=0'\"$`\\;|&<>(){}[]*?!~ éx/.:,"), max_size=40),
)


UNTIL = '#!/bin/bash\nwhile [ "$1" != {} ]; do shift; done\nshift\nexec "$@"\n'
PROGRAMS = {
    "tell": None,
    "scontrol": "#!/bin/bash\necho n1\n",
    "srun": UNTIL.format("--"),
    "apptainer": UNTIL.format("docker://tools/acme:2.1"),
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("node"))
    for name, text_ in PROGRAMS.items():
        node.program(name, text_)
    yield node
    made = {path.name for path in node.folder.rglob("*") if path.is_file()} - set(PROGRAMS)
    assert made <= {"script", "hostfile", "arguments", "environment", "init.sh"}, "something else was run"


def attempt(node: Node, *names: str, **arguments: Any) -> Seen | None:
    """Builds and runs a job. None when it was refused, by a sentence that holds all those names."""
    try:
        submission = build(folder=str(node.jobs), **arguments)
    except Refused as refusal:
        for name in names:
            assert name in refusal.why  # noqa: PT017
        return None
    assert not any(line.lstrip().startswith("#SBATCH") for line in submission.script.splitlines())
    assert all(option.isprintable() for option in options(submission))
    seen = node.run(submission)
    assert seen.arguments is not None, seen.errors
    return seen


@REALLY
@given(ANY)
def test_a_parameter_arrives_byte_for_byte_or_is_refused_by_name(node: Node, value: str) -> None:
    app = application(word("tell"), word("first"), var("value"), parameters=[parameter("value")])
    seen = attempt(node, "'value'", app=app, parameters={"value": text(value)})
    if seen is not None:
        assert seen.arguments == [b"first", value.encode()]
    else:
        assert any(not character.isprintable() for character in value)


LINES = st.one_of(
    ANY,
    st.sampled_from(
        (
            "one\ntwo",
            "one\r\ntwo\r\n",
            "one\rtwo",
            "\n",
            "\n\n#SBATCH --uid=0\n",
            "#!/bin/sh\ntouch was-here",
            "'\ntouch was-here\n'",
            "\\\ntouch was-here",
            "x\\\n",
            "$'\\n'\n\\x41\\u00e9",
            "EOF\ntouch was-here\nEOF\n",
            "a\n\tb\n  c  \n",
            "🦆\né",
        )
    ),
    st.text(alphabet=st.sampled_from("\n\r\t\\'\"$`#{}x é;&"), max_size=30),
)


@REALLY
@given(LINES, st.sampled_from(["textarea", "text_area"]))
@pytest.mark.parametrize("way", ["a program", "a template", "two nodes", "a container"])
def test_a_text_area_arrives_as_one_value_with_its_lines(node: Node, way: str, value: str, kind: str) -> None:
    more: dict[str, Any] = {"parameters": [parameter("value", kind)], "environment": {"GREETING": var("value")}}
    building: dict[str, Any] = {}
    if way == "a container":
        more |= {"backend": "DOCKER", "image": "tools/acme:2.1"}
        building["containers"] = {"runtime": "apptainer", "registry": "docker://"}
    if way == "two nodes":
        building |= {"plan": Plan(nodes=2, cpus=1, memory=1, gres=None, minutes=1), "replicas": 2}
    words = [jinja("tell {{ value }}")] if way == "a template" else [word("tell"), var("value")]
    given = {"value": text(value)}
    try:
        submission = build(folder=str(node.jobs), app=application(*words, **more), parameters=given, **building)
    except Refused as refusal:
        assert "'value'" in refusal.why  # noqa: PT017
        assert any(not character.isprintable() and character not in "\n\r\t" for character in value)
        return
    seen = node.run(submission)
    lines = value.replace("\r\n", "\n").replace("\r", "\n").encode()
    assert seen.arguments == [lines], seen.errors
    assert seen.environment[b"GREETING"] == lines
    if way != "a template":  # whose author may have quoted the value himself
        assert not any(line.lstrip().startswith("#SBATCH") for line in submission.script.split("\n"))


@pytest.mark.parametrize("default", ["one\r\ntwo", {"type": "text", "value": "one\r\ntwo"}])
def test_the_default_of_a_text_area_may_have_several_lines(node: Node, default: Any) -> None:
    app = application(word("tell"), var("value"), parameters=[parameter("value", "textarea", defaultValue=default)])
    assert node.run(build(folder=str(node.jobs), app=app)).arguments == [b"one\ntwo"]


@pytest.mark.parametrize("kind", ["text", "enumeration"])
@pytest.mark.parametrize("value", ["one\ntwo", "one\r\n", "\r", "one\n"])
def test_a_line_break_in_a_parameter_of_one_line_is_refused_as_one(kind: str, value: str) -> None:
    more = {"options": [{"name": "a", "value": "b"}]} if kind == "enumeration" else {}
    app = application(word("tell"), var("value"), parameters=[parameter("value", kind, **more)])
    with pytest.raises(Refused, match=r"^The parameter 'value' takes one line only, and its value has a line break"):
        build(app=app, parameters={"value": text(value)})


@REALLY
@given(ANY, ANY)
def test_affixes_and_words_arrive_byte_for_byte(node: Node, value: str, affix: str) -> None:
    more = {"prefixVariable": affix, "isPrefixVariablePartOfArg": True}
    app = application(word("tell"), word(affix), var("value", **more), parameters=[parameter("value")])
    seen = attempt(node, app=app, parameters={"value": text(value)})
    if seen is not None:
        assert seen.arguments == [affix.encode(), (affix.strip() + value).encode()]


@REALLY
@given(ANY, st.sampled_from(["apptainer", None]))
def test_a_parameter_arrives_on_every_node_byte_for_byte(node: Node, value: str, runtime: str | None) -> None:
    app = application(
        word("tell"),
        var("value"),
        parameters=[parameter("value")],
        environment={"GREETING": var("value")},
        backend="DOCKER" if runtime else "NATIVE",
        image="tools/acme:2.1",
    )
    containers = {"runtime": runtime, "registry": "docker://"} if runtime else None
    plan = Plan(nodes=2, cpus=1, memory=1, gres=None, minutes=1)
    seen = attempt(node, "'value'", app=app, parameters={"value": text(value)}, replicas=2, plan=plan, containers=containers)
    if seen is not None:
        assert seen.arguments == [value.encode()]
        assert seen.environment[b"GREETING"] == value.encode()


@REALLY
@given(ANY)
def test_the_program_is_never_taken_for_a_word_of_the_shell(node: Node, name: str) -> None:
    app = application(var("program"), word("tell"), parameters=[parameter("program")])
    try:
        submission = build(folder=str(node.jobs), app=app, parameters={"program": text(name)})
    except Refused:
        return
    assert submission.script.splitlines()[-1].startswith("exec -- ")
    if "/" not in name:
        assert node.run(submission).arguments is None


@REALLY
@given(st.one_of(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True), ANY), ANY)
@example("UID", "5")
@example("PATH", "/nowhere")
@example("BASH_ENV", "x")
@example("IFS", "e")
@example("LD_LIBRARY_PATH", "/nowhere")
@example("RANDOM", "x")
@example("HOME", "")
def test_an_environment_variable_arrives_byte_for_byte_or_is_refused(node: Node, name: str, value: str) -> None:
    app = application(word(str(node.programs / "tell")), environment={name: word(value)})
    seen = attempt(node, app=app)
    if seen is not None and name != "PATH":  # the program that tells could not find what it is made of
        assert seen.environment[name.encode()] == value.encode()


@REALLY
@given(ANY)
def test_the_jobs_name_reaches_neither_the_script_nor_another_option(node: Node, name: str) -> None:
    app = application(word("tell"))
    seen = attempt(node, app=app, name=name)
    assert seen is not None
    one, other = build(app=app, name=name), build(app=app, name=None)
    assert one.script == other.script
    assert re.fullmatch(r"ucloud-54112(-[A-Za-z0-9-]+)?", one.name)
    assert [a for a, b in zip(options(one), options(other), strict=True) if a != b] in ([], [f"--job-name={one.name}"])


@REALLY
@given(st.lists(ANY, max_size=4))
def test_a_path_stays_below_its_root_or_is_refused_by_name(node: Node, parts: list[str]) -> None:
    root = node.folder / "data"
    root.mkdir(exist_ok=True)
    path = "/".join(["/home", *parts])
    app = application(word("tell"), var("data"), parameters=[parameter("data", "input_file")])
    try:
        submission = build(
            app=app,
            folder=str(node.jobs),
            parameters={"data": {"type": "file", "path": path, "readOnly": False}},
            roots=[{"ucloud": "/home", "local": str(root)}],
        )
    except Refused as refusal:
        assert "'data'" in refusal.why  # noqa: PT017
        return
    seen = node.run(submission)
    if seen.arguments is not None:  # the path was there: the root itself
        assert seen.arguments == [str(root).encode()]
    else:
        assert "The parameter 'data'" in seen.errors
    assert not {"..", ".", ""} & set(path[1:].split("/"))


@REALLY
@given(ANY)
@example("gcc/12")
def test_a_module_arrives_byte_for_byte_or_is_refused_by_name(node: Node, name: str) -> None:
    init = node.folder / "init.sh"
    init.write_text(f'module() {{ printf "%s\\0" "$@" > {node.seen}/environment; }}\n')
    try:
        submission = build(app=application(word("true"), modules=[name]), folder=str(node.jobs), modules_init=str(init))
    except Refused as refusal:
        assert "requiredModules" in refusal.why  # noqa: PT017
        return
    init.write_text(f'module() {{ printf "a=%s\\0" "$@" > {node.seen}/environment; }}\n')
    assert node.run(submission).environment == {b"a": name.encode()}


@REALLY
@given(ANY)
@example("tools/acme:2.1")
@example("--bind=/:/host")
@example("docker://x")
@example("/etc")
def test_an_image_is_one_word_behind_the_options_or_is_refused(node: Node, image: str) -> None:
    runtimes = {"apptainer": "docker://", "singularity": "docker://", "charliecloud": ""}
    for runtime in runtimes:
        app = application(word("tell"), word("x"), backend="SINGULARITY", image=image)
        settings_ = {"runtime": runtime, "images": ["/srv/images"], "registry": "docker://"}
        try:
            submission = build(app=app, folder=str(node.jobs), containers=settings_)
        except Refused as refusal:
            assert "image" in refusal.why  # noqa: PT017
            continue
        assert image[0].isalnum()
        assert ".." not in image.split("/")
        assert submission.script.splitlines()[-1].endswith(
            '"$ucloud_image" -- tell x' if runtime == "charliecloud" else '"$ucloud_image" tell x'
        )


@REALLY
@given(ANY)
def test_a_project_or_account_that_is_no_plain_name_never_becomes_a_part_of_a_path(node: Node, name: str) -> None:
    app = application(word("tell"), var("data"), parameters=[parameter("data", "input_directory")])
    for place in ("user", "account", "project"):
        more: dict[str, Any] = {place: name}
        root = {"ucloud": "/data", "local": f"/projects/{{{place}}}"}
        try:
            found = build(app=app, parameters={"data": {"type": "file", "path": "/data/x"}}, roots=[root], **more)
        except Refused as refusal:
            assert "'data'" in refusal.why  # noqa: PT017
            continue
        # Without an account of the owner's it is that of the product.
        part = name or ("proj-a" if place == "account" else "")
        assert f"/projects/{part}/x" in found.script
        assert re.fullmatch(r"\w[\w.@+-]*", part, re.ASCII)
