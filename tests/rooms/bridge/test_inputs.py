"""Files: UCloud's paths become local ones below their roots, and nothing else; links are looked at on the node."""

from pathlib import Path
from typing import Any

import pytest

from tests.rooms.config.test_config import GOOD
from tests.support.factories import application, parameter, var, word
from tests.support.scripts import Node, build
from ucloud_slurm.config import parse
from ucloud_slurm.errors import Misconfigured, Refused
from ucloud_slurm.slurm.records import Submission

APP = application(word("tell"), var("data"), parameters=[parameter("data", "input_file")])
HOME = {"ucloud": "/home", "local": "{home}"}
PROJECT = "6b2e1c8e-0000-4000-8000-000000000000"


def job_with(path: str, *roots: dict[str, Any], **more: Any) -> Submission:
    return build(app=APP, parameters={"data": {"type": "file", "path": path}}, roots=roots or [HOME], **more)


def local(path: str, *roots: dict[str, Any], **more: Any) -> str:
    """The local path that the program sees."""
    last = job_with(path, *roots, **more).script.splitlines()[-1]
    return last.removeprefix("exec -- tell ")


@pytest.mark.parametrize(
    ("path", "roots", "expected"),
    [
        ("/home/a/b", [HOME], "/home/someone/a/b"),
        ("/home", [HOME], "/home/someone"),
        ("/home/a", [{"ucloud": "/", "local": "/all"}, HOME], "/home/someone/a"),
        ("/homes/a", [{"ucloud": "/", "local": "/all"}, HOME], "/all/homes/a"),
        ("/home/x/a", [HOME, {"ucloud": "/home/x", "local": "/x"}], "/x/a"),
        ("/someone/a", [{"ucloud": "/{user}", "local": "/data/{user}"}], "/data/someone/a"),
        ("/proj-a/a", [{"ucloud": "/{account}", "local": "/projects/{account}"}], "/projects/proj-a/a"),
        ("/p/a", [{"ucloud": "/p", "local": "/projects/{project}"}, {"ucloud": "/", "local": "/all"}], "/all/p/a"),
    ],
)
def test_the_longest_prefix_of_whole_parts_says_where_a_file_is(path: str, roots: Any, expected: str) -> None:
    assert local(path, *roots) == expected


