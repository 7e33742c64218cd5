"""P13: an operator sees each job's life and what waits, at the same cost for any number of jobs, and no secret."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import requests

from tests.conftest import World
from tests.rooms.page.conftest import Page
from tests.support.factories import accept_live, new_job
from ucloud_slurm.bridge.naming import SCRIPT_NAME
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.ucloud.channel import OwnerKind, Payer, Project, Wallet
from ucloud_slurm.ucloud.reports import JobUpdate

LISTS = (
    "/",
    "/jobs",
    "/outbox",
    "/outbox?outcome=parked",
    "/outbox?outcome=all",
    "/people",
    "/wallets",
    "/drives",
    "/hooks",
    "/acts",
    "/use",
)
HOSTILE = "</td></title><script>alert(1)</script><img src=x onerror=alert(1)>\" onclick='x' \x1b[31m\x00\u202e" + "long " * 500
HARMLESS = {
    "html",
    "head",
    "body",
    "meta",
    "link",
    "title",
    "header",
    "main",
    "footer",
    "nav",
    "section",
    "div",
    "span",
    "a",
    "p",
}
HARMLESS |= {"h1", "h2", "ul", "ol", "li", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "th", "td", "form"}
HARMLESS |= {"label", "input", "select", "option", "button", "time", "code", "pre", "strong", "b", "br", "meter", "details"}
HARMLESS |= {"a", "p", "summary", "svg", "path", "rect", "line", "text"}


class Reader(HTMLParser):
    """What a browser makes of a page: its elements, their attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(answer: requests.Response) -> Reader:
    reader = Reader()
    reader.feed(answer.text)
    return reader


def events(answer: requests.Response) -> list[str]:
    """The life of a job as its page lists it."""
    listed = answer.text.partition('<ol class="life">')[2].partition("</ol>")[0]
    found = re.findall(r'<span class="who">(.*?)</span>\s*<span class="what">(.*?)(?: ?<span|</span>)', listed, re.DOTALL)
    return [f"{who}: {what}" for who, what in found]


def test_the_life_of_a_job_is_listed_in_its_order(world: World, opened: Page) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(600)
    world.core.terminate(job)
    world.model.end(world.slurm(job))
    world.work(60)
    world.work(60)
    shown = opened.look(f"/jobs/{job}")
    lines = events(shown)
    wanted = [
        "UCloud: UCloud asked to create the job, and it was written down",
        f"Slurm: Slurm queued the job as {world.model.user}",
        "Slurm: The job started",
        "UCloud: UCloud asked to end the job",
        "Slurm: The job ended as ",
        "provider: The end was recorded",
    ]
    places = [next(number for number, line in enumerate(lines) if line.startswith(each)) for each in wanted]
    assert places == sorted(places), lines
    assert any(line.startswith("provider: Update for UCloud: RUNNING: ") for line in lines)
    assert "provider: Use was charged" in lines
    assert "sleeper 1.0.0" in read(shown).text


def test_a_very_long_life_is_shown_without_its_middle(world: World, opened: Page) -> None:
    job = world.submit()
    with world.provider.store.writing():
        for number in range(500):
            world.provider.outbox.enqueue_update(job, JobUpdate(None, f"number {number}"), world.clock() + number)
    lines = events(opened.look(f"/jobs/{job}"))
    assert len(lines) == 401
    assert any("events are left out here" in line for line in lines)
    assert lines[-1].endswith("number 499")


def test_jobs_are_found_by_each_field_of_the_form(world: World, opened: Page) -> None:
    for number in range(3):
        job = new_job(
            str(number), owner=f"Ada#{number}", project=f"p{number}", product=f"m{number}", name=f"ucloud-{number}-x{number}"
        )
        accept_live(world.provider.jobs, job, slurm_id=7000 + number)
    for query in (
        "text=X1",
        "text=7001",
        "text=1",
        "person=Ada%231",
        "project=p1",
        "product=m1",
        "person=Ada%231&state=IN_QUEUE",
    ):
        answer = opened.look(f"/jobs?{query}")
        assert re.findall(r'<th scope="row"><a href="/jobs/(\d+)">', answer.text) == ["1"], query
        for value in re.findall(r"=([^&]+)", query):
            assert f'value="{unquote(value)}"' in answer.text or " selected" in answer.text, "the form shows it"


