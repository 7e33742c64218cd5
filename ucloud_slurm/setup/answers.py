"""What a new site must decide, and the configuration that follows from it. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from ucloud_slurm.config import problem
from ucloud_slurm.config.annotated import tables
from ucloud_slurm.setup.proposal import is_word

Answers = Mapping[str, str]
MAPPINGS = ("table", "service", "script")
COUNTED = ("auto", "core", "node", "gpu", "billing")
FREQUENCIES = ("minute", "hour", "day")


class Question(NamedTuple):
    """One question to the administrator.

    :ivar name: of the answer, and of the option that gives it, with dashes
    :ivar text: the question
    :ivar proposal: what is taken without an answer; None: there must be one
    :ivar key: of the configuration, as ``table.key``; empty: the answer is not in it
    :ivar choices: the answers that there are; empty: any text
    :ivar where: the mappings with which it is asked
    :ivar accepts: for answers that no key of the configuration has
    """

    name: str
    text: str
    proposal: str | None = None
    key: str = ""
    choices: Sequence[str] = ()
    where: Sequence[str] = MAPPINGS
    accepts: Callable[[str], str | None] | None = None

    @property
    def option(self) -> str:
        """The option of the command that answers it."""
        return f"--{self.name.replace('_', '-')}"

    def refusal(self, answer: str) -> str | None:
        """Why an answer cannot be used; None if it can."""
        if self.choices and answer not in self.choices:
            return f"it should be one of {', '.join(self.choices)}"
        if self.accepts is not None:
            return self.accepts(answer)
        table, _, name = self.key.partition(".")
        return problem(table, name, answer) if table else None

    def configured(self, data: Mapping[str, Any]) -> str | None:
        """What a configuration has as the answer, its default included; None where there is no configuration.

        :param data: the configuration, as TOML has it; it is not checked
        """
        table, _, name = self.key.partition(".")
        if not data or not table:
            return None
        (section,) = (section for each, section, _ in tables() if each == table)
        (default,) = (each.default for each in fields(section) if each.name == name)
        found = data.get(table)
        value = found.get(name, default) if isinstance(found, Mapping) else default
        return str(value) if isinstance(value, str | Path) else None


def _named(text: str) -> str | None:
    return None if is_word(text) else "it should be the name of a Slurm account"


def _path(text: str) -> str | None:
    return (
        None if re.fullmatch(r"(/[A-Za-z0-9_+@.*-]+)+", text) else "it should be an absolute path of letters, digits and _+@.-"
    )


QUESTIONS = (
    Question("provider", "The id of this provider at UCloud", key="provider.id"),
    Question(
        "url", "The address of this provider for UCloud and browsers, such as https://hpc.example.org", key="provider.url"
    ),
    Question("ucloud", "The address of UCloud", "https://cloud.sdu.dk", key="ucloud.url"),
    Question(
        "mapping",
        "Whom jobs run as: table, each as the researcher; script, as a program of yours says; service, all as one account",
        "table",
        key="users.mapping",
        choices=MAPPINGS,
    ),
    Question("script", "The program that says whom jobs run as", key="users.script", where=("script",)),
    Question(
        "group", "The group of the people whom jobs may run as", "ucloud-users", key="users.group", where=("table", "script")
    ),
    Question(
        "jobs_folder",
        "The folder of the jobs, which the compute nodes see under the same path",
        "{home}/ucloud-jobs",
        key="jobs.folder",
        where=("service",),
    ),
    Question("account", "The Slurm account of the service", "ucloud", accepts=_named),
    Question(
        "charge_by",
        "What is counted: auto (GPUs where a node has some, else cores), core, node, gpu or billing",
        "auto",
        choices=COUNTED,
    ),
    Question("frequency", "The period in which it is counted: minute, hour or day", "minute", choices=FREQUENCIES),
    Question("certificate", "The certificate of that address, for nginx", accepts=_path),
    Question("certificate_key", "The key of the certificate", accepts=_path),
)


def differing(given: Answers, data: Mapping[str, Any]) -> list[Question]:
    """The questions that a configuration answers in another way.

    :param given: the answers that were given as options
    """
    return [
        question
        for question in QUESTIONS
        if question.key and question.name in given and question.configured(data) != given[question.name]
    ]


def configuration(
    answers: Answers, before: Mapping[str, Any], products: Sequence[Mapping[str, Any]], **known: Mapping[str, Any]
) -> dict[str, Any]:
    """The tables of the configuration.

    :param before: those of the file that is replaced, whose other keys stay
    :param known: keys that setup knows without an answer
    """
    data: dict[str, Any] = {name: dict(table) if isinstance(table, Mapping) else table for name, table in before.items()}
    for name, values in known.items():
        data[name] = {**data.get(name, {}), **values}
    for question in QUESTIONS:
        if question.key and question.name in answers:
            table, _, name = question.key.partition(".")
            data.setdefault(table, {})[name] = answers[question.name]
    data["products"] = [*products]
    return data
