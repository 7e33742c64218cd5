"""The acts of the operator's page: each has a page of its own, which says what will happen, and a form that does it."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote, urlencode

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response

from ucloud_slurm.errors import Conflict, NotFound, Refused, one_line
from ucloud_slurm.page.guard import Guard
from ucloud_slurm.provider import operators
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.status import moment
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.maintenance import ALL

LONGEST_VALUE = 1000  # characters
Values = dict[str, str]
NO_MAINTENANCE = "It was not under maintenance."


class Field(NamedTuple):
    """What an act has to know.

    :ivar late: it is asked for by the form that does the act; the others before, because what will happen depends on them
    """

    name: str
    label: str
    hint: str = ""
    required: bool = True
    late: bool = False


class Act(NamedTuple):
    """Something that an administrator can do here.

    :ivar title: of the page and of its button
    :ivar back: the address of the page that shows what became of it; names of fields in braces
    :ivar plan: sentences that say what will happen. It may write a value in a form that means the same later
    :ivar do: does it as a person, and says in a sentence what was done; repeated it changes nothing
    """

    title: str
    back: str
    plan: Callable[[Provider, Values], list[str]]
    do: Callable[[Provider, Values, str], str]
    fields: tuple[Field, ...] = ()

    def address(self, values: Values) -> str:
        """The page to which it leads."""
        return self.back.format_map({name: quote(value, safe="") for name, value in values.items()})


def _plan_retry_messages(provider: Provider, _: Values) -> list[str]:
    return [f"{provider.outbox.parked()} messages that UCloud has refused wait again, and are sent at the next pass."]


def _retry_messages(provider: Provider, _: Values, who: str) -> str:
    return f"{operators.retry_messages(provider, who)} messages wait again."


def _plan_connect(provider: Provider, values: Values) -> list[str]:
    user, account = values["ucloud_user"], values["local_user"]
    link = operators.user_link(provider, user, account, "")
    before = [str(each) for each in provider.people.former(user, account)]
    return [f"Jobs of the UCloud user {user} run as the Unix user {account} (uid {link.uid}) from now on.", *before]


def _connect(provider: Provider, values: Values, who: str) -> str:
    link = operators.user_link(provider, values["ucloud_user"], values["local_user"], who)
    provider.people.add([link], per_account=provider.config.users.connections_per_account)
    return f"{link.username} is connected with {link.local_user}."


def _plan_disconnect(provider: Provider, values: Values) -> list[str]:
    link = provider.people.of(values["ucloud_user"])
    if link is None:
        raise NotFound(f"{one_line(values['ucloud_user'], 60)} is not connected with an account.")
    return [f"{link.username} can start no more jobs as {link.local_user}.", "Running jobs go on."]


def _disconnect(provider: Provider, values: Values, who: str) -> str:
    with suppress(NotFound):
        provider.people.remove(values["ucloud_user"], who, provider.now())
    return f"{values['ucloud_user']} is not connected any more."


def _plan_maintenance(provider: Provider, values: Values) -> list[str]:
    machine = _machines(provider, values)[0]
    if values["until"]:
        values["until"] = moment(operators.end_time(values["until"], provider.now()))
    until = f"until {values['until']}" if values["until"] else "until somebody ends it"
    which = "Every machine accepts" if machine == ALL else f"The machine {operators.machine_name(machine)} accepts"
    return [
        f"{which} no new jobs, from now on {until}.",
        f"The researcher of each reads: {operators.line('message', values['message'])}",
        "Jobs at Slurm go on. Jobs that were accepted and are not at Slurm yet wait until it is over.",
    ]


def _begin_maintenance(provider: Provider, values: Values, who: str) -> str:
    these, until = _machines(provider, values), values["until"]
    end = operators.end_time(until, provider.now()) if until else None
    operators.begin_maintenance(provider, these, values["message"], end, who)
    return f"Under maintenance: {operators.machine_name(these[0])}."


def _plan_end_maintenance(provider: Provider, values: Values) -> list[str]:
    windows = [window.key for window in provider.maintenance.listed()]
    these = [machine for machine in _ending(provider, values) or windows if machine in windows]
    if not these:
        return [NO_MAINTENANCE]
    return [f"Machines that accept new jobs again: {operators.names(these)}.", "The worker submits the jobs that wait."]


def _end_maintenance(provider: Provider, values: Values, who: str) -> str:
    ended = operators.end_maintenance(provider, _ending(provider, values), who)
    named = operators.names(ended or _machines(provider, values))
    return f"{named}: {'accepts new jobs again' if ended else 'was not under maintenance'}."


def _ending(provider: Provider, values: Values) -> list[operators.Machine]:
    """The machine whose maintenance ends; empty: whatever is under maintenance, also what is no product any more."""
    these = _machines(provider, values)
    return [] if these == [ALL] else these


def _machines(provider: Provider, values: Values) -> list[operators.Machine]:
    name = values["product"]
    return [ALL] if name in ("", operators.machine_name(ALL)) else operators.machines(provider, [name])


def _plan_retry_events(_: Provider, __: Values) -> list[str]:
    return ["All events that wait or have failed are delivered at the next pass."]


def _retry_events(provider: Provider, _: Values, who: str) -> str:
    return f"{operators.retry_events(provider, who)} events are delivered at the next pass."


def _plan_drop(provider: Provider, values: Values) -> list[str]:
    event = provider.hook_events.open(_number(values["event"]))
    what = f"The event {event.id} ({event.event}) about {event.subject} is not delivered any more."
    return [what, "Later ones about the same subject go on."]


def _drop(provider: Provider, values: Values, who: str) -> str:
    number = _number(values["event"])
    try:
        operators.drop_event(provider, number, who)
    except NotFound:
        return f"The event {number} neither waits nor has failed."
    return f"The event {number} is not delivered any more."


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise Refused("event: should be the number of an event.")
    return int(text)


def _plan_cancel(provider: Provider, values: Values) -> list[str]:
    row = provider.jobs.get(values["job"])
    if row is None:
        raise NotFound(f"There is no job {one_line(values['job'], 60)}.")
    if row.phase in (JobPhase.ENDED, JobPhase.REFUSED):
        raise Conflict(f"Job {row.id} has ended already.")
    at_slurm = "" if row.slurm_id is None else f" (Slurm job {row.slurm_id})"
    return [
        f"The job {row.id}{at_slurm} of {row.owner}, which runs as {row.local_user}, is cancelled.",
        "What it has used is billed. This cannot be undone.",
    ]


def _cancel(provider: Provider, values: Values, who: str) -> str:
    return operators.cancel_job(provider, values["job"], values["why"] or None, who)


ACTS: Mapping[str, Act] = {
    "retry-messages": Act("Send refused messages again", "/outbox", _plan_retry_messages, _retry_messages),
    "connect": Act(
        "Connect a user",
        "/people",
        _plan_connect,
        _connect,
        (Field("ucloud_user", "User of UCloud", "such as Ada#1815"), Field("local_user", "Unix user of this host")),
    ),
    "disconnect": Act("Disconnect a user", "/people", _plan_disconnect, _disconnect, (Field("ucloud_user", "User of UCloud"),)),
    "maintenance-on": Act(
        "Begin maintenance",
        "/",
        _plan_maintenance,
        _begin_maintenance,
        (
            Field("message", "Message", "one line, which researchers read"),
            Field(
                "until", "Until", "in UTC, such as 2026-12-01T18:00, or a span from now, such as 12h; empty: open end", False
            ),
            Field("product", "Machine", "its id, or category/id; empty: all machines", False),
        ),
    ),
    "maintenance-off": Act(
        "End maintenance", "/", _plan_end_maintenance, _end_maintenance, (Field("product", "Machine", "or all"),)
    ),
    "retry-events": Act("Deliver events again", "/hooks", _plan_retry_events, _retry_events),
    "drop-event": Act("Give up an event", "/hooks", _plan_drop, _drop, (Field("event", "Number of the event"),)),
    "cancel": Act(
        "Cancel the job",
        "/jobs/{job}",
        _plan_cancel,
        _cancel,
        (
            Field("job", "Job"),
            Field("why", "Reason", "one line, which the researcher reads; empty: none", required=False, late=True),
        ),
    ),
}


def blueprint(provider: Provider, guard: Guard, session: Callable[[], str]) -> Blueprint:
    """``/act/`` and everything below it.

    :param session: of the browser that asks; empty where it has none
    """
    place = Blueprint("act", __name__, url_prefix="/act")

    @place.get("/<name>")
    def ask(name: str) -> str:
        act, who, given = _act(name), guard.who(request.headers), _given(request.args)
        values = {field.name: given.get(field.name, "") for field in act.fields}
        early = [field for field in act.fields if not field.late]
        whole = all(values[field.name] if field.required else field.name in given for field in early)
        sentences = act.plan(provider, values) if whole else None
        back = act.address(values) if whole else act.back
        token = guard.token(who, session(), name)
        return render_template("act.html", act=act, values=values, sentences=sentences, who=who, token=token, back=back)

    @place.post("/<name>")
    def do(name: str) -> Response:
        act, who, given = _act(name), guard.who(request.headers), _given(request.form)
        guard.check_origin(request.headers, request.host)
        guard.check(given.get("token", ""), who, session(), name)
        values = {field.name: given.get(field.name, "") for field in act.fields}
        for field in act.fields:
            if field.required and not values[field.name]:
                raise Refused(f"{field.label}: is missing.")
        done = act.do(provider, values, who)
        return redirect(f"{act.address(values)}?{urlencode(guard.sealed(done))}", 303)

    return place


def _act(name: str) -> Act:
    if name not in ACTS:
        raise NotFound("There is no such act.")
    return ACTS[name]


def _given(parameters: Mapping[str, str]) -> Values:
    """Values as they were typed, without spaces around them.

    :raises Refused: one is too long
    """
    for name, value in parameters.items():
        if len(value) > LONGEST_VALUE:
            raise Refused(f"{one_line(name, 40)}: should have at most {LONGEST_VALUE} characters.")
    return {name: value.strip() for name, value in parameters.items()}
