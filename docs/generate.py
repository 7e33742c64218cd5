"""Writes into the reference pages what the code knows itself, between ``.. begin:`` and ``.. end:`` lines.

``python -m docs.generate`` writes; ``tests/promises/test_docs.py`` fails when a page and the code have drifted apart.
"""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast, get_args, get_origin

import click
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families
from pydantic.fields import FieldInfo
from sqlite_utils import Database

from tests.rooms.test_rooms import HOUSE, MAY_IMPORT
from tests.sandbox.bench import older, plots
from tests.sandbox.bench import pages as bench_pages
from tests.sandbox.bench.rows import Report
from tests.sandbox.cli import sandbox
from ucloud_slurm import config, errors
from ucloud_slurm.app import create_app
from ucloud_slurm.bridge import states, waiting
from ucloud_slurm.cli.main import main as command_line
from ucloud_slurm.config import annotated
from ucloud_slurm.config import hooks as config_hooks
from ucloud_slurm.config import types as config_types
from ucloud_slurm.config import urls as config_urls
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.records import QueueRecord, RunRecord, SlurmJobId
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store import fence, job_state, migrations
from ucloud_slurm.store import sqlite as store_database
from ucloud_slurm.ucloud.eras import ERA_2021

DOCS = Path(__file__).parent
REPEATED = tuple(name for name, _, repeated in annotated.tables() if repeated)
SANDBOX = "python -m tests.sandbox"
ID = "provider-id"  # of the site whose routes are listed; the pages write {id}


# ---- reStructuredText


def table(head: Sequence[str], rows: Iterable[Sequence[str]], widths: str = "auto") -> str:
    """A list table."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in (head, *rows):
        for number, cell in enumerate(row):
            lines.append(f"   {'*' if number == 0 else ' '} - {cell}".rstrip())
    return "\n".join(lines)


def literal(text: object) -> str:
    """Text as it is typed."""
    return f"``{text}``"


def escaped(text: str) -> str:
    """Plain text, in which nothing is markup."""
    return re.sub(r"([*`|\\]|_(?!\w))", r"\\\1", text)


def heading(text: str, underline: str) -> str:
    """A heading below the page's own."""
    return f"{text}\n{underline * len(text)}"


def indented(text: str, by: int = 3) -> str:
    """The same text further right."""
    return "\n".join(" " * by + line if line else "" for line in text.split("\n"))


# ---- configuration


def configuration() -> str:
    """Every key of every table of config.toml."""
    parts = []
    for name, field in keys(config.Config):
        repeated = name in REPEATED
        section = cast("type[config.Section]", get_args(field.annotation)[0] if repeated else field.annotation)
        title = f"[[{name}]]" if repeated else f"[{name}]"
        parts.append(f".. _config-{name}:\n\n{heading(literal(title), '-')}\n\n{section.__doc__}")
        parts += [f"{literal(each.name)}\n{indented(_key(each))}" for each in fields(section)]
    return "\n\n".join(parts)


def keys(section: type[config.Section]) -> Iterator[tuple[str, FieldInfo]]:
    """The keys of a table of the file."""
    for declared in fields(section):
        yield declared.name, FieldInfo.from_annotated_attribute(declared.type, declared)


def _key(declared: "Field[Any]") -> str:
    field = FieldInfo.from_annotated_attribute(cast("Any", declared.type), declared)
    facts = [kind(field.annotation, field.metadata)]
    if field.is_required():
        facts.append("**required**")
    elif (default := declared.default if declared.default_factory is MISSING else declared.default_factory()) is not None:
        facts.append(f"default {literal(annotated.literal(annotated.in_file(default, declared.type)))}")
    text = f"{escaped(str(field.description))}\n\n{facts[0][0].upper()}{facts[0][1:]}"
    return ", ".join([text, *facts[1:]]) + "."


