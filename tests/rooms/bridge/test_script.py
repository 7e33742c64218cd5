"""The batch script: values are data, options are arguments."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.support.factories import application, jinja, parameter, text, var, word
from tests.support.scripts import build
from ucloud_slurm.bridge.script.resources import Plan
from ucloud_slurm.errors import Refused
from ucloud_slurm.slurm.sbatch import options

GOLDEN = Path(__file__).parent / "golden"
ECHO = application(word("printf"), word("%s\\n"), var("value"), parameters=[parameter("value")])
TWO = Plan(nodes=2, cpus=4, memory=2048, gres="gpu:1", minutes=90)
DATA = parameter("data", "input_file")
ROOTS = [{"ucloud": "/home", "local": "{home}"}, {"ucloud": "/library", "local": "/srv/library", "read_only": True}]
IMAGES = {"images": ["/srv/images"], "registry": "docker://registry.example.org/mirror/"}
TOOL = application(
    word("acme"), var("data"), parameters=[DATA], backend="DOCKER", image="tools/acme:2.1", environment={"MODE": word("fast")}
)
INPUTS: dict[str, Any] = {
    "parameters": {"data": {"type": "file", "path": "/home/run 1/in.dat", "readOnly": True}},
    "resources": [{"type": "file", "path": "/library/genomes", "readOnly": False}],
    "roots": ROOTS,
}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("one-node", {"app": ECHO, "parameters": {"value": text('it\'s $HOME; `id` \\ "x"')}}),
        ("two-nodes", {"app": application(word("hostname")), "replicas": 2, "plan": TWO}),
        ("files", {"app": application(word("wc"), var("data"), parameters=[DATA]), **INPUTS}),
        ("modules", {"app": application(word("gmx"), modules=["gcc/12", "gromacs/2023.1+cuda"])}),
        ("apptainer", {"app": TOOL, "containers": {"runtime": "apptainer", **IMAGES}, **INPUTS}),
        ("singularity", {"app": TOOL, "containers": {"runtime": "singularity", **IMAGES}, **INPUTS}),
        ("charliecloud", {"app": TOOL, "containers": {"runtime": "charliecloud", "binds": ["/home"], **IMAGES}, **INPUTS}),
        (
            "two-nodes-in-a-container",
            {"app": TOOL, "containers": {"runtime": "apptainer", **IMAGES}, "replicas": 2, "plan": TWO, **INPUTS},
        ),
        (
            "template",
            {
                "app": application(
                    jinja(
                        "# Made for {{ name }}\nset -e\n"
                        "{{ sbatch('ntasks-per-node', 4) }}{- applicationLoad -}{{ loadApplication('fftw', '3') }}\n"
                        "{% if data is defined %}cp {{ data }} in.dat\n{% endif %}"
                        "{{ srun() }} acme {{ name | option('--name') }} --seed={{ seed }} \"for {{ name }}\" \\\n"
                        "    {{ fast | flag('--fast') }} > out.log"
                    ),
                    parameters=[
                        DATA,
                        parameter("name"),
                        parameter("seed", "integer", defaultValue=5),
                        parameter("fast", "boolean", optional=True),
                    ],
                    modules=["gcc/12"],
                    load=[("acme", "2.1")],
                    environment={"RUN": word("{{ ucloud.jobId }} {{ name }}")},
                    sbatch={"hint": word("{{ 'nomultithread' if seed }}")},
                ),
                "applications": {
                    "sbatch_options": ["ntasks-per-node", "hint"],
                    "srun_options": ["--mpi=pmix"],
                    "load": {"acme/2.1": ["openmpi/4", "acme/2.1.3"]},
                },
                "plan": TWO,
                "replicas": 2,
                "epilogue": "/etc/ucloud/end.sh",
                "roots": ROOTS,
                "parameters": {
                    "data": {"type": "file", "path": "/home/run 1/in.dat", "readOnly": True},
                    "name": text("it's $HOME"),
                    "ucMetricSampleRate": text("0ms"),
                },
            },
        ),
        ("signal", {"app": application(word("acme")), "signal": "USR1@5m"}),
        (
            "signal-and-epilogue",
            {
                "app": application(word("acme")),
                "signal": "TERM@90s",
                "prologue": "/etc/ucloud/begin.sh",
                "epilogue": "/etc/ucloud/end.sh",
                "exclusive": True,
                "options": ["--nice=100", "--no-requeue"],
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


def test_an_application_of_one_node_is_not_spread_over_many() -> None:
    with pytest.raises(Refused, match="one node"):
        build(app=application(word("x"), allowMultiNode=False), plan=Plan(2, 1, 1, None, 1), replicas=2)
