"""The words are true: what the documentation says is what the code does, and all of it is said."""

import ast
import importlib.util
import itertools
import json
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import click
import pytest
from click.testing import CliRunner

from tests.sandbox.bench import pages as bench_pages
from tests.sandbox.bench import plots
from tests.sandbox.cli import sandbox
from tests.support.source import parsed
from ucloud_slurm import config
from ucloud_slurm.cli import context
from ucloud_slurm.config.annotated import EXAMPLE, annotated
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.job_state import JobPhase, Lifecycle
from ucloud_slurm.store.outbox import MessageOutcome

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOURCE = ROOT / "ucloud_slurm"
PAGES = sorted([*ROOT.glob("*.rst"), *DOCS.rglob("*.rst")])


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = _generator()


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ---- the whole


def test_sphinx_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-d", str(tmp_path / "trees")]
    done = subprocess.run(
        [*command, str(DOCS), str(tmp_path / "html")], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "reference" / "configuration.html").is_file()


@pytest.mark.parametrize("name", generate.PARTS)
def test_generated_pages_are_up_to_date(name: str) -> None:
    assert page(name) == generate.page(name), "run: make docs"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_files_that_a_page_names_exist(path: Path) -> None:
    for literal in re.findall(r"``([a-z_]+(?:/[\w.-]+)*/?(?:[\w-]+\.\w+)?)``", path.read_text()):
        if literal.split("/")[0] in ("docs", "etc", "systemd", "tests") and "/" in literal:
            assert (ROOT / literal).exists(), f"{name_of(path)} names {literal}"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_make_targets_that_a_page_names_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^ *|``)make ([a-z-]+)", path.read_text(), re.MULTILINE))
    assert named <= targets


def test_the_readme_begins_with_the_demonstration() -> None:
    readme = (ROOT / "README.rst").read_text()
    assert "    make demo\n" in readme
    assert len(readme.splitlines()) <= 80, "one screen"


def test_every_make_target_says_what_it_does() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == set(re.findall(r"^([a-z-]+):.*  ## \S", text, re.MULTILINE))


# ---- the annotated configuration


def example() -> Iterator[tuple[str, str, str]]:
    """Table, line of a key (commented out or not), and the comment above it, in one line."""
    table, comment = "", ""
    for line in (ROOT / "etc/config.toml").read_text().splitlines():
        if line.startswith(("[", "#[[")):
            table, comment = line.strip("#[]"), ""
        elif match := re.match(r"#?([a-z_]+) = ", line):
            yield f"{table}.{match[1]}", line, comment.strip()
            comment = ""
        elif line.startswith("# "):
            comment += line[1:]


def declared() -> Iterator[tuple[str, Any]]:
    for table, field in generate.keys(config.Config):
        section = get_args(field.annotation)[0] if table in generate.REPEATED else field.annotation
        for key, key_field in generate.keys(section):
            yield f"{table}.{key}", key_field


def test_the_example_has_every_key_with_its_description() -> None:
    shown = {key: (line, comment) for key, line, comment in example()}
    assert list(shown) == [key for key, _ in declared()]
    for key, field in declared():
        line, comment = shown[key]
        assert str(field.description) in comment, key
        if field.is_required() and not key.startswith(("files.", "drives.", "outside.", "hooks.")):
            assert not line.startswith("#"), f"{key} is needed"


def test_the_example_is_what_the_declarations_of_the_keys_give() -> None:
    assert (ROOT / "etc/config.toml").read_text() == annotated(EXAMPLE), "run: make docs"


def test_what_the_example_has_commented_out_are_the_defaults() -> None:
    text = (ROOT / "etc/config.toml").read_text()
    data = tomllib.loads(re.sub(r"^#(?=[a-z_]+ = |\[\[)", "", text, flags=re.MULTILINE))
    people = {**data, "users": {**data["users"], "mapping": "table"}}  # what users own needs one
    table_of_people = config.parse(people)
    everything = config.parse({key: value for key, value in data.items() if key not in ("drives", "jobs")})
    for key, field in declared():
        table, _, name = key.partition(".")
        section = getattr(table_of_people if table in ("drives", "jobs") else everything, table)
        if table in generate.REPEATED:
            section = section[0]
        if not field.is_required() and (default := field.get_default(call_default_factory=True)) is not None:
            assert getattr(section, name) == default, key


# ---- the reference


