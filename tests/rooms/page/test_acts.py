"""P13: an operator changes something on the page by a form that says what will happen, and nobody else does."""

import grp
import http.client
import pwd
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests

from tests.conftest import START, Clock, Open, World
from tests.rooms.page.conftest import Page, open_link, paged, serving
from tests.rooms.page.test_pages import HARMLESS, read
from tests.support.factories import new_job
from tests.support.hook_site import HookSite
from ucloud_slurm.page.acts import ACTS
from ucloud_slurm.page.app import create_page
from ucloud_slurm.page.guard import Guard
from ucloud_slurm.page.shown import page_url
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.store.maintenance import ALL, MaintenanceWindow
from ucloud_slurm.store.outbox import MessageOutcome
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.users import name_service
from ucloud_slurm.worker.hooks import deliver_events

HEADER = "X-Remote-User"
NAME = '"></td><script> onerror=x'
VALUES = {
    "retry-messages": {},
    "connect": {"ucloud_user": "Ada#1", "local_user": "ada"},
    "disconnect": {"ucloud_user": "Bob#1"},
    "maintenance-on": {"message": "New disks.", "until": "", "product": ""},
    "maintenance-off": {"product": "all"},
    "retry-events": {},
    "drop-event": {"event": "1"},
    "cancel": {"job": "none"},
}


