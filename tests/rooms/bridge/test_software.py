"""Software by name and version: which version is taken, and which modules are loaded for it."""

from typing import Any

import pytest

from tests.support.factories import application, jinja, parameter, text, word
from tests.support.scripts import build
from ucloud_slurm.bridge.script.software import Policy, chosen
from ucloud_slurm.bridge.template.messages import Request
from ucloud_slurm.errors import Refused
from ucloud_slurm.provider import rendering

LOAD = {"gromacs/2021.5": ["GCC/11.2.0", "GROMACS/2021.5"], "gromacs/2023.1": ["GROMACS/2023.1"], "fftw": ["FFTW/3.3.10"]}
GROMACS = ["gromacs", "2022"]


def loads(app: dict[str, Any], policy: str | None = None, **more: Any) -> list[str]:
    """The modules that the script of a job loads."""
    settings = {"load": LOAD} | ({} if policy is None else {"versions": policy})
    script = build(app=app, applications=settings, **more).script
    return [line.split("||")[0].split()[2] for line in script.splitlines() if line.startswith("module load")]


# The first four rows of lists are those of UCloud's own documentation.
@pytest.mark.parametrize(
    ("wanted", "available", "exact", "newer", "older", "any_"),
    [
        ("1.2", ["1.2-cray"], "1.2-cray", "1.2-cray", "1.2-cray", "1.2-cray"),
        ("1.2", ["1.1", "1.2.3", "1.2.4", "1.2.93", "1.3"], "1.2.93", "1.2.93", "1.2.93", "1.2.93"),
        ("1.2", ["1.1", "1.3", "1.3.5"], None, "1.3.5", "1.1", "1.3.5"),
        ("1.2", ["1.1"], None, None, "1.1", "1.1"),
        ("1.2", ["1.2", "1.2.93"], "1.2", "1.2", "1.2", "1.2"),
        ("1.2", ["1.20", "1.10"], None, "1.20", None, "1.20"),
        ("v2", ["2.1", "10.0"], "2.1", "2.1", "2.1", "2.1"),
        ("2021.5", ["2021.5-foss-2021a", "2021.5-foss-2021b"], *["2021.5-foss-2021b"] * 4),
        ("9" * 5000, ["1", "9" * 4999], None, None, "9" * 4999, "9" * 4999),
        ("", ["1.0", "2.0"], "2.0", "2.0", "2.0", "2.0"),
        ("1.2", [], None, None, None, None),
    ],
)
def test_the_policy_chooses_among_the_versions_of_the_site(
    wanted: str, available: list[str], exact: str | None, newer: str | None, older: str | None, any_: str | None
) -> None:
    assert [chosen(wanted, available, policy) for policy in Policy] == [exact, newer, older, any_]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, ["gromacs/2022"]),
        ("exact", ["gromacs/2022"]),
        ("newer", ["GROMACS/2023.1"]),
        ("older", ["GCC/11.2.0", "GROMACS/2021.5"]),
        ("any", ["GROMACS/2023.1"]),
    ],
)
def test_a_job_loads_the_version_that_the_site_allows(policy: str | None, expected: list[str]) -> None:
    assert loads(application(word("mdrun"), load=[("gromacs", "2022")]), policy) == expected
    assert loads(application(jinja("{{ loadApplication('gromacs', '2022') }}mdrun")), policy) == expected


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ('{- versionResolver("loose") -}', ["GROMACS/2023.1"]),
        ('{- versionResolver("loose-backward") -}', ["GCC/11.2.0", "GROMACS/2021.5"]),
        ('{- versionResolver("loose-forward") -}', ["GROMACS/2023.1"]),
        ('{- versionResolver("strict") -}', ["gromacs/2022"]),
        ('{- versionResolver("2021") -}', ["GCC/11.2.0", "GROMACS/2021.5"]),
        ('{- versionResolver("gromacs", "loose") -}', ["GROMACS/2023.1"]),
        ('{- versionResolver("fftw", "loose") -}', ["gromacs/2022"]),
        ("{{ versionResolver(which) }}", ["GCC/11.2.0", "GROMACS/2021.5"]),
    ],
)
def test_a_template_chooses_otherwise_for_the_software_of_its_tool_too(call: str, expected: list[str]) -> None:
    own = parameter("which")
    app = application(jinja(f"{call}{{- applicationLoad -}}mdrun"), parameters=[own], load=[("gromacs", "2022")])
    assert loads(app, parameters={"which": text("loose-backward")}) == expected


def test_a_name_without_a_version_stands_for_all_other_versions() -> None:
    assert loads(application(word("x"), load=[("fftw", "4")]), "newer") == ["FFTW/3.3.10"]


@pytest.mark.parametrize(("policy", "version"), [("newer", "2024"), ("older", "2020")])
def test_where_no_version_may_be_taken_the_owner_reads_which_there_are(policy: str, version: str) -> None:
    with pytest.raises(Refused, match=r"The software gromacs .* is not here.* there are: 2023.1, 2021.5"):
        loads(application(word("x"), load=[("gromacs", version)]), policy)


def test_what_a_template_chooses_passes_through_the_process_that_renders_it() -> None:
    rendered = rendering.render(Request('{- versionResolver("gcc", "loose") -}run'), within=rendering.WORKER_SECONDS)
    assert rendered.policies == {"gcc": "loose"}
