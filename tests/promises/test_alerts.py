"""P10: the alert rules and the dashboard that are shipped are about this service, and a page says what to do at each alert."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.promises.test_docs import generate, page
from tests.sandbox import packages
from tests.sandbox.errors import SandboxError

ROOT = Path(__file__).parents[2]
RULES = ROOT / "etc/prometheus/alerts.yml"
TESTS = ROOT / "tests/prometheus/alerts.test.yml"
DASHBOARD = ROOT / "etc/grafana/dashboard.json"
SCRAPED = {"job", "instance"}  # labels that Prometheus adds
SAMPLES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
FIELDS = (r"^        expr: (.+\n(?:          .*\n)*)", r"^          severity: (.*)\n", r"^          summary: (.*)\n")


@dataclass(frozen=True)
class Rule:
    """An alert rule."""

    name: str
    expression: str
    severity: str
    summary: str
    runbook: str


def rules() -> list[Rule]:
    found = []
    for text in re.split(r"^      - alert: ", RULES.read_text(), flags=re.MULTILINE)[1:]:
        values = [re.search(field, text, re.MULTILINE) for field in (*FIELDS, r"^          runbook_url: (.*)\n")]
        assert all(values), f"a rule that cannot be read: {text}"
        expression, *others = (value[1].strip() for value in values if value)
        found.append(Rule(text.partition("\n")[0], expression, *others))
    assert len(found) == RULES.read_text().count("alert: ") >= 20
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [each for each in json.loads(DASHBOARD.read_text())["panels"] if each["type"] != "row"]
    assert len(found) >= 20
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Where an expression is, and the expression."""
    yield from ((rule.name, rule.expression) for rule in rules())
    yield from ((panel["title"], target["expr"]) for panel in panels() for target in panel["targets"])


@cache
def shown() -> Mapping[str, Metric]:
    """What a running service shows, by the names that its samples have."""
    with generate.application() as app:
        text = app.test_client().get("/metrics").get_data(as_text=True)
    families = list(text_string_to_metric_families(text))
    return {f"{family.name}{end}": family for family in families for end in SAMPLES[family.type]}


def labels(family: Metric) -> dict[str, set[str]]:
    """The labels of a metric, and the values that each has."""
    found: dict[str, set[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            found.setdefault(label, set()).add(value)
    return found


def test_an_expression_uses_only_metrics_and_labels_that_the_service_shows() -> None:
    for where, expression in expressions():
        check(where, expression)


def check(where: str, expression: str) -> None:
    known = set(SCRAPED)
    for name, selected in re.findall(r"\b(ucloud_slurm_\w+|up)\b(?:\{([^}]*)\})?", expression):
        if name == "up":  # of Prometheus itself
            continue
        assert name in shown(), f"{where}: /metrics does not show {name}"
        has = labels(shown()[name])
        known |= {*has}
        matchers = re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', selected)
        assert len(matchers) == selected.count('"') / 2
        for label, operator, value in matchers:
            if label not in SCRAPED:
                wanted = set(value.split("|")) if "~" in operator else {value}
                assert wanted <= has.get(label, set()), f"{where}: {name} has no {label}={value}"
    for grouped in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert set(re.findall(r"\w+", grouped)) <= known, f"{where}: {grouped}"


def test_a_sentence_about_an_alert_uses_only_labels_that_the_alert_has() -> None:
    for rule in rules():
        used = set(re.findall(r"\$labels\.(\w+)", rule.summary))
        names = re.findall(r"\bucloud_slurm_\w+", rule.expression)
        assert used <= SCRAPED.union(*(labels(shown()[name]) for name in names)), rule.name
        assert rule.summary.endswith("."), rule.name
        assert rule.severity in ("critical", "warning"), rule.name


def test_every_metric_is_on_the_dashboard() -> None:
    drawn = {name for panel in panels() for target in panel["targets"] for name in re.findall(r"\w+", target["expr"])}
    reference = set(re.findall(r"^   \* - ``(ucloud_slurm_\w+)``$", page("reference/metrics.rst"), re.MULTILINE))
    assert reference == {family.name for family in shown().values()}
    assert {family.name for name, family in shown().items() if name in drawn} == reference


def test_every_alert_has_a_section_that_says_what_to_do_and_no_section_is_about_another() -> None:
    _, *parts = re.split(r"^(\w+)\n-+\n", page("howto/alerts.rst"), flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    assert sections.keys() == {rule.name for rule in rules()}
    for name, text in sections.items():
        for part in ("It means", "Look at", "Do"):
            assert text.count(f"\n**{part}:** ") == 1, f"{name}: {part}"


def test_the_runbook_of_an_alert_is_its_section() -> None:
    for rule in rules():
        assert rule.runbook == f"howto/alerts.html#{rule.name.lower()}"  # the identifier that a section's title gets


def test_alerts_that_the_dashboard_names_exist() -> None:
    named = set(re.findall(r"\bUCloudSlurm\w+", "".join(panel["description"] for panel in panels() if "description" in panel)))
    assert named
    assert named <= {rule.name for rule in rules()}


def test_the_dashboard_has_what_grafana_needs_to_import_it_anywhere() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["schemaVersion"] == 38
    assert "id" not in dashboard, "it is a number of one Grafana"
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "instance"]
    everything = dashboard["panels"]
    numbers = [panel["id"] for panel in everything]
    assert sorted(set(numbers)) == sorted(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert max(x for x, _ in cells) < 24, f"{panel['title']} is too wide"
        taken |= cells
    sources = [part["datasource"] for panel in panels() for part in (panel, *panel["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    for panel in panels():
        for target in panel["targets"]:
            assert target["expr"].count("ucloud_slurm_") == target["expr"].count('instance=~"$instance"'), panel["title"]


# ---- promtool


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is not None:
        return found
    try:
        return str(packages.unpack("prometheus", "usr/bin/promtool", ROOT / "build/prometheus"))
    except SandboxError as error:
        if os.geteuid() == 0 and shutil.which("apt-get"):
            raise
        pytest.skip(str(error))


def test_promtool_finds_that_each_alert_is_quiet_fires_and_ends(promtool: str) -> None:
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(TESTS)]):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout


def test_promtool_is_asked_about_every_alert_once_when_it_fires_and_once_when_it_does_not() -> None:
    asked = re.findall(r"^        alertname: (\w+)\n        exp_alerts:( \[\])?", TESTS.read_text(), re.MULTILINE)
    names = {rule.name for rule in rules()}
    assert {name for name, nothing in asked if nothing} == {name for name, nothing in asked if not nothing} == names