def kind(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What may stand behind a key."""
    checks = [getattr(item, "func", None) for item in metadata]
    inner = [part for part in get_args(annotation) if part is not type(None)]
    values: Sequence[str] = ()
    if get_origin(annotation) is Literal:
        values = get_args(annotation)
    elif annotation is config.PriceUnit:
        values = [unit.value for unit in config.PriceUnit]
    elif get_origin(annotation) is dict:
        return "table of texts" if get_args(annotation)[1] is str else "table of lists of texts"
    elif get_origin(annotation) is tuple:
        return f"list of {kind(inner[0])}s"
    elif inner:  # X | None, or an annotated type in one
        return kind(inner[0], getattr(annotation, "__metadata__", metadata))
    if values:
        return "one of " + ", ".join(literal(f'"{value}"') for value in values)
    return next((_CHECKED[check] for check in checks if check in _CHECKED), "") or _PLAIN[annotation]


_CHECKED: Mapping[Any, str] = {
    config_types.seconds: "duration",
    config_types.mebibytes: "size",
    config_urls._url: "URL",
    config_urls._core_url: "URL",
    config_urls._address: "URL",
    config_urls._session_url: "URL with a ``*``",
    config_types.slurm_word: "a name of Slurm's",
    config_types._plain_path: "path",
    config_types._root: "path",
    config_types._jobs_folder: "path",
    config_types._option: "option",
    config_types._signal: "signal and duration",
    config_types._whole_mebibytes: "number",
    config_types._option_name: "name of an option",
    config_types._srun_option: "option",
    config_hooks._event: "event",
}
_PLAIN = {str: "text", Path: "path", int: "whole number", float: "number", bool: "true or false"}


# ---- command line


def commands() -> str:
    """Every verb of ``ucloud-slurm`` with its help and its options."""
    return "\n\n".join(_verb(path, command) for path, command in verbs())


def sandbox_commands() -> str:
    """Every verb of ``python -m tests.sandbox`` with its help and its options."""
    return "\n\n".join(_verb(path, command, "~") for path, command in verbs(SANDBOX, sandbox))


def verbs(path: str = "ucloud-slurm", command: click.Command = command_line) -> Iterator[tuple[str, click.Command]]:
    """The command, its verbs and theirs."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in sorted(command.list_commands(context)):
            verb = command.get_command(context, name)
            assert verb is not None  # noqa: S101
            yield from verbs(f"{path} {name}", verb)


def _verb(path: str, command: click.Command, underline: str = "-") -> str:
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    usage = [path, *("[OPTIONS]" for _ in options[:1]), *(str(one.name).upper() for one in arguments if one.metavar != "")]
    if isinstance(command, click.Group):
        usage.append("COMMAND")
    help_ = re.sub(r"`([^`]*)`", r"``\1``", inspect.cleandoc(command.help or ""))
    parts = [heading(literal(path), underline), f".. code-block:: text\n\n   {' '.join(usage)}", help_]
    parts += [f"{literal(_option(option))}\n{indented(_about(option))}" for option in options]
    return "\n\n".join(parts)


def _option(option: click.Option) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    return ", ".join(option.opts) + value


def _about(option: click.Option) -> str:
    text = escaped(option.help or "")
    if option.show_default:
        text += f" Default: {literal(option.default)}."
    return text


# ---- states


def state_table() -> str:
    """Slurm's states, what they are for UCloud, and what the user reads."""
    rows = []
    for state in SlurmState:
        queued = states.queued_update(_queued(state), ERA_2021)
        if queued is not None:
            rows.append((literal(state.name), literal(queued.state.value), _words(queued.status)))
            continue
        for note, code, signal in _ends(state):
            final = states.final_update(_ended(state, code, signal), ERA_2021, None)
            if final is not None:
                rows.append((literal(state.name) + note, literal(final.state.value), _words(final.status)))
    return table(("Slurm", "UCloud", "Message"), rows, "25 15 60")


def reasons() -> str:
    """What is said of a job that waits, by Slurm's reason."""
    rows = [(", ".join(map(literal, texts.split("|"))), literal(known.kind), known) for known, texts in waiting.REASONS.items()]
    rows.append(("any other", "other: *reason*", waiting.waiting_reason("WORD")))
    shown = ((texts, kind_, _words(why.sentence), "yes" if why.waiting_helps else "no") for texts, kind_, why in rows)
    return table(("Slurm's reason", "Kind", "Message", "Waiting helps"), shown, "30 15 45 10")


def _ends(state: SlurmState) -> Sequence[tuple[str, int, int]]:
    if state is SlurmState.FAILED:
        return (", exit code 7", 7, 0), (", signal 9", 0, 9), (", code 0:53", *states.NO_OUTPUT)
    return (("", 0, 0),)


def _queued(state: SlurmState) -> QueueRecord:
    return QueueRecord(
        id=SlurmJobId(1),
        name="",
        user="",
        state=state,
        state_text=state.name,
        reason="Priority",
        submitted=1,
        started=None,
        elapsed=0,
        nodes=1,
        cpus=1,
        node_list="NODES",
        minutes=60,
        account="",
        partition="",
    )


def _ended(state: SlurmState, code: int, signal: int) -> RunRecord:
    return RunRecord(
        id=SlurmJobId(1),
        name="",
        user="",
        state=state,
        state_text=state.name,
        submitted=1,
        started=1,
        ended=2,
        elapsed=1,
        exit_code=code,
        signal=signal,
        nodes=1,
        cpus=1,
        node_list="NODES",
    )


def _words(text: str) -> str:
    """Placeholders in italics."""
    return text.replace("NODES", "*nodes*").replace("(WORD)", "(*reason*)")


# ---- architecture


def packages() -> str:
    """The packages from the top to the bottom, what each of them is, and what it may import."""
    order = [*MAY_IMPORT]
    rows = []
    for name in reversed(order):
        if (HOUSE / name).is_dir():
            about = str(import_module(f"{HOUSE.name}.{name}").__doc__).partition("\n")[0]
            imported = sorted(MAY_IMPORT[name] - {"__init__"}, key=order.index, reverse=True)
            rows.append((literal(name), about, ", ".join(map(literal, imported))))
    return table(("Package", "What it is", "May import"), rows, "12 48 40")


def transitions() -> str:
    """The state machine of a job: what changes what, and when. States that a transition has in common share a row."""
    sources: dict[tuple[str, str, str, str], list[str]] = {}
    for each in job_state.TRANSITIONS:
        reason = "" if each.event is job_state.JobEvent.STOP else f": {literal(each.stop)}"  # that of the caller
        marks = [f"stop{reason}"] if each.stop else []
        if each.held is not None:
            marks.append("held" if each.held else "not held")
        marks += ["acknowledged"] if each.acknowledged else []
        target = "unchanged" if each.target is each.source else literal(each.target)
        row = (
            literal(each.event),
            target,
            ", ".join(guard.name.lower().replace("_", " ") for guard in each.when),
            "; ".join(marks),
        )
        sources.setdefault(row, []).append(literal(each.source))
    rows = ((", ".join(states_), *row) for row, states_ in sources.items())
    return table(("State", "Event", "Next state", "Condition", "Mark"), rows, "20 22 14 28 16")


# ---- calls and statuses


def routes() -> list[tuple[str, str]]:
    """Verb and path of everything that is answered, with ``{id}`` for the provider's id."""
    found = []
    with application() as app:
        for rule in app.url_map.iter_rules():
            path = rule.rule.replace(ID, "{id}")
            found += [(verb, path) for verb in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})]
    return sorted(found, key=lambda route: (route[1], route[0]))


