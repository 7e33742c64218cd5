"""Bad input of every class, from UCloud's message to the arguments of sbatch: an honest value, or a named refusal."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.factories import application, job, job_data, parameter, text, var, word
from tests.support.scripts import PLAN, build
from ucloud_slurm.bridge.script.resources import Plan, plan
from ucloud_slurm.config import Product
from ucloud_slurm.errors import Refused
from ucloud_slurm.slurm.records import NodeGroup, Partition
from ucloud_slurm.slurm.sbatch import options
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.products import ComputeProduct, ProductCategoryId
from ucloud_slurm.ucloud.wire import from_data

LINES = (
    "x\n#SBATCH --uid=0",
    "x\r#SBATCH --uid=0",
    "x\u2028#SBATCH",
    "x\u2029y",
    "x\x85#SBATCH",
    "x\x0b#SBATCH",
    "x\x0cy",
    "x\0y",
    "\x1b[2J",
    "\x7f",
    "\ud800",
)
VALUE = parameter("value")
PRODUCT = Product(id="example-compute-1", category="example-compute", partition="cpu")
CPU = Partition("cpu", True, minutes=7 * 24 * 60, nodes_max=None, groups=(NodeGroup(4, 16, 64_000, ""),))


def planned(data: dict[str, Any], product: Product = PRODUCT, partition: Partition | None = CPU, **dimensions: int) -> Plan:
    """What a job gets, from UCloud's message on."""
    made = from_data(Job, data)
    app = made.status.resolved_application
    assert app is not None
    known = ComputeProduct(name=product.id, category=ProductCategoryId(name=product.category, provider="example"), **dimensions)
    return plan(made, app, product, known, partition)


# ---- text that could begin a line of its own


@pytest.mark.parametrize("line", LINES, ids=ascii)
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("parameter", "The parameter 'value'"),
        ("default", "The parameter 'value'"),
        ("word", "The command of the application"),
        ("prefix", "The command of the application"),
        ("environment", "The environment variable 'A'"),
        ("variable", "environment variable"),
        ("module", "requiredModules"),
        ("image", "image"),
        ("path", "The parameter 'data'"),
        ("resource", "specification.resources[0]"),
    ],
)
def test_a_second_line_is_refused_wherever_it_stands(place: str, words: str, line: str) -> None:
    at_home = {"type": "file", "path": f"/home/{line}"}
    given: dict[str, dict[str, Any]] = {
        "parameter": {"app": application(var("value"), parameters=[VALUE]), "parameters": {"value": text(line)}},
        "default": {"app": application(var("value"), parameters=[parameter("value", defaultValue=line)])},
        "word": {"app": application(word("x"), word(line))},
        "prefix": {
            "app": application(var("value", prefixVariable=f"-{line}-"), parameters=[VALUE]),
            "parameters": {"value": text("x")},
        },
        "environment": {"app": application(word("x"), environment={"A": word(line)})},
        "variable": {"app": application(word("x"), environment={f"A{line}": word("x")})},
        "module": {"app": application(word("x"), modules=[line])},
        "image": {
            "app": application(word("x"), backend="DOCKER", image=line),
            "containers": {"runtime": "apptainer", "registry": "docker://"},
        },
        "path": {
            "app": application(var("data"), parameters=[parameter("data", "input_file")]),
            "parameters": {"data": at_home},
        },
        "resource": {"app": application(word("x")), "resources": [at_home]},
    }
    with pytest.raises(Refused) as raised:
        build(roots=[{"ucloud": "/home", "local": "/home"}], **given[place])
    assert words in raised.value.why