def test_every_verb_and_option_is_in_the_reference() -> None:
    text = page("reference/command-line.rst")
    found = dict([*generate.verbs(), *generate.verbs(generate.SANDBOX, sandbox)])
    assert {"ucloud-slurm worker", "python -m tests.sandbox sid run"} <= set(found)
    for path, command in found.items():
        assert re.search(rf"\n``{re.escape(path)}``\n(---|~~~)", text)
        assert command.help, f"{path} has no help"
        for option in (one for one in command.params if isinstance(one, click.Option)):
            assert option.help, f"{path} {option.opts[0]} has no help"
            assert f"\n``{option.opts[0]}" in text


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_verbs_that_a_page_uses_exist(path: Path) -> None:
    known = dict(generate.verbs())
    for words in re.findall(r"(?:``|/|^ +)ucloud-slurm((?: [a-z]+)+)", path.read_text(), re.MULTILINE):
        verb = f"ucloud-slurm {words.split()[0]}"
        # A message may begin so: "ucloud-slurm does not run as root".
        assert verb in known or verb == "ucloud-slurm does", f"{name_of(path)} says {verb}"


def sandbox_verbs(text: str) -> Iterator[list[str]]:
    """The words behind the command of the sandbox, wherever a page shows it; options are left out."""
    for shown in re.findall(rf"{generate.SANDBOX}((?: +(?:-{{2}}[a-z]+|[a-z]+))*)", text):
        yield [word for word in shown.split() if not word.startswith("--")]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_verbs_of_the_sandbox_that_a_page_uses_exist(path: Path) -> None:
    known = dict(generate.verbs(generate.SANDBOX, sandbox))
    for first, *rest in filter(None, sandbox_verbs(path.read_text())):
        verb = f"{generate.SANDBOX} {first}" + (f" {rest[0]}" if first == "sid" and rest else "")
        assert verb in known, f"{name_of(path)} says {verb}"


def test_a_page_calls_the_sandbox_as_the_checkout_has_it() -> None:
    said = "".join(path.read_text() for path in PAGES)
    assert list(sandbox_verbs(said)), "the tutorial shows it"
    assert "ucloud-slurm sandbox" not in said, "it is no verb of the command any more"


def test_every_key_is_in_the_reference() -> None:
    text = page("reference/configuration.rst")
    for key, _ in declared():
        table, _, name = key.partition(".")
        section = text.split(f".. _config-{table}:")[1].split(".. _config-")[0]
        assert f"\n``{name}``\n" in section


def test_every_state_is_in_the_reference() -> None:
    text = page("reference/states.rst")
    for state in SlurmState:
        assert f"   * - ``{state.name}``" in text
    for phase in JobPhase:
        assert f"\n``{phase.value}``\n" in text
    for outcome in MessageOutcome:
        assert f"``{outcome.value}``" in page("reference/database.rst")


def test_every_call_is_in_the_reference_and_no_other() -> None:
    text = page("reference/calls.rst").split("Calls to UCloud")[0]
    routes = {f"{verb} {path}" for verb, path in generate.routes()}
    assert "POST /ucloud/{id}/jobs/verify" in routes
    assert set(re.findall(r"``((?:GET|POST|DELETE|PUT) \S+)``", text)) == routes


def test_every_call_has_a_test_on_the_real_cluster() -> None:
    rows = page("reference/calls.rst").split(".. list-table::")[1].split("\nJobs\n")[0]
    named = set(re.findall(r"``(test_\w+)``", rows))
    there = {
        node.name
        for path in (ROOT / "tests/real").glob("test_*.py")
        for node in parsed(path).body
        if isinstance(node, ast.FunctionDef)
    }
    assert len(re.findall(r"^   \* - ", rows, re.MULTILINE)) == rows.count("``test_") + 1
    assert named <= there, named - there


def today() -> list[tuple[str, str, str]]:
    """Call, how, and the test that shows it."""
    rows = re.findall(r"^   \* - (.*)\n     -(.*)\n     -(.*)$", page("reference/today.rst"), re.MULTILINE)
    return [(call, how.strip(), shown.strip("` ")) for call, how, shown in rows if call != "Call"]


def test_every_call_of_today_names_a_test_that_exists() -> None:
    there = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in parsed(path).body
        if isinstance(node, ast.FunctionDef)
    }
    rows = today()
    assert len(rows) > 40
    assert page("reference/today.rst").count("   * - ") == len(rows) + 4, "a row that cannot be read"
    assert {shown for _, _, shown in rows} <= there


def test_every_call_that_is_answered_is_on_the_page_about_today_and_no_other() -> None:
    named = {
        route
        for call, how, _ in today()
        if not how.startswith("404")
        for route in re.findall(r"``((?:GET|POST|DELETE) /ucloud/[^`]+)``", call)
    }
    answered = {f"{verb} {path}" for verb, path in generate.routes() if path.startswith("/ucloud/")}
    assert named == answered - {f"{verb} /ucloud/{{id}}/link/<secret>" for verb in ("GET", "POST")}, "for browsers"


def test_every_call_that_we_make_is_in_the_reference() -> None:
    text = page("reference/calls.rst").split("Calls to UCloud")[1]
    source = "".join((SOURCE / f"ucloud/{name}.py").read_text() for name in ("client", "core", "gate"))
    called = set(re.findall(r'"(/(?:api|auth)/[\w/]+)"', source))
    assert len(called) >= 6
    assert called == set(re.findall(r"``(?:GET|POST) (/(?:api|auth)/\S+)``", text))