def test_a_place_of_the_project_is_for_its_jobs_only() -> None:
    root = {"ucloud": "/{project}", "local": "/projects/{project}"}
    assert local(f"/{PROJECT}/a", root, project=PROJECT) == f"/projects/{PROJECT}/a"
    for project in (None, "another"):
        with pytest.raises(Refused, match="The parameter 'data': this provider has no files"):
            job_with(f"/{PROJECT}/a", root, project=project)
    with pytest.raises(Refused, match="The parameter 'data': the name of the job's project"):
        job_with("/a", root, project="..")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "does not begin with a slash"),
        ("home/a", "does not begin with a slash"),
        ("../../etc", "does not begin with a slash"),
        ("/home/../../etc/shadow", "two dots"),
        ("/home/a/../../b", "two dots"),
        ("/home/..", "two dots"),
        ("/home/.", "a dot"),
        ("/home//a", "empty"),
        ("/home/a/", "empty"),
        ("//etc/passwd", "empty"),
        ("/home/a\0b", "U+0000"),
        ("/home/a\nb", "U+000A"),
        ("/home/a\tb", "U+0009"),
        ("/home/\x85", "U+0085"),
        ("/home/\u2028", "U+2028"),
        ("/home/" + "x" * 256, "255 bytes"),
        ("/home/" + "é" * 128, "255 bytes"),
        ("/home" + "/" + "/".join(["x" * 250] * 20), "4095 bytes"),
        ("/etc/passwd", "no files at '/etc/passwd'"),
        ("/homes/a", "no files at"),
        ("/", "no files at"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused_by_the_name_of_its_parameter(path: str, words: str) -> None:
    with pytest.raises(Refused, match="The parameter 'data'") as raised:
        job_with(path)
    assert words in raised.value.why


def test_without_a_configured_root_every_file_is_refused() -> None:
    with pytest.raises(Refused, match="The parameter 'data': this provider has no files"):
        build(app=APP, parameters={"data": {"type": "file", "path": "/home/a"}})


@pytest.mark.parametrize("name", ["..", ".", "a/b", "", "-rf", "a\nb", "ü", "x" * 65, ".ssh"])
def test_a_name_that_is_no_plain_one_is_refused_as_a_part_of_a_path(name: str) -> None:
    with pytest.raises(Refused, match="The parameter 'data': the name of the job's user"):
        job_with("/data/a", {"ucloud": "/data", "local": "/projects/{user}"}, user=name)
    with pytest.raises(Refused, match="The parameter 'data'"):
        job_with("/data/a", {"ucloud": "/data", "local": "{home}"}, home=f"/home/../{name}")


def test_a_default_is_a_file_as_well_whatever_its_shape() -> None:
    for default in ("/home/a", {"type": "file", "path": "/home/a"}, {"value": "/home/a"}):
        declared = parameter("data", "input_directory", defaultValue=default)
        made = build(app=application(word("tell"), var("data"), parameters=[declared]), roots=[HOME])
        assert made.script.endswith("exec -- tell /home/someone/a\n")
        assert "ucloud_input 'The parameter" in made.script


@pytest.mark.parametrize("kind", ["peer", "license_server", "network", "ingress", "block_storage", "new"])
def test_what_cannot_be_attached_is_refused_by_its_place(kind: str) -> None:
    with pytest.raises(Refused, match=r"specification\.resources\[1\]"):
        build(app=application(word("x")), resources=[{"type": "file", "path": "/home/a"}, {"type": kind}], roots=[HOME])


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.program("tell")
    (tmp_path / "data/inner").mkdir(parents=True)
    (tmp_path / "data-of-others").mkdir()
    (tmp_path / "data/file").touch()
    (tmp_path / "data/loop").symlink_to("loop")
    (tmp_path / "data/near").symlink_to("inner")
    (tmp_path / "data/out").symlink_to("/etc")
    (tmp_path / "data/beside").symlink_to(tmp_path / "data-of-others")
    (tmp_path / "linked").symlink_to("data")
    return node


def started(node: Node, path: str, root: str = "data") -> str | None:
    """What the job said instead of starting its program; None when it was started."""
    roots = [{"ucloud": "/r", "local": str(node.folder / root)}]
    made = build(app=APP, parameters={"data": {"type": "file", "path": path}}, roots=roots, folder=str(node.jobs))
    seen = node.run(made)
    assert (seen.status == 0) == (seen.arguments is not None)
    return None if seen.arguments is not None else seen.errors


@pytest.mark.parametrize("path", ["/r", "/r/file", "/r/inner", "/r/near"])
def test_a_file_below_its_root_is_used_where_it_is(node: Node, path: str) -> None:
    assert started(node, path) is None
    assert started(node, path, "linked") is None


@pytest.mark.parametrize("path", ["/r/out", "/r/out/passwd", "/r/beside"])
def test_a_link_out_of_the_root_ends_the_job_before_the_program(node: Node, path: str) -> None:
    said = started(node, path)
    place = f"{node.folder}/data{path.removeprefix('/r')}"
    assert said == f"UCloud: The parameter 'data': {place} leads out of {node.folder}/data.\n"


@pytest.mark.parametrize("path", ["/r/none", "/r/loop", "/r/file/below"])
def test_a_missing_file_ends_the_job_by_its_name(node: Node, path: str) -> None:
    said = started(node, path)
    assert said is not None
    assert said.startswith(f"UCloud: The parameter 'data': there is no {node.folder}/data/")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("root", "words"),
    [
        ({"ucloud": "home", "local": "/x"}, "files[1].ucloud"),
        ({"ucloud": "/home/", "local": "/x"}, "files[1].ucloud"),
        ({"ucloud": "/a/../b", "local": "/x"}, "files[1].ucloud"),
        ({"ucloud": "/a", "local": "x"}, "files[1].local"),
        ({"ucloud": "/a", "local": "/x/{uid}"}, "files[1].local"),
        ({"ucloud": "/a", "local": "/x/{home}"}, "files[1].local"),
        ({"ucloud": "/a", "local": "/x:y"}, "files[1].local"),
        ({"ucloud": "/a", "local": "/"}, "local"),
        ({"ucloud": "{home}", "local": "/x"}, "ucloud"),
    ],
)
def test_a_root_that_is_none_is_an_error_of_the_configuration(root: dict[str, Any], words: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        parse({"files": [root]})
    assert any(words in sentence for sentence in raised.value.sentences), raised.value.sentences


def test_a_prefix_means_one_folder() -> None:
    with pytest.raises(Misconfigured, match="files: two tables have the same prefix"):
        parse(GOOD | {"files": [HOME, HOME]})
