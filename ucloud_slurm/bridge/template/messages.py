"""Request and answer of the process that renders templates. A caller that only asks loads no Jinja."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be rendered.

    :ivar template: the template of the script
    :ivar environment: templates of environment variables
    :ivar sbatch: templates of sbatch options
    :ivar values: parameter -> value
    :ivar absent: parameters without a value
    :ivar ucloud: the variable ``ucloud`` of templates
    :ivar shell_variables: names in ``ucloud`` -> variables of the shell that hold their values on the node
    :ivar srun: the command that starts a step
    """

    template: str
    environment: Mapping[str, str] = field(default_factory=dict)
    sbatch: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    ucloud: Mapping[str, Any] = field(default_factory=dict)
    shell_variables: Mapping[str, str] = field(default_factory=dict)
    srun: str = "srun"


class WebPage(NamedTuple):
    """A further web page of a job, beside that of its application.

    :ivar rank: of the node on which it is
    :ivar name: what UCloud shows of it
    """

    rank: int
    name: str
    port: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """What was rendered.

    :ivar script: in bash
    :ivar environment: values of environment variables
    :ivar sbatch: sbatch options with their values, which may be empty
    :ivar loaded: name and version of the software that the template loads
    :ivar pages: further web pages of the job
    :ivar policies: name of software -> word of versionResolver(); the empty name: all other software
    """

    script: str
    environment: Mapping[str, str]
    sbatch: Mapping[str, str]
    loaded: tuple[tuple[str, str], ...]
    policies: Mapping[str, str] = field(default_factory=dict)
    pages: tuple[WebPage, ...] = ()


Render = Callable[[Request], Rendered]
