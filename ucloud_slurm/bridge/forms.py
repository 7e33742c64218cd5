"""What the form of an application shows of the cluster: texts, and modules to choose from (contract: ApplicationParameter)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ucloud_slurm.bridge.script.software import Software
from ucloud_slurm.errors import one_line
from ucloud_slurm.ucloud.applications import Application

# UCloud accepts names with this prefix without a declaration.
MODULES = "_injected_modules"
README = "__readme__"  # of every readme; it has no value

Parameter = dict[str, Any]


def form_parameters(
    application: Application, software: Software, readme: Mapping[str, str], modules: Sequence[str]
) -> list[Parameter]:
    """The readme and the list of modules.

    Modules can be chosen for installed applications that name no software of their own, or name some that is not here.

    :param readme: ``applications.readme``
    :param modules: of the cluster; none where they are not known
    """
    tool = application.description
    loads = [(each.name, each.version) for each in tool.load_instructions.applications]
    missing = [load for load in loads if not software.has(*load)] if modules else []
    texts = list(_texts(loads, missing, readme))
    found = [_readme("\n\n".join(texts))] if texts else []
    own = any(parameter.type == "modules" for parameter in application.invocation.parameters)
    if modules and tool.backend == "NATIVE" and not own and (missing or not loads):
        found.append(_modules(modules))
    return found


def _texts(loads: Sequence[tuple[str, str]], missing: Sequence[tuple[str, str]], readme: Mapping[str, str]) -> Iterator[str]:
    for name, version in loads:
        text = readme.get(f"{name}/{version}", readme.get(name))
        if text is not None:
            yield text
    if missing:
        named = ", ".join(f"`{one_line(f'{name}/{version}', 80).replace('`', '')}`" for name, version in missing)
        yield f"This cluster has no module for {named}. Choose what the job needs in the list of modules."


def _readme(text: str) -> Parameter:
    return {"type": "readme", "name": README, "optional": True, "defaultValue": None, "title": "README", "description": text}


def _modules(modules: Sequence[str]) -> Parameter:
    return {
        "type": "modules",
        "name": MODULES,
        "optional": False,  # UCloud's page shows what is optional in a second place
        "defaultValue": [],  # without one, UCloud refuses jobs for which none was chosen
        "title": "Modules",
        "description": "Environment modules of the cluster that the job loads before the application starts.",
        "supportedModules": [
            {"name": name, "description": "", "shortDescription": "", "dependsOn": [], "documentationUrl": ""}
            for name in modules
        ],
    }
