"""From a job whose application is a template to the request to render it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ucloud_slurm.bridge.script import modules
from ucloud_slurm.bridge.script.bash import quoted, refuse_control_characters
from ucloud_slurm.bridge.script.invocation import argument_text, environment, parameter_values
from ucloud_slurm.bridge.script.resources import MIB_PER_GIB, Plan, gres_wanted
from ucloud_slurm.bridge.template.messages import Request, Value
from ucloud_slurm.config import ApplicationsSection, Product
from ucloud_slurm.ucloud.applications import Application, Invocation, InvocationParameter
from ucloud_slurm.ucloud.jobs import Job

_TEMPLATES = ("jinja", "word")
_CAPITAL = re.compile("(?=[A-Z])")


class OtherElements(NamedTuple):
    """Environment variables, in pieces, and sbatch options that need no template."""

    environment: Mapping[str, Sequence[tuple[str, str]]]
    sbatch: Mapping[str, str]


def render_request(
    job: Job,
    application: Application,
    product: Product,
    plan: Plan,
    paths: Mapping[str, str],
    settings: ApplicationsSection,
    *,
    listens: bool,
    in_container: bool,
) -> Request:
    """The request to render the templates of a job.

    :param paths: parameter -> local path, for those that are files
    :param listens: the application is a web page or a screen
    :param in_container: its script runs in a container, on every node
    :raises Refused: naming the parameter that cannot be used
    """
    invocation, given = application.invocation, job.specification.parameters
    workflows = [value.specification for value in given.values() if value.type == "workflow"]
    parameters = [*invocation.parameters, *(one for workflow in workflows for one in workflow.inputs)]
    values = parameter_values(parameters, given, paths)
    for name, value in values.items():
        if isinstance(value, str):
            refuse_control_characters(f"The parameter '{name}'", [value], lines=True)
    refuse_control_characters("The application's name", [application.metadata.name, application.metadata.version])
    declared = [parameter.name for parameter in parameters]
    others = {name: value.value for name, value in given.items() if isinstance(value.value, Value)}
    ports = {"webPort": "UCLOUD_PORT", "vncPort": "UCLOUD_PORT"} if listens else {}
    return Request(
        template="\n".join([text for text in (invocation.template or "", *(one.job for one in workflows)) if text]),
        environment=_templates(invocation.environment),
        sbatch=_templates(invocation.sbatch),
        values={name: value for name, value in others.items() if name not in declared} | values,
        absent=tuple(name for name in declared if name not in values),
        ucloud=_ucloud(job, application, product, plan),
        shell_variables=ports | ({"rank": "UCLOUD_RANK"} if in_container else {}),
        srun=quoted(["srun", *settings.srun_options]),
    )


def chosen_modules(job: Job) -> list[str]:
    """The modules that the user chose.

    :raises Refused: one of them is not a valid name
    """
    found: list[str] = []
    for name, value in job.specification.parameters.items():
        if value.type == "modules":
            modules.check_names(f"The parameter '{name}'", value.modules)
            found += value.modules
    return found


def other_elements(invocation: Invocation, texts: Mapping[str, str]) -> OtherElements:
    """The environment variables and sbatch options of a template's application that are not templates themselves.

    :param texts: see :func:`ucloud_slurm.bridge.script.invocation.parameter_texts`
    """
    variables = {name: one for name, one in invocation.environment.items() if one.type not in _TEMPLATES}
    sbatch = {name: one for name, one in invocation.sbatch.items() if one.type not in _TEMPLATES}
    return OtherElements(
        environment(invocation.model_copy(update={"environment": variables}), texts),
        {name: argument_text(invocation, element, texts).strip() for name, element in sbatch.items()},
    )


def _templates(elements: Mapping[str, InvocationParameter]) -> dict[str, str]:
    """The templates of environment variables or options. UCloud stores some of them as elements of the type word."""
    return {name: one.template or one.word for name, one in elements.items() if one.type in _TEMPLATES}


def _ucloud(job: Job, application: Application, product: Product, plan: Plan) -> dict[str, Any]:
    """The variable ``ucloud`` of templates."""
    machine = {
        "name": product.id,
        "category": product.category,
        "cpu": plan.cpus or 1,
        "memoryInGigs": (plan.memory or 0) // MIB_PER_GIB,
        "gpu": gres_wanted(plan.gres) if (plan.gres or "").startswith("gpu") else 0,
    }
    return {
        "jobId": job.id,
        "machine": machine,
        "nodes": plan.nodes,
        "rank": 0,
        "partition": product.partition,
        "application": {"name": application.metadata.name, "version": application.metadata.version},
        **({"qos": product.qos} if product.qos is not None else {}),
    }


def ucloud_facts(ucloud: Mapping[str, Any], prefix: str = "UCLOUD") -> dict[str, str]:
    """``ucloud`` as environment variables: ``ucloud.machine.memoryInGigs`` is UCLOUD_MACHINE_MEMORY_IN_GIGS."""
    found: dict[str, str] = {}
    for name, value in ucloud.items():
        variable = f"{prefix}_{_CAPITAL.sub('_', name).upper()}"
        found |= ucloud_facts(value, variable) if isinstance(value, Mapping) else {variable: str(value)}
    return found