@pytest.mark.parametrize("line", [*LINES[:-1], "--wrap=id", "-x", "a,b", "ü" * 1000, "%j", "../..", "; id", "\u202e"])
def test_the_jobs_own_name_becomes_a_slug_of_at_most_64_letters(line: str) -> None:
    made = build(app=application(word("x")), name=line)
    assert made.name.startswith("ucloud-54112")
    assert len(made.name) <= 64
    assert set(made.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


# ---- size


def test_one_value_may_be_as_long_as_linux_allows_and_no_longer() -> None:
    app = application(word("x"), var("value"), parameters=[VALUE])
    build(app=app, parameters={"value": text("x" * 131_071)})
    for value in ("x" * 131_072, "é" * 65_536, "x" * 2**20):
        with pytest.raises(Refused, match="131071"):
            build(app=app, parameters={"value": text(value)})


def test_ten_thousand_parameters_are_refused_with_the_limit() -> None:
    names = [f"p{number}" for number in range(10_000)]
    app = application(word("x"), var(*names), parameters=[parameter(name) for name in names])
    build(app=app, parameters={name: text("x") for name in names})
    with pytest.raises(Refused, match="1048576 bytes"):
        build(app=app, parameters={name: text("x" * 200) for name in names})


def test_an_environment_counts_as_well() -> None:
    with pytest.raises(Refused, match="'A' is too long"):
        build(app=application(word("x"), environment={"A": word("x" * 131_071)}))
    many = {f"A{number}": word("x" * 100_000) for number in range(11)}
    with pytest.raises(Refused, match="1048576 bytes"):
        build(app=application(word("x"), environment=many))


def test_more_files_than_a_runtime_can_be_told_are_refused() -> None:
    files = [{"type": "file", "path": f"/home/{'x' * 250}/{number}"} for number in range(3000)]
    more: dict[str, Any] = {"resources": files, "roots": [{"ucloud": "/home", "local": "/home"}]}
    build(app=application(word("x")), **more)
    with pytest.raises(Refused, match="files are too long together"):
        build(
            app=application(word("x"), backend="DOCKER", image="a"),
            containers={"runtime": "apptainer", "images": ["/srv"]},
            **more,
        )


# ---- options


def test_no_field_of_a_job_is_an_option_of_sbatch() -> None:
    wishes = {
        "account": "root",
        "partition": "secret",
        "qos": "high",
        "reservation": "r",
        "uid": 0,
        "gid": 0,
        "prolog": "/x",
        "mailUser": "x",
        "dependency": "afterok:1",
        "wrap": "id",
        "output": "/root/x",
        "bcast": "x",
        "container": "/x",
        "options": ["--uid=0"],
        "sbatchOptions": "--uid=0",
        "exclusive": True,
        "signal": "KILL@1",
    }
    app = application(word("x"), parameters=[VALUE])
    values = {"value": text("--account=root --uid=0")}
    data = job_data(app=app, parameters=values)
    data["specification"] |= wishes
    data |= wishes
    assert from_data(Job, data) == job(app=app, parameters=values)


def test_every_option_is_one_that_is_decided_here() -> None:
    names = [option.partition("=")[0] for option in options(build(app=application(word("x")), replicas=1))]
    assert names == [
        "--parsable",
        "--job-name",
        "--comment",
        "--partition",
        "--account",
        "--nodes",
        "--ntasks-per-node",
        "--cpus-per-task",
        "--mem",
        "--time",
        "--chdir",
        "--output",
        "--error",
        "--open-mode",
        "--export",
    ]


# ---- numbers


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": 0},
        {"replicas": -1},
        {"replicas": "2"},
        {"replicas": 1.5},
        {"replicas": True},
        {"replicas": 2**63},
        {"replicas": float("nan")},
        {"replicas": float("inf")},
        {"timeAllocation": {"hours": -1, "minutes": 0, "seconds": 0}},
        {"timeAllocation": {"hours": 0, "minutes": 60, "seconds": 0}},
        {"timeAllocation": {"hours": 0, "minutes": 0, "seconds": 60}},
        {"timeAllocation": {"hours": 0, "minutes": 0.5, "seconds": 0}},
        {"timeAllocation": {"hours": 0, "minutes": 0, "seconds": 0}},
        {"timeAllocation": {"hours": 10 * 365 * 24 + 1, "minutes": 0, "seconds": 0}},
        {"timeAllocation": {"hours": 2**62, "minutes": 0, "seconds": 0}},
        {"replicas": 2**31},
        {"replicas": 65_534},
    ],
    ids=str,
)
def test_a_number_that_cannot_be_is_refused_by_its_field_before_slurm_sees_it(change: dict[str, Any]) -> None:
    (field,) = change
    for partition in (CPU, None):
        with pytest.raises(Refused, match=f"{field}|at most 4 nodes"):
            planned(job_data(**change), partition=partition)


def test_a_number_of_nodes_that_cannot_be_is_refused_wherever_it_stands() -> None:
    data = job_data()
    data["status"]["jobParametersJson"] = {"request": {"replicas": 2**31}}
    with pytest.raises(Refused, match=r"specification\.replicas: a job may have at most 65533 nodes"):
        planned(data, partition=None)


@pytest.mark.parametrize(
    ("dimensions", "words"),
    [
        ({"cpu": 10**9}, "larger than any"),
        ({"memory_in_gigs": 2**62}, "larger than any"),
        ({"cpu": 17}, "17 CPUs"),
        ({"memory_in_gigs": 63}, "64512 MiB"),
        ({"gpu": 1}, "gpu:1"),
    ],
)
def test_a_node_that_nobody_has_is_refused_with_its_size(dimensions: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        planned(job_data(), **dimensions)


@pytest.mark.parametrize(
    ("seconds", "minutes"),
    [(1, 1), (59, 1), (60, 1), (61, 2), (3599, 60), (3600, 60), (25 * 3600, 1500), (7 * 24 * 3600, 10_080)],
)
def test_time_is_given_to_slurm_in_whole_minutes_rounded_up(seconds: int, minutes: int) -> None:
    hours, rest = divmod(seconds, 3600)
    time = {"hours": hours, "minutes": rest // 60, "seconds": rest % 60}
    assert planned(job_data(timeAllocation=time)).minutes == minutes
    made = build(Plan(1, 1, 1, None, minutes), app=application(word("x")))
    assert f"--time={minutes}" in options(made)
    assert f"export UCLOUD_TIME_LIMIT={minutes}\n" in made.script


def test_a_minute_more_than_the_partition_allows_is_refused_with_the_limit() -> None:
    with pytest.raises(Refused, match="at most 7 days"):
        planned(job_data(timeAllocation={"hours": 7 * 24, "minutes": 0, "seconds": 1}))


@pytest.mark.parametrize(("gib", "mebibytes"), [(0.5, 512), (1, 1024), (3.75, 3840), (187.5, 192_000), (1 / 1024, 1)])
def test_memory_is_exact_to_the_mebibyte(gib: float, mebibytes: int) -> None:
    product = replace(PRODUCT, memory_gb=gib)
    memory = planned(job_data(), product, None).memory
    assert memory == mebibytes
    assert f"--mem={mebibytes}M" in options(build(Plan(1, 1, memory, None, 1), app=application(word("x"))))


def test_nothing_is_decided_twice_differently() -> None:
    """The same job gives the same script and the same options, whatever the order of its maps."""
    app = application(word("x"), var("a", "b"), parameters=[parameter("a"), parameter("b")])
    one = build(PLAN, app=app, parameters={"a": text("1"), "b": text("2")})
    assert one == build(PLAN, app=app, parameters={"b": text("2"), "a": text("1")})