@contextmanager
def application() -> Iterator[Flask]:
    """The application of a site that nobody has used yet."""
    with TemporaryDirectory() as folder:
        token, logo, database = Path(folder, "refresh-token"), Path(folder, "logo.png"), Path(folder, "database")
        token.write_text("token")
        logo.write_bytes(b"\x89PNG\r\n\x1a\n")
        now = fence.this_instant()
        fence.Permit(1, "host", mine=True, since=now, copied_at=now.wall).write(database)
        provider = Provider.open(
            config.parse(
                {
                    "provider": {"id": ID, "url": "http://127.0.0.1:1"},
                    "branding": {"title": "Provider", "logo": str(logo)},
                    "ucloud": {"url": "http://127.0.0.1:1", "refresh_token_file": str(token), "public_key_file": str(token)},
                    "database": {"path": str(database), "standby": folder},
                    "slurm": {"backend": "commands"},
                    "users": {"mapping": "table"},
                    "products": [{"id": "product", "category": "category", "partition": "partition"}],
                    "drives": [{"name": "drive", "title": "Drive", "local": "{home}"}],
                    "hooks": [{"events": ["job-ended"], "program": "/program"}],
                }
            )
        )
        try:
            yield create_app(provider=provider)
        finally:
            provider.close()


def statuses() -> str:
    """The errors and their HTTP statuses."""
    kinds = [*_children(errors.Problem)]
    rows = sorted((str(kind_.status), str(kind_.__doc__).partition("\n")[0]) for kind_ in kinds)
    return table(("Status", "Meaning"), rows, "10 90")


def _children(kind_: type[errors.Problem]) -> Iterator[type[errors.Problem]]:
    for child in kind_.__subclasses__():
        if child.__module__ in (errors.__name__, store_database.__name__):
            yield child
        yield from _children(child)


# ---- tables and metrics