def test_a_wrong_address_is_answered_with_the_name_of_its_field(opened: Page) -> None:
    for query in ("state=none", "before=-1", "before=" + "9" * 40, "text=" + "x" * 201):
        answer = opened.look(f"/jobs?{query}")
        assert (answer.status_code, f"{query.partition('=')[0]}: " in read(answer).text) == (400, True), query


def hostile(world: World) -> str:
    """Everything that others can write is hostile; gives the id of a job."""
    provider, now = world.provider, world.clock()
    job = world.submit()
    world.work()
    texts = [HOSTILE] * 6
    provider.store.change(
        "update jobs set name = ?, owner = ?, project = ?, local_user = ?, reason = ?, product = ?, state = 'FAILURE'", texts
    )
    provider.store.change("update outbox set answer = ?", [HOSTILE])
    provider.outbox.enqueue_update(job, JobUpdate(None, HOSTILE), now)
    provider.outbox.enqueue(job, HOSTILE, {"x": HOSTILE}, now)
    provider.store.change("insert into outbox (job_id, kind, body, created_at) values (?, 'usage', '[]', ?)", [job, now])
    provider.store.change("update outbox set outcome = 'parked' where id % 2")
    provider.people.add([UserLink(HOSTILE, HOSTILE, 1, now, HOSTILE)])
    provider.wallets.take([Project("p", HOSTILE, now, True, ())], "example", now)
    for owner in ("p", HOSTILE):
        provider.wallets.set(Wallet(Payer(OwnerKind.PROJECT, owner, HOSTILE), "example", True, 1, 1, True, now))
    provider.store.change(
        "insert into drives (provider_id, name, owner, wanted_at, try_at) values (?1, ?1, ?1, 0, 0)", [HOSTILE]
    )
    day = int(now // 86400)
    provider.store.change("insert into use_by_day values (?, 'project', 'p', 'c', ?, 3600)", [day, HOSTILE])
    provider.store.change("insert into use_by_day values (?, 'user', ?2, 'c', ?2, 3600)", [day, HOSTILE])
    provider.breaker.record_failure("ucloud", HOSTILE, now)
    return job


def test_text_of_others_is_text(world: World, opened: Page) -> None:
    job = hostile(world)
    for path in (*LISTS, f"/jobs/{job}", f"/jobs?text={HOSTILE[:100]}", "/jobs/%3Cscript%3E"):
        answer = opened.look(path)
        assert answer.status_code == (404 if "3Cscript" in path else 200), path
        page = read(answer)
        assert page.tags <= HARMLESS, path
        assert not {name for name in page.attributes if name.startswith("on") or name in ("style", "src", "srcdoc")}, path
        assert all(each.isprintable() or each == "\n" for each in answer.text), path
        assert len(answer.content) < 200_000, path


def test_no_secret_is_on_any_page(world: World, opened: Page) -> None:
    parameters = {"seconds": {"type": "integer", "value": 8_675_309}}
    job = world.submit(parameters=parameters)
    world.work()
    row, config = world.row(job), world.provider.config.ucloud
    assert "8675309" in row.body
    assert row.secret is not None
    secrets = [config.refresh_token(), row.secret, "8675309", world.provider.core.access_token(), opened.access.token]
    for path in (*LISTS, f"/jobs/{job}", f"/jobs/{job}/audit"):
        answer = opened.look(path)
        assert answer.status_code == 200, path
        assert [secret for secret in secrets if secret in answer.text] == [], path


def test_the_overview_gives_the_reasons_of_readyz(world: World, opened: Page) -> None:
    world.provider.breaker.record_failure("slurm", "slurmctld does not answer", world.clock())
    reasons = requests.get(f"{world.url}/readyz", timeout=10).json()["reasons"]
    shown = read(opened.look("/")).text
    assert len(reasons) == 2
    assert all(reason.partition(": ")[2] in shown for reason in reasons)
    assert "2 of " in shown
    world.provider.breaker.record_success("slurm", world.clock())
    world.work()
    assert "parts work" in read(opened.look("/")).text


def test_a_script_is_shown_line_by_line_and_no_other_file(world: World, opened: Page) -> None:
    job = world.submit()
    folder = Path(world.provider.job_paths(world.row(job)).folder)
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / SCRIPT_NAME
    script.write_text("#!/bin/sh\n\techo '<b>' \x1b[0m\n")
    shown = opened.look(f"/jobs/{job}/script").text
    assert "#!/bin/sh\n" in shown
    assert "\techo &#39;&lt;b&gt;&#39; \N{REPLACEMENT CHARACTER}[0m\n" in shown
    script.unlink()
    (folder / "other").write_text("somebody's secret")
    script.symlink_to(folder / "other")
    answer = opened.look(f"/jobs/{job}/script")
    assert (answer.status_code, "secret" in answer.text, "It is not there" in answer.text) == (200, False, True)


def test_a_bill_is_compared_with_what_slurm_counts(world: World, opened: Page) -> None:
    world.provider.jobs.accept([new_job("9")])
    assert "counted nothing" in read(opened.look("/jobs/9/audit")).text
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.clock.advance(3600)
    world.model.end(world.slurm(job))
    world.work(60)
    assert "Everything is explained" in read(opened.look(f"/jobs/{job}/audit")).text
    world.provider.store.change("update jobs set charged = 0 where id = ?", [job])
    assert "1 not explained" in read(opened.look(f"/jobs/{job}/audit")).text


def test_use_is_drawn_for_each_day_and_listed_for_each_wallet(world: World, opened: Page) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.clock.advance(7200)
    world.model.end(world.slurm(job))
    world.work(60)
    answer = opened.look("/use")
    row = world.row(job)
    assert row.charged >= 7200
    assert len(re.findall(r'<path class="s0" d="M[^"]+z"/>', answer.text)) == 1
    assert f"{row.charged / 3600:.1f}" in read(answer).text
    assert f"{row.owner} " in read(answer).text
    assert opened.look("/use?days=31").status_code == 400


def test_no_parameter_of_an_address_is_taken_for_one_of_ours(world: World, opened: Page) -> None:
    world.provider.jobs.accept([new_job(str(number), body=json.dumps({})) for number in range(300)])
    for parameter in ("endpoint=x", "_method=PUT", "_external=1", "_anchor=x"):
        answer = opened.look(f"/jobs?{parameter}")
        assert (answer.status_code, 'href="/jobs?' in answer.text) == (200, True), parameter


def test_a_page_costs_the_same_for_any_number_of_jobs(world: World, opened: Page) -> None:
    provider, client = world.provider, opened.app.test_client()
    for each in opened.browser.cookies:
        client.set_cookie(each.name, str(each.value), domain="127.0.0.1")
    asked: list[str] = []

    def statements(path: str) -> int:
        asked.clear()
        answer = client.get(path, headers={"Host": f"127.0.0.1:{opened.port}"})
        assert answer.status_code == 200
        return len(asked)

    provider.store._connection().conn.set_trace_callback(asked.append)
    counts = []
    for first, last in ((0, 1), (1, 300)):
        provider.jobs.accept([new_job(str(number), body=json.dumps({})) for number in range(first, last)])
        counts.append([statements(path) for path in (*LISTS, "/jobs?text=u&person=o", "/jobs/0")])
    provider.store._connection().conn.set_trace_callback(None)
    assert counts[0] == counts[1]
    assert max(counts[1]) <= 25