@pytest.fixture(autouse=True)
def accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ada has an account on this host, and is a member of the group."""
    by_name, by_group, groups = pwd.getpwnam, grp.getgrnam, name_service.groups_of
    ada, group = pwd.struct_passwd(("ada", "x", 54321, 54321, "", "/home/ada", "/bin/bash")), 64321
    monkeypatch.setattr(pwd, "getpwnam", lambda name: ada if name == "ada" else by_name(name))
    members = grp.struct_group(("ucloud-users", "x", group, []))
    monkeypatch.setattr(grp, "getgrnam", lambda name: members if name == "ucloud-users" else by_group(name))
    monkeypatch.setattr(name_service, "groups_of", lambda name, gid: [gid, group] if name == "ada" else groups(name, gid))


@pytest.fixture
def acting(world: World, clock: Clock) -> Iterator[Page]:
    """The page with acts, which Grace has started and opened."""
    with paged(world.provider, clock, Guard("grace")) as page:
        yield open_link(page)


def form(page: Page, name: str, **values: str) -> dict[str, str]:
    """What the browser sends from the page of an act."""
    shown = page.look(f"/act/{name}?{urlencode(VALUES[name] | values)}")
    assert shown.status_code == 200, shown.text
    assert '<form class="ask" method="post"' in shown.text
    return dict(re.findall(r'<input (?:type="hidden" )?name="(\w+)" value="([^"]*)"', shown.text))


def send(page: Page, name: str, data: dict[str, str], **headers: str) -> requests.Response:
    """Sends a form as a browser does from this page, unless its headers are others."""
    usual = {"Origin": page.url, "Sec-Fetch-Site": "same-origin"}
    headers = {key: value for key, value in (usual | {k.replace("_", "-"): v for k, v in headers.items()}).items() if value}
    return page.browser.post(f"{page.url}/act/{name}", data=data, headers=headers, timeout=30)


def done(page: Page, name: str, **values: str) -> str:
    """Does an act; returns what the page says of it then."""
    answer = send(page, name, form(page, name, **values))
    assert (answer.status_code, [each.status_code for each in answer.history]) == (200, [303]), answer.text
    (notice,) = re.findall(r'<p class="notice" role="status">(.*)</p>', answer.text)
    return str(notice)


def recorded(world: World) -> list[tuple[str, str, str]]:
    return [(act.who, act.kind, act.what) for act in world.provider.acts.listed(0.0, 100)]


# ---- who may


def test_without_the_option_there_is_no_act_and_no_way_to_one(opened: Page) -> None:
    for name in ACTS:
        assert opened.look(f"/act/{name}").status_code == 404
        assert send(opened, name, VALUES[name]).status_code == 404
    for path in ("/", "/outbox?outcome=parked", "/people", "/hooks"):
        assert "/act/" not in opened.look(path).text
    assert "nothing can be changed on these pages" in opened.look("/").text


def test_a_form_without_the_token_of_its_page_does_nothing(world: World, acting: Page) -> None:
    others = [form(acting, "maintenance-off")["token"], Guard("grace").token("grace", "", "maintenance-on"), "", "\N{SNOWMAN}"]
    data = form(acting, "maintenance-on")
    for token in others:
        answer = send(acting, "maintenance-on", data | {"token": token})
        assert (answer.status_code, "nothing was done" in answer.text) == (403, True), token
    del data["token"]
    assert send(acting, "maintenance-on", data).status_code == 403
    assert (recorded(world), world.provider.maintenance.listed()) == ([], [])


def test_a_form_needs_the_cookie_to_which_its_token_belongs(world: World, clock: Clock) -> None:
    guard = Guard("grace")
    with paged(world.provider, clock, guard) as page, paged(world.provider, clock, guard) as another:
        data = form(open_link(page), "maintenance-on")
        answer = requests.post(f"{page.url}/act/maintenance-on", data=data, headers={"Origin": page.url}, timeout=30)
        assert answer.status_code == 403
        assert send(open_link(another), "maintenance-on", data).status_code == 403
    assert world.provider.maintenance.listed() == []


def test_looking_changes_nothing(world: World, acting: Page) -> None:
    for name, values in VALUES.items():
        token = acting.look(f"/act/{name}").text.partition('name="token" value="')[2].partition('"')[0]
        acting.look(f"/act/{name}?{urlencode(values | {'token': token})}")
        for verb in ("PUT", "DELETE", "PATCH"):
            assert acting.browser.request(verb, f"{acting.url}/act/{name}", data=values, timeout=30).status_code == 405
    assert (recorded(world), world.provider.maintenance.listed()) == ([], [])


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        ("https://example.org", "cross-site"),
        ("https://example.org", ""),
        ("null", "same-origin"),
        ("", ""),
        ("", "none"),
        ("", "same-site"),
        ("{own}", "cross-site"),
        ("{own}.example.org", "same-origin"),
        ("https://127.0.0.1", ""),
    ],
)
def test_a_form_from_another_page_does_nothing(world: World, acting: Page, origin: str, site: str) -> None:
    data = form(acting, "maintenance-on")
    answer = send(acting, "maintenance-on", data, Origin=origin.format(own=acting.url), Sec_Fetch_Site=site)
    assert (answer.status_code, "was not sent from this page" in answer.text) == (403, True)
    assert world.provider.maintenance.listed() == []


@pytest.mark.parametrize(("origin", "site"), [("{own}", ""), ("", "same-origin")])
def test_a_browser_that_says_one_of_both_is_believed(acting: Page, origin: str, site: str) -> None:
    data = form(acting, "maintenance-on")
    answer = send(acting, "maintenance-on", data, Origin=origin.format(own=acting.url), Sec_Fetch_Site=site)
    assert answer.status_code == 200


def test_no_address_makes_the_page_say_what_it_has_not_done(acting: Page) -> None:
    assert done(acting, "maintenance-on") == "Under maintenance: all."
    for seal in ("", "0" * 64, Guard("grace").sealed("Trust me.")["seal"]):
        assert "Trust me." not in acting.look(f"/?{urlencode({'done': 'Trust me.', 'seal': seal})}").text


def test_what_was_done_is_said_on_one_page_only(acting: Page) -> None:
    with acting.app.test_request_context("/people?done=x&seal=y&after=a"):
        assert page_url(after="b") == "/people?after=b"


def test_what_the_proxy_says_is_who_did_it(world: World, tmp_path: Path) -> None:
    path, host = tmp_path / "page.sock", "operators.example.org"
    guard = Guard("ucloud-slurm", HEADER)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with serving(listening, create_page(world.provider, None, guard=guard)):

            def ask(verb: str, origin: str, *names: str, token: str | None = None) -> tuple[int, str]:
                connection = http.client.HTTPConnection(host, timeout=30)
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.connect(str(path))
                body = urlencode(VALUES["maintenance-on"] | {"token": token}) if token else ""
                connection.putrequest(verb, f"/act/maintenance-on?{urlencode(VALUES['maintenance-on'])}")
                for name in names:
                    connection.putheader(HEADER, name)
                connection.putheader("Origin", origin)
                connection.putheader("Content-Type", "application/x-www-form-urlencoded")
                connection.putheader("Content-Length", str(len(body)))
                connection.endheaders(body.encode())
                answer = connection.getresponse()
                text = answer.read().decode()
                connection.close()
                return answer.status, text

            own = f"https://{host}"
            for names in ((), ("",), ("  ",), ("ada", "grace")):
                status, text = ask("GET", own, *names)
                assert (status, f"name one person in the header {HEADER}" in text) == (403, True), names
            token = ask("GET", own, "ada")[1].partition('name="token" value="')[2].partition('"')[0]
            refused = (
                ask("POST", own, token=token),
                ask("POST", own, "bob", token=token),
                ask("POST", f"http://{host}", "ada", token=token),
                ask("POST", "https://example.org", "ada", token=token),
            )
            assert [status for status, _ in refused] == [403] * 4
            assert recorded(world) == []
            assert ask("POST", own, "ada", token=token)[0] == 303
    assert recorded(world) == [("ada", "maintenance", "maintenance of all: New disks.")]
    assert world.provider.maintenance.listed()[0].begun_by == "ada"


def test_nobody_names_another_person_at_a_port(world: World, acting: Page) -> None:
    data = form(acting, "maintenance-on")
    assert send(acting, "maintenance-on", data, X_Remote_User="ada").status_code == 200
    assert [who for who, *_ in recorded(world)] == ["grace"]


# ---- what they do


def test_a_running_job_is_cancelled_once_and_its_owner_reads_why(world: World, acting: Page) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(60)
    assert f"/act/cancel?job={job}" in acting.look(f"/jobs/{job}").text
    data = form(acting, "cancel", job=job)
    assert data["why"] == ""
    for _ in range(2):
        answer = send(acting, "cancel", data | {"why": "The node burns."})
        assert (answer.status_code, answer.url.partition("?")[0]) == (200, f"{acting.url}/jobs/{job}")
        assert f"Slurm was asked to cancel job {job}" in answer.text
    assert world.row(job).stop is Stop.CANCELLED
    assert recorded(world) == [("grace", "jobs", f"cancelled the job {job}: The node burns.")]
    world.work(60)
    world.work(60)
    statuses = [update["status"] for update in world.core.job(job).updates]
    assert statuses.count("The provider cancels the job: The node burns.") == 1
    assert statuses[-1] == "The provider has cancelled the job."
    assert world.told(job)[-1] == "SUCCESS"
    assert world.row(job).phase is JobPhase.ENDED
    assert send(acting, "cancel", data).text.count(f"Job {job} has ended already.") == 1
    assert acting.look(f"/act/cancel?job={job}").status_code == 409
    assert len(recorded(world)) == 1
    assert "provider: An administrator has cancelled the job" in " ".join(
        f"{who}: {what}"
        for who, what in re.findall(r'"who">(.*?)</span>\s*<span class="what">(.*?)<', acting.look(f"/jobs/{job}").text)
    )


def test_refused_messages_are_queued_again_once(world: World, acting: Page) -> None:
    outbox = world.provider.outbox
    world.provider.jobs.accept([new_job("1")])
    outbox.enqueue("1", "update", {"update": {"status": "x"}}, 1.0)
    outbox.mark_done(outbox.listed(10), MessageOutcome.PARKED, "400", 1.0)
    assert "/act/retry-messages" in acting.look("/outbox?outcome=parked").text
    assert "1 messages that UCloud has refused" in acting.look("/act/retry-messages").text
    assert done(acting, "retry-messages") == "1 messages wait again."
    assert (outbox.waiting(), outbox.parked()) == (1, 0)
    assert done(acting, "retry-messages") == "0 messages wait again."
    assert recorded(world) == [("grace", "outbox", "queued 1 refused messages again")]


def test_a_user_is_connected_and_disconnected(world: World, acting: Page) -> None:
    people = world.provider.people
    assert "run as the Unix user ada (uid 54321)" in acting.look(f"/act/connect?{urlencode(VALUES['connect'])}").text
    data = form(acting, "connect")
    for _ in range(2):
        assert "Ada#1 is connected with ada." in send(acting, "connect", data).text
    assert people.listed() == [UserLink("Ada#1", "ada", 54321, START, "grace")]
    conflict = send(acting, "connect", form(acting, "connect", ucloud_user="Eve#1"))
    assert (conflict.status_code, "ada is connected with Ada#1 already." in conflict.text) == (409, True)
    nobody = acting.look("/act/connect?ucloud_user=Eve%231&local_user=nobody-at-all")
    assert (nobody.status_code, "there is no account" in nobody.text) == (400, True)
    assert f"/act/disconnect?{urlencode({'ucloud_user': 'Ada#1'})}" in acting.look("/people").text
    data = form(acting, "disconnect", ucloud_user="Ada#1")
    for _ in range(2):
        assert "Ada#1 is not connected any more." in send(acting, "disconnect", data).text
    assert people.listed() == []
    assert recorded(world) == [
        ("grace", "users", "connected Ada#1 with ada"),
        ("grace", "users", "disconnected Ada#1 from ada"),
    ]


def test_maintenance_begins_and_ends(world: World, clock: Clock, acting: Page) -> None:
    maintenance = world.provider.maintenance
    data = form(acting, "maintenance-on", until="2h", product="example-compute-4")
    clock.advance(60)
    first, answer = (send(acting, "maintenance-on", data) for _ in range(2))
    assert first.text.count("Under maintenance: example-compute/example-compute-4.") == 1
    assert answer.text == first.text
    (window,) = maintenance.listed()
    assert (window.until, window.begun_at, window.message) == (START + 7200, START + 60, "New disks.")
    assert "/act/maintenance-off?product=example-compute/example-compute-4" in answer.text
    name = "example-compute/example-compute-4"
    assert done(acting, "maintenance-off", product=name) == f"{name}: accepts new jobs again" + "."
    assert done(acting, "maintenance-off", product=name) == f"{name}: was not under maintenance."
    assert maintenance.listed() == []
    assert [what.partition(":")[0] for _, _, what in recorded(world)] == [
        f"maintenance of {name} until 2026-11-18T13",
        f"end of the maintenance of {name}",
    ]
    assert done(acting, "maintenance-on") == "Under maintenance: all."
    assert (
        "end it with `maintenance off`" in send(acting, "maintenance-off", form(acting, "maintenance-off", product=name)).text
    )


def test_the_end_of_all_maintenance_is_that_of_each_machine_also_of_one_that_is_no_product_any_more(
    world: World, acting: Page
) -> None:
    now = world.clock()
    keys = (ALL, ("example-compute", "example-compute-4"), ("example-compute", "gone"))
    world.provider.maintenance.begin(MaintenanceWindow(*key, "New disks.", None, now, "grace") for key in keys)
    named = "all, example-compute/example-compute-4, example-compute/gone"
    plan = acting.look("/act/maintenance-off?product=all").text
    assert f"Machines that accept new jobs again: {named}." in plan
    assert done(acting, "maintenance-off", product="all") == f"{named}: accepts new jobs again."
    assert world.provider.maintenance.listed() == []
    assert done(acting, "maintenance-off", product="all") == "all: was not under maintenance."


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"message": "a\nb"}, "message: should be one line"),
        ({"message": "x" * 1001}, "message: should have at most 1000 characters."),
        ({"until": "tomorrow"}, "until: tomorrow is neither a time"),
        ({"product": "moon"}, "product: moon is not a configured product"),
    ],
)
def test_what_cannot_be_is_refused_before_and_after_the_confirmation(
    world: World, acting: Page, values: dict[str, str], why: str
) -> None:
    data = form(acting, "maintenance-on")
    for answer in (
        acting.look(f"/act/maintenance-on?{urlencode(VALUES['maintenance-on'] | values)}"),
        send(acting, "maintenance-on", data | values),
    ):
        assert (answer.status_code, why in read(answer).text) == (400, True)
    missing = send(acting, "maintenance-on", data | {"message": " "})
    assert (missing.status_code, "Message: is missing." in missing.text) == (400, True)
    assert world.provider.maintenance.listed() == []


def test_events_are_given_up_and_delivered_again(world: World, clock: Clock, open_provider: Open, tmp_path: Path) -> None:
    site = HookSite(tmp_path)
    world.provider = open_provider(hooks=[site.hook("person-connected")])
    events, people = world.provider.hook_events, world.provider.people
    people.add([UserLink(f"{name}#1", name.lower(), 1000, START, "root") for name in ("Ada", "Bob")])
    deliver_events(world.provider)  # nobody answers at the socket
    first, second = events.listed(10)
    with paged(world.provider, clock, Guard("grace")) as page:
        open_link(page)
        assert f"/act/drop-event?event={first.id}" in page.look("/hooks").text
        shown = page.look(f"/act/drop-event?event={first.id}")
        assert f"The event {first.id} (person-connected) about {first.subject}" in shown.text
        data = form(page, "drop-event", event=str(first.id))
        assert f"The event {first.id} is not delivered any more." in send(page, "drop-event", data).text
        assert f"The event {first.id} neither waits nor has failed." in send(page, "drop-event", data).text
        assert [event.id for event in events.listed(10)] == [second.id]
        assert page.look("/act/drop-event?event=x").status_code == 400
        assert events.listed(10)[0].next_at > clock()
        assert done(page, "retry-events") == "1 events are delivered at the next pass."
        assert events.listed(10)[0].next_at == clock()
        assert done(page, "retry-events") == "0 events are delivered at the next pass."
    assert recorded(world)[2:] == [
        ("grace", "hooks", f"dropped the event {first.id}"),
        ("grace", "hooks", "queued 1 events again"),
    ]


def test_values_are_text_on_the_page_of_an_act(world: World, acting: Page) -> None:
    link = UserLink(NAME, "ada", 54321, START, "root")
    world.provider.people.add([link])
    job = world.submit()
    world.provider.store.change("update jobs set owner = ? where id = ?", [NAME, job])
    for path in (
        "/people",
        f"/act/connect?{urlencode({'ucloud_user': NAME, 'local_user': ''})}",
        f"/act/disconnect?{urlencode({'ucloud_user': link.username})}",
        f"/act/maintenance-on?{urlencode({'message': NAME, 'until': '', 'product': ''})}",
        f"/act/cancel?{urlencode({'job': job, 'why': NAME})}",
    ):
        shown = acting.look(path)
        assert shown.status_code == 200, path
        assert ("onerror" in shown.text, read(shown).tags <= HARMLESS) == (True, True), path
