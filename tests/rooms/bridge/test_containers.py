"""Images: only the site's runtime runs them, and nothing that a user gave is an option of it."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.factories import application, parameter, var, word
from tests.support.scripts import PLAN, Node, build
from ucloud_slurm.bridge.script.resources import Plan
from ucloud_slurm.config import ContainersSection, parse_table
from ucloud_slurm.errors import Misconfigured, Refused

RUNTIMES = {"apptainer": "apptainer", "singularity": "singularity", "charliecloud": "ch-run"}
DATA = parameter("data", "input_file")


def settings(runtime: str, **more: Any) -> dict[str, Any]:
    return {"runtime": runtime, "images": ["/srv/images"], **more}


def image(name: str = "tools/acme:2.1", backend: str = "DOCKER", **more: Any) -> dict[str, Any]:
    return application(word("acme"), backend=backend, image=name, **more)


def last_line(**arguments: Any) -> str:
    return build(**arguments).script.splitlines()[-1]


@pytest.mark.parametrize("backend", ["DOCKER", "SINGULARITY"])
def test_without_a_runtime_an_image_is_refused_and_never_left_away(backend: str) -> None:
    with pytest.raises(Refused, match=f"{backend}.*no containers"):
        build(app=image(backend=backend))


def test_on_the_host_itself_docker_applications_run_without_their_image_and_others_do_not() -> None:
    assert last_line(app=image(), containers={"runtime": "host"}) == "exec -- acme"
    with pytest.raises(Refused, match="SINGULARITY"):
        build(app=image(backend="SINGULARITY"), containers={"runtime": "host"})


@pytest.mark.parametrize("backend", ["VIRTUAL_MACHINE", "NEW"])
def test_a_backend_that_is_not_offered_is_refused_whatever_the_runtime(backend: str) -> None:
    for runtime in ("none", "host", "apptainer"):
        with pytest.raises(Refused, match=backend):
            build(app=image(backend=backend), containers=settings(runtime))


@pytest.mark.parametrize(
    "name",
    [
        "-x",
        "--bind=/:/host",
        "/etc",
        "../x",
        "a/../b",
        "a b",
        "a,b",
        "$(id)",
        "docker://x",
        "a//b",
        "a:",
        ":a",
        "a:b:c",
        "a@sha256:12",
        "a\nb",
        "x" * 256,
        "a/",
        ".hidden",
        "a/.b",
        "ü",
    ],
)
def test_an_image_that_is_no_name_of_one_is_refused(name: str) -> None:
    for runtime in RUNTIMES:
        with pytest.raises(Refused, match="image"):
            build(app=image(name), containers=settings(runtime))


def test_an_application_that_names_no_image_is_refused() -> None:
    with pytest.raises(Refused, match="names no image"):
        build(app=application(word("x"), backend="DOCKER"), containers=settings("apptainer"))


@pytest.mark.parametrize("character", [":", ",", '"', "\\"])
def test_a_path_that_a_runtime_would_take_apart_is_refused_by_name(character: str) -> None:
    app = application(word("x"), var("data"), parameters=[DATA], backend="DOCKER", image="a")
    for runtime in RUNTIMES:
        more: dict[str, Any] = {"app": app, "containers": settings(runtime)}
        value = {"data": {"type": "file", "path": f"/home/a{character}b"}}
        with pytest.raises(Refused, match="The parameter 'data': a path with a colon"):
            build(parameters=value, roots=[{"ucloud": "/home", "local": "/home"}], **more)
        with pytest.raises(Refused, match=r"jobs\.folder"):
            build(app=image(), containers=settings(runtime), folder=f"/srv/a{character}b")


def test_a_wish_for_read_only_is_kept_where_the_runtime_can() -> None:
    roots = [{"ucloud": "/home", "local": "/home"}, {"ucloud": "/fixed", "local": "/fixed", "read_only": True}]
    resources = [
        {"type": "file", "path": "/home/a", "readOnly": True},
        {"type": "file", "path": "/home/b", "readOnly": False},
        {"type": "file", "path": "/fixed/c", "readOnly": False},
        {"type": "file", "path": "/home/b/d", "readOnly": True},
        {"type": "file", "path": "/home/b/d", "readOnly": False},
    ]
    binds = [
        word
        for word in last_line(app=image(), resources=resources, roots=roots, containers=settings("apptainer")).split()
        if word.startswith("--bind=")
    ]
    folder = "/home/someone/ucloud-jobs/54112"
    assert binds == [
        "--bind=/fixed/c:/fixed/c:ro",
        "--bind=/home/a:/home/a:ro",
        "--bind=/home/b:/home/b",
        "--bind=/home/b/d:/home/b/d:ro",
        f"--bind={folder}:{folder}",
    ]


def test_what_every_container_sees_is_bound_once_where_the_runtime_makes_no_mount_points() -> None:
    resources = [{"type": "file", "path": "/home/a", "readOnly": True}]
    more: dict[str, Any] = {"resources": resources, "roots": [{"ucloud": "/home", "local": "/home"}]}
    folder = "/home/someone/ucloud-jobs/54112"
    expected = {
        "charliecloud": ["--bind=/home:/home"],
        "apptainer": ["--bind=/home:/home", "--bind=/home/a:/home/a:ro", f"--bind={folder}:{folder}"],
    }
    for runtime, binds in expected.items():
        words = last_line(app=image(), containers=settings(runtime, binds=["/home"]), **more).split()
        assert [word for word in words if word.startswith("--bind")] == binds


def test_a_file_of_an_image_is_looked_for_on_the_cluster_only() -> None:
    made = build(app=image("acme.sif"), containers=settings("apptainer", registry="docker://")).script
    assert "\nucloud_image=''\n" in made
    assert "in /srv/images/acme.sif; do" in made


def test_the_jobs_own_folder_can_always_be_written() -> None:
    roots = [{"ucloud": "/home", "local": "{home}", "read_only": True}]
    resources = [{"type": "file", "path": path, "readOnly": True} for path in ("/home", "/home/ucloud-jobs/54112")]
    line = last_line(app=image(), resources=resources, roots=roots, containers=settings("apptainer"))
    assert "--bind=/home/someone/ucloud-jobs/54112:/home/someone/ucloud-jobs/54112 " in line


@pytest.mark.parametrize(("gres", "expected"), [("gpu:1", True), ("gpu", True), ("gpu:a100:2", True), (None, False)])
def test_gpus_are_let_in_when_the_job_has_some(gres: str | None, expected: bool) -> None:
    plan = Plan(nodes=1, cpus=1, memory=1, gres=gres, minutes=1)
    for runtime in ("apptainer", "singularity"):
        assert (" --nv " in last_line(plan=plan, app=image(), containers=settings(runtime))) is expected


@pytest.mark.parametrize(
    "name", ["PATH", "LD_PRELOAD", "APPTAINER_BIND", "APPTAINERENV_X", "SINGULARITY_BIND", "CH_RUN", "HOME", "TMPDIR"]
)
def test_a_variable_that_would_steer_the_runtime_is_refused_by_name(name: str) -> None:
    app = image(environment={name: word("x")})
    for runtime in RUNTIMES:
        with pytest.raises(Refused, match=name):
            build(app=app, containers=settings(runtime))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_values_reach_the_runtime_behind_its_options_and_the_environment_reaches_it_too(runtime: str, tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.program(RUNTIMES[runtime])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "tools%acme+2.1").touch()
    app = application(
        word("acme"),
        var("v"),
        parameters=[parameter("v")],
        backend="DOCKER",
        image="tools/acme:2.1",
        environment={"GREETING": var("v")},
    )
    for value in ("--bind=/:/host", "-W", "$(id)", "--", "it's"):
        seen = node.run(
            build(
                app=app,
                parameters={"v": {"type": "text", "value": value}},
                folder=str(node.jobs),
                containers={"runtime": runtime, "images": [str(tmp_path / "images")]},
            )
        )
        assert seen.arguments is not None, seen.errors
        place = seen.arguments.index(str(tmp_path / "images" / "tools%acme+2.1").encode())
        end = [b"--"] if runtime == "charliecloud" else []
        assert seen.arguments[place + 1 :] == [*end, b"acme", value.encode()]
        assert seen.environment[b"GREETING"] == value.encode()
        assert seen.environment[b"UCLOUD_JOB_ID"] == b"54112"


def test_a_local_image_stands_before_that_of_the_registry(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.program("apptainer")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    containers = {"runtime": "apptainer", "images": [str(tmp_path / name) for name in ("first", "second")]}

    def used(**more: Any) -> str:
        seen = node.run(build(app=image(), folder=str(node.jobs), containers=containers | more))
        return seen.errors if seen.arguments is None else seen.arguments[-2].decode()

    assert used() == "UCloud: there is no image tools/acme:2.1 on this cluster.\n"
    assert used(registry="docker://") == "docker://tools/acme:2.1"
    assert used(registry="docker://mirror.example.org/x/") == "docker://mirror.example.org/x/tools/acme:2.1"
    (tmp_path / "second" / "tools%acme+2.1.sif").touch()
    assert used(registry="docker://") == str(tmp_path / "second" / "tools%acme+2.1.sif")
    (tmp_path / "first" / "tools%acme+2.1").mkdir()
    assert used(registry="docker://") == str(tmp_path / "first" / "tools%acme+2.1")


@pytest.mark.parametrize(
    "section",
    [
        {"runtime": "docker"},
        {"runtime": "charliecloud"},
        {"runtime": "apptainer"},
        {"runtime": "apptainer", "registry": "http://x/"},
        {"runtime": "apptainer", "registry": "docker://x"},
        {"runtime": "apptainer", "registry": "docker://-x/"},
        {"runtime": "apptainer", "images": ["images"]},
        {"runtime": "apptainer", "images": ["/a:b"]},
        {"runtime": "host", "binds": ["/a,b"]},
        {"runtime": "host", "binds": ["/a/../b"]},
    ],
)
def test_a_section_that_cannot_work_is_an_error_of_the_configuration(section: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match=r"runtime|images|registry|binds"):
        parse_table(ContainersSection, section)


def test_every_node_of_a_job_runs_the_image_as_a_step() -> None:
    plan = Plan(nodes=2, cpus=PLAN.cpus, memory=1, gres=None, minutes=1)
    line = last_line(plan=plan, app=image(), replicas=2, containers=settings("charliecloud"))
    assert line.startswith("srun --export=ALL --nodes=2 --ntasks=2 ")
    assert line.endswith('"$ucloud_image" -- acme')
