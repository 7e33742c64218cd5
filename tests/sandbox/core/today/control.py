"""What the provider asks of today's Core about jobs and users, and the answers (contract: control routes)."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic.alias_generators import to_camel

from tests.sandbox.core.call import Call
from tests.sandbox.core.directory import Directory
from tests.sandbox.core.drives import Drives
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.errors import CoreEndsError, CoreError, ProtocolError
from tests.sandbox.core.jobs import CoreJob, Jobs
from tests.sandbox.core.rendering import Include, JobRendering
from tests.sandbox.core.today import messages
from tests.sandbox.core.today.bodies import received, truth
from tests.sandbox.core.today.browse import matching, page
from tests.sandbox.core.today.history import after
from tests.sandbox.core.tokens import Tokens

Json = dict[str, Any]
SYSTEM = "_ucloud"
"""Who owns a registered job of nobody."""
MOST_NAMES = 1000
LONGEST_KEY = 2600
"""Bytes of a text in an index of Core's database; a longer one is refused."""
ON_ITS_WAY = 0.25
"""Seconds in which an answer to create that has left the provider is sure to be here."""


@dataclass(slots=True)
class TodayControl:
    """The provider's side of Core. Its parts lock themselves; ``changed`` guards what spans several."""

    provider: str
    era: CoreEra
    changed: threading.Condition
    tokens: Tokens
    jobs: Jobs
    rendering: JobRendering
    directory: Directory
    drives: Drives

    def work(self) -> Mapping[str, Callable[[Call], Json]]:
        """What does each call."""
        return {
            "auth.providers.refresh": self.refresh,
            "jobs.control.retrieve": self.retrieve,
            "jobs.control.browse": self.browse,
            "jobs.control.update": self.update,
            "jobs.control.register": self.register,
            "jobs.control.updateLabels": self.update_labels,
            "jobs.control.browseSshKeys": self.browse_ssh_keys,
            "providers.im.control.approveConnection": self.approve,
            "providers.im.control.clearConnection": self.clear,
            "providers.resources.checkExistence": self.check_existence,
        }

    def refresh(self, call: Call) -> Json:
        """``auth.providers.refresh``."""
        items = received(call, messages.Refreshes).items
        return bulk([{"accessToken": self.tokens.refresh(item.refresh_token), "csrfToken": ""} for item in items])

    # -- jobs -----------------------------------------------------------------------------------------------

    def retrieve(self, call: Call) -> Json:
        """``jobs.control.retrieve``: everything but product and support, whatever the flags say."""
        wanted, job_id = include(call.query), call.asked("id")
        try:
            job = self.jobs.get(job_id)
        except CoreError:
            raise CoreError(403, "Write permission is required") from None
        everything = replace(wanted, application=True, updates=True, parameters=True)
        return self.rendering.job(job, everything, permissions=True)

    def browse(self, call: Call) -> Json:
        """``jobs.control.browse``: unconfirmed jobs too."""
        wanted = include(call.query)
        jobs = matching(self.jobs.all(), call.query, self.jobs.now_ms())
        return page(jobs, call.query, lambda job: self.rendering.job(job, wanted, permissions=True))

    def update(self, call: Call) -> Json:
        """``jobs.control.update``: each job's updates one after the other, all or none by their ids."""
        items = received(call, messages.Updates).items
        need(self.jobs, (item.id for item in items))
        for number, item in enumerate(items):
            self._mind(call, item.update, number)
        with self.changed:
            unanswered = {item.id for item in items}
            self.changed.wait_for(lambda: not self._unconfirmed(unanswered), ON_ITS_WAY)
            for job_id in self._unconfirmed(unanswered):
                call.complain(f"job {job_id} is updated before its create was answered; Core may lose what it has")
            for item in items:
                self.jobs.change(item.id, lambda job, item=item: after(job, item.update, self.jobs.now_ms()))  # type: ignore[misc]
        return {}

    def register(self, call: Call) -> Json:
        """``jobs.control.register``: one after the other; what was registered before an error stays."""
        return bulk([{"id": self._registered(item)} for item in received(call, messages.Registrations).items])

    def update_labels(self, call: Call) -> Json:
        """``jobs.control.updateLabels``."""
        items = received(call, messages.Labels).items
        need(self.jobs, (item.id for item in items))
        for item in items:
            self.jobs.change(item.id, lambda job, item=item: job.with_part(labels=dict(item.labels)))  # type: ignore[misc]
        return {}

    def browse_ssh_keys(self, call: Call) -> Json:
        """``jobs.control.browseSshKeys``: of the owner, or of all who may use the job."""
        wanted = received(call, messages.SshKeysOf)
        job = need(self.jobs, [wanted.job_id])[wanted.job_id]
        project = None if job.project is None or wanted.owner else self.directory.project(job.project)
        people = [job.owner] if project is None else [job.owner, *(name for name in project.members if name != job.owner)]
        keys = self.directory.keys(people)
        return {"items": keys, "itemsPerPage": max(50, len(keys)), "next": None}

    def check_existence(self, call: Call) -> Json:
        """``providers.resources.checkExistence``: by the database, where a job is once it was answered, a drive at once."""
        items = received(call, messages.ResourceNames).items
        if len(items) > MOST_NAMES:
            raise ProtocolError([f"{len(items)} items are too many"])
        there = {("job", job.id) for job in self.jobs.all() if job.confirmed}
        there |= {("file_collection", drive.id) for drive in self.drives.all()}
        return bulk([(item.type, item.id) in there for item in items])

    # -- people ---------------------------------------------------------------------------------------------

    def approve(self, call: Call) -> Json:
        """``providers.im.control.approveConnection``: once for each."""
        username = received(call, messages.Username).username
        with self.changed:
            if not self.directory.knows(username):
                raise CoreEndsError("a connection of a user whom it does not know")
            if username in self.directory.connected:
                raise CoreEndsError("a connection that is there already")
            self.directory.connect(username)
        return {}

    def clear(self, call: Call) -> Json:
        """``providers.im.control.clearConnection``; nobody has to be connected."""
        self.directory.disconnect(received(call, messages.Username).username)
        return {}

    # -- parts ----------------------------------------------------------------------------------------------

    def _unconfirmed(self, job_ids: Iterable[str]) -> list[str]:
        confirmed = {job.id for job in self.jobs.all() if job.confirmed}
        return sorted(set(job_ids) - confirmed)

    def _mind(self, call: Call, update: messages.JobUpdate, number: int) -> None:
        for name in ("state", "expected_state"):
            state = getattr(update, name)
            if state is not None and state not in self.era.states:
                call.complain(f"items[{number}].update.{to_camel(name)}: {state} is no state; Core stores it unseen")

    def _registered(self, item: messages.RegisterItem) -> str:
        generated, owner = item.provider_generated_id or None, item.created_by or SYSTEM
        with self.changed:
            if generated and self.drives.is_taken(generated):
                raise CoreError(409, "Already exists")
            if item.spec.get("product", {}).get("provider") != self.provider:
                raise CoreError(403, "Forbidden")
            if len((generated or "").encode()) > LONGEST_KEY:
                raise CoreEndsError("an id that is too long for an index")
            if not 0 <= item.spec.get("replicas", 0) < 2**31:
                raise CoreEndsError("a number of replicas that no column holds")
            if not self.directory.knows(owner):
                raise CoreEndsError("a job of a user whom it does not know")
            if item.project is not None and self.directory.project(item.project) is None:
                raise CoreEndsError("a job of a project that it does not know")
            return self.jobs.add(item.spec, owner, item.project, confirmed=True, registered_as=generated).id


def need(jobs: Jobs, job_ids: Iterable[str]) -> dict[str, CoreJob]:
    """The jobs of a bulk.

    :raises CoreError: 404 for the whole bulk when one is unknown
    """
    known = {job.id: job for job in jobs.all()}
    wanted = list(job_ids)
    for job_id in wanted:
        if job_id not in known:
            raise CoreError(404, f"Not found or permission denied ({job_id})")
    return {job_id: known[job_id] for job_id in wanted}


def bulk(responses: list[Any]) -> Json:
    """A BulkResponse; an empty one has no key."""
    return {"responses": responses} if responses else {}


def include(query: Mapping[str, str]) -> Include:
    """The flags of a query.

    :raises ProtocolError: 400 for one that is neither true nor false
    """
    flags = {key: truth(value, key) for key, value in query.items() if key.startswith("include")}
    both = flags.get("includeProduct", False) or flags.get("includeSupport", False)
    return Include(
        application=flags.get("includeApplication", False),
        product=both,
        support=both,
        updates=flags.get("includeUpdates", False),
        others=flags.get("includeOthers", False),
        parameters=flags.get("includeParameters", False),
    )