def test_exit_statuses_are_in_the_reference() -> None:
    text = page("reference/statuses.rst")
    for status in (context.EX_TEMPFAIL, context.EX_CONFIG):
        assert f"   * - {status}\n" in text


def test_every_column_of_the_database_is_in_the_reference_and_no_other() -> None:
    sections = re.split(r"\n``(\w+)``\n-+\n", page("reference/database.rst"))
    shown = set()
    for table, text in zip(sections[1::2], sections[2::2], strict=True):
        for row in re.findall(r"^   \* - (``.*)$", text, re.MULTILINE):
            shown |= {(table, column) for column in re.findall(r"``(\w+)``", row)}
    assert shown == set(generate.columns())


# ---- architecture


def test_modules_in_which_the_architecture_says_to_look_exist() -> None:
    listed = page("explanation/architecture.rst").partition("Where do I find")[2].partition("\nNames\n")[0]
    modules = re.findall(r"^     - ``([\w/]+\.py)``$", listed, re.MULTILINE)
    assert len(modules) == listed.count("   * - ") - 1 >= 20
    assert [module for module in modules if not (SOURCE / module).is_file()] == []


def test_the_architecture_shows_every_state_and_every_unit() -> None:
    text = page("explanation/architecture.rst")
    pictures = text.partition("The life of a job")[2].partition("A job has a *phase*")[0]
    for state in Lifecycle:
        assert state.value in pictures
    for unit in (ROOT / "systemd").glob("*.*"):
        if unit.suffix in (".service", ".socket", ".timer"):
            assert unit.stem in text


# ---- guides


def test_the_tutorial_shows_the_columns_that_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    with generate.application() as app:
        monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: app.extensions["ucloud-slurm"].config)
        printed = CliRunner().invoke(generate.command_line, ["jobs"], catch_exceptions=False).stdout
    (shown,) = re.findall(r"^   (JOB +SLURM .*)$", page("tutorial/first-job.rst"), re.MULTILINE)
    assert printed.split() == shown.split()


@pytest.mark.parametrize(("user", "answer"), [("Alice#1234", "user"), ("Mallory#1", "refused")])
def test_the_program_in_the_guide_about_users_says_who_is_who(user: str, answer: str, tmp_path: Path) -> None:
    _, _, text = page("howto/users.rst").partition(".. code-block:: python\n\n")
    lines = itertools.takewhile(lambda line: line[:1].strip() == "", text.splitlines())
    program, people = tmp_path / "who", tmp_path / "who.json"
    program.write_text(textwrap.dedent("\n".join(lines)).replace("/etc/ucloud-slurm/who.json", str(people)))
    people.write_text(json.dumps({"Alice#1234": "alice"}))
    question = json.dumps({"version": 1, "user": user, "project": None})
    said = subprocess.run([sys.executable, program], input=question, capture_output=True, text=True, check=True).stdout
    assert list(json.loads(said)) == [answer]


# ---- troubleshooting


def strings() -> str:
    """Every piece of text in the source, one a line."""
    nodes = (node for path in SOURCE.rglob("*.py") for node in ast.walk(parsed(path)))
    texts = (node.value for node in nodes if isinstance(node, ast.Constant))
    return "\n".join(" ".join(text.split()) for text in texts if isinstance(text, str))


def test_messages_that_troubleshooting_quotes_are_those_of_the_code() -> None:
    said = strings()
    fragments = []
    for term in re.findall(r"^(?![ .=-])(.+)\n   \S", page("howto/troubleshoot.rst"), re.MULTILINE):
        for quoted in re.findall(r"``([^`]+)``", term):
            if " " in quoted and not quoted.startswith(
                ("ucloud-slurm audit", "ucloud-slurm outbox", "ucloud-slurm show", "ucloud-slurm jobs")
            ):
                fragments += [part.strip() for part in re.split(r"\.\.\.| (?:X|Y|2)\b|[(),:]", quoted)]
    wanted = [fragment for fragment in fragments if len(fragment.split()) > 1]
    assert len(wanted) > 15
    operating_system = {"Read-only file system"}
    missing = [fragment for fragment in wanted if fragment not in said and fragment not in operating_system]
    assert not missing


# ---- speed


def test_plots_are_drawn_from_the_numbers_that_are_there() -> None:
    for path in (DOCS / "measured").glob("*.svg"):
        assert plots.digest(DOCS / "measured") in path.read_text(), "run: python -m tests.sandbox plots docs/measured"


def test_the_readme_says_what_was_measured() -> None:
    readme = (ROOT / "README.rst").read_text()
    said = " ".join(readme.split(".. begin: speed")[1].split(".. end: speed")[0].split())
    assert said == " ".join(bench_pages.quotes(plots.read(DOCS / "measured")) or [bench_pages.NOTHING])