def columns() -> Iterator[tuple[str, str]]:
    """Table and column of all that the database has."""
    db = Database(memory=True)
    migrations.migrate(db)
    for name in db.table_names():
        if not name.startswith(("sqlite", "_")):
            yield from ((name, column.name) for column in db.table(name).columns)


def metrics() -> str:
    """What ``/metrics`` shows."""
    with application() as app:
        text = app.test_client().get("/metrics").get_data(as_text=True)
    rows = []
    for family in text_string_to_metric_families(text):
        labels: dict[str, dict[str, None]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label != "le":  # the bounds of a histogram
                    labels.setdefault(label, {})[literal(value)] = None
        shown = "; ".join(f"{literal(label)}: {', '.join(values)}" for label, values in labels.items())
        rows.append((literal(family.name), family.type, shown or "none", family.documentation))
    return table(("Metric", "Type", "Labels", "Meaning"), rows, "25 10 30 35")


# ---- speed


def measured() -> str:
    """The tables of what was measured, and the plots."""
    reports = [(_BACKENDS[each.backend], each) for each in plots.read(DOCS / "measured")]
    if (DOCS / "measured" / "files.json").exists():
        reports.append(("Files", Report.read(DOCS / "measured" / "files.json")))
    parts = [] if reports else [bench_pages.NOTHING]
    for title, report in reports:
        parts.append(heading(title, "~"))
        parts.append(escaped(bench_pages.where(report)))
        parts.append(table(bench_pages.HEAD, bench_pages.cells(report), bench_pages.WIDTHS))
        parts += [escaped(sentence) for sentence in bench_pages.failures(report)]
    if (DOCS / "measured" / "older" / "now.json").exists():
        then, now = (Report.read(DOCS / "measured" / "older" / f"{side}.json") for side in ("then", "now"))
        parts.append(heading("Then and now", "~"))
        parts.append(escaped(bench_pages.where(now)))
        parts.append(table(older.HEAD, [each.cells() for each in older.compared(then, now)], older.WIDTHS))
    drawn = [name for name in plots.PLOTS if (DOCS / "measured" / f"{name}.svg").exists()]
    parts += [f".. image:: ../measured/{name}.svg\n   :alt: {plots.ABOUT[name]}" for name in drawn]
    return "\n\n".join(parts)


def capacity() -> str:
    """What one host carries, as measured with Slurm's own commands."""
    kept = [DOCS / "measured" / f"{name}.json" for name in ("commands", "files")]
    reports = [Report.read(path) for path in kept if path.exists()]
    rows = [*bench_pages.capacity(reports)]
    if not rows:
        return bench_pages.NOTHING
    return "\n\n".join([escaped(bench_pages.where(reports[0])), table(("Measured", "Is"), rows, "22 78")])


def quoted() -> str:
    """The numbers that the README names."""
    said = bench_pages.quotes(plots.read(DOCS / "measured")) or [bench_pages.NOTHING]
    return textwrap.fill(" ".join(said), 118, break_long_words=False, break_on_hyphens=False)


_BACKENDS = {"commands": "Slurm's own commands", "pyslurm": "pyslurm"}


# ---- pages

PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "reference/configuration.rst": {"keys": configuration},
    "reference/command-line.rst": {"verbs": commands, "sandbox": sandbox_commands},
    "reference/states.rst": {"states": state_table, "reasons": reasons},
    "reference/statuses.rst": {"statuses": statuses},
    "reference/metrics.rst": {"metrics": metrics},
    "explanation/architecture.rst": {"packages": packages, "transitions": transitions},
    "explanation/speed.rst": {"measured": measured},
    "howto/capacity.rst": {"capacity": capacity},
    "../README.rst": {"speed": quoted},
}


def page(name: str) -> str:
    """A page as it should be."""
    text = (DOCS / name).read_text(encoding="utf-8")
    for part, write in PARTS[name].items():
        begin, end = f".. begin: {part}\n", f".. end: {part}\n"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise SystemExit(f"{name} should have the lines {begin.strip()} and {end.strip()}, once each")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{write()}\n\n{end}{rest.partition(end)[2]}"
    return text


def write_pages() -> None:
    """Writes all pages, and the example of a configuration."""
    for name in PARTS:
        (DOCS / name).write_text(page(name), encoding="utf-8")
    (DOCS.parent / "etc/config.toml").write_text(annotated.annotated(annotated.EXAMPLE), encoding="utf-8")


if __name__ == "__main__":
    write_pages()
