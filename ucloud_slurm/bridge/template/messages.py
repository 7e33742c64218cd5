"""What the process that renders templates is asked, and what it answers. Whoever only asks needs no Jinja."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be rendered.

    :ivar template: of the invocation
    :ivar environment: templates of environment variables
    :ivar sbatch: templates of options of sbatch
    :ivar values: parameter -> value
    :ivar absent: parameters without a value
    :ivar ucloud: what templates find as ``ucloud``
    :ivar live: names in ``ucloud`` -> variables of the shell that hold their values on the node
    :ivar srun: how steps are started
    """

    template: str
    environment: Mapping[str, str] = field(default_factory=dict)
    sbatch: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    ucloud: Mapping[str, Any] = field(default_factory=dict)
    live: Mapping[str, str] = field(default_factory=dict)
    srun: str = "srun"


@dataclass(frozen=True, slots=True)
class Rendered:
    """What became of it.

    :ivar script: bash
    :ivar environment: values of environment variables
    :ivar sbatch: options of sbatch with their values, which may be empty
    :ivar loaded: applications that the template loads, with their versions
    """

    script: str
    environment: Mapping[str, str]
    sbatch: Mapping[str, str]
    loaded: tuple[tuple[str, str], ...]


Render = Callable[[Request], Rendered]
