"""The batch script: values are data, options are arguments."""

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import application, job, parameter, text, var, word
from ucloud_slurm.bridge.batch import Person, batch_job
from ucloud_slurm.bridge.plan import Plan
from ucloud_slurm.config import Product
from ucloud_slurm.errors import Refused
from ucloud_slurm.slurm.commands import options
from ucloud_slurm.slurm.records import Submission

GOLDEN = Path(__file__).parent / "golden"
PLAN = Plan(nodes=1, cpus=1, memory=1024, gres=None, minutes=60)
PERSON = Person("someone", "/home/someone", "/bin/bash")
ECHO = application(word("printf"), word("%s\\n"), var("value"), parameters=[parameter("value")])


def build(plan: Plan = PLAN, folder: str = "{home}/ucloud-jobs", **more: Any) -> Submission:
    made = job(**more)
    app = made.status.resolved_application
    assert app is not None
    product = Product(id="example-compute-1", category="example-compute", partition="cpu", account="proj-a")
    return batch_job(made, app, product, plan, PERSON, provider="example", folder=folder)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("one-node", {"app": ECHO, "parameters": {"value": text('it\'s $HOME; `id` \\ "x"')}}),
        (
            "two-nodes",
            {
                "app": application(word("hostname")),
                "replicas": 2,
                "plan": Plan(nodes=2, cpus=4, memory=2048, gres="gpu:1", minutes=90),
            },
        ),
        (
            "environment",
            {
                "app": application(
                    word("env"),
                    parameters=[parameter("value")],
                    environment={
                        "GREETING": var("value", prefixGlobal="Hello"),
                        "PLACE": {"type": "env", "variable": "HOSTNAME"},
                    },
                ),
                "parameters": {"value": text("it's me")},
            },
        ),
    ],
)
def test_the_script_is_as_it_was(name: str, arguments: dict[str, Any]) -> None:
    submission = build(**arguments)
    seen = "\n".join(shlex.quote(option) for option in options(submission)) + "\n\n" + submission.script
    assert seen == (GOLDEN / f"{name}.txt").read_text()


@given(st.text())
def test_any_text_arrives_byte_for_byte_or_is_refused_by_name(value: str) -> None:
    try:
        submission = build(app=ECHO, parameters={"value": text(value)}, folder="/tmp/nowhere")
    except Refused as refusal:
        assert "'value'" in refusal.why  # noqa: PT017
        assert any(not character.isprintable() for character in value)
        return
    command = submission.script.splitlines()[-1]
    done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, check=True)
    assert done.stdout == value.encode() + b"\n"


@given(st.text(alphabet=st.sampled_from("\n\r\x0b\x0c\x85\u2028\u2029#SBATCH --uid=0'\"$` x")))
def test_no_line_of_the_script_is_a_directive(value: str) -> None:
    for place in ("parameter", "word", "name", "environment", "product"):
        app = {
            "word": application(word("x"), word(value)),
            "environment": application(word("x"), environment={"A": word(value)}),
        }.get(place, ECHO)
        try:
            submission = build(
                app=app,
                parameters={"value": text(value if place == "parameter" else "x")},
                name=value if place == "name" else None,
            )
        except Refused:
            continue
        assert not any(line.lstrip().startswith("#SBATCH") for line in submission.script.splitlines())
        assert all("\n" not in option for option in options(submission))


@pytest.mark.parametrize("name", ["--wrap=id", "-x", "a,b", "ü" * 300, "x\n#SBATCH", "%j", "../..", "; id"])
def test_the_slurm_name_is_a_plain_word_that_begins_with_the_job_id(name: str) -> None:
    submission = build(name=name)
    assert submission.name.startswith("ucloud-54112")
    assert len(submission.name) <= 64
    assert set(submission.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


def test_a_percent_sign_in_a_path_is_not_a_pattern() -> None:
    given_options = options(build(folder="/scratch/%u"))
    assert "--output=/scratch/%%u/54112/stdout-0.log" in given_options


def test_what_is_too_long_is_refused_with_the_limit() -> None:
    with pytest.raises(Refused, match="131071"):
        build(app=ECHO, parameters={"value": text("x" * 200_000)})


@pytest.mark.parametrize("name", ["A B", "1A", "A=1", "A\n", "", "SLURM_JOB_ID", "SBATCH_UID", "UCLOUD_JOB_ID"])
def test_an_impossible_or_reserved_variable_name_is_refused(name: str) -> None:
    with pytest.raises(Refused):
        build(app=application(word("x"), environment={name: word("y")}))


@pytest.mark.parametrize("backend", ["VIRTUAL_MACHINE", "SINGULARITY", "NEW"])
def test_a_backend_that_is_not_offered_is_refused(backend: str) -> None:
    with pytest.raises(Refused, match=backend):
        build(app=application(word("x"), backend=backend))


def test_an_application_of_one_node_is_not_spread_over_many() -> None:
    with pytest.raises(Refused, match="one node"):
        build(app=application(word("x"), allowMultiNode=False), plan=Plan(2, 1, 1, None, 1), replicas=2)


def test_attached_resources_are_refused_and_not_forgotten() -> None:
    with pytest.raises(Refused, match=r"specification\.resources"):
        build(app=ECHO, parameters={"value": text("x")}, resources=[{"type": "file", "path": "/1/x"}])
