"""What users of UCloud do, and what the provider hears of it (contract: provider side)."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

from tests.sandbox.core.answers import wrong_session, wrong_utilization
from tests.sandbox.core.early.support import wrong_support
from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.jobs import CoreJob
from tests.sandbox.core.parts import CoreParts
from tests.sandbox.core.requests import UserRequest, check_credits, specification, stored
from tests.sandbox.core.today.application import PARAMETER, whole_application
from tests.sandbox.core.today.features import unknown_features, unreadable
from tests.sandbox.core.today.quotas import Workspace

Json = dict[str, Any]
POLL_EVERY = 10.0
"""Seconds between two questions about what a provider supports, in an era that polls."""


class CoreUsers(CoreParts):
    """The user-facing calls of Core. Used as :class:`SimulatedCore`."""

    def submit(
        self,
        application: tuple[str, str],
        product: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        resources: Sequence[Json] = (),
        name: str | None = None,
        replicas: int = 1,
        minutes: int | None = 10,
        time_allocation: Mapping[str, int] | None = None,
        owner: str = "user",
        project: str | None = None,
    ) -> str:
        """Start a job as a user would. The arguments are those of :class:`UserRequest`.

        :return: the job's id
        :raises CoreError: what the user would see, with the provider's own status and sentence where it
            refused; the job is gone then
        """
        request = UserRequest(
            application, product, parameters or {}, resources, name, replicas, minutes, time_allocation, owner, project
        )
        return self.submit_many([request])[0]

    def submit_many(self, requests: Sequence[UserRequest | Mapping[str, Any]]) -> list[str]:
        """Start jobs of one person in one bulk: all, or none; or one after the other up to the first that fails,
        in an era that creates singly.

        :param requests: as mappings they have the arguments of :meth:`submit`
        :return: their ids, in order
        :raises CoreError: see :meth:`submit`
        """
        wanted = [each if isinstance(each, UserRequest) else UserRequest(**each) for each in requests]
        if len({request.owner for request in wanted}) != 1:
            raise ValueError("A bulk is one person's.")
        for request in wanted:
            self.directory.meet(request.owner, request.project)
        ask = self._ask_more if self.era.job_form == "second" else None
        specifications = [specification(request, self.catalogue, ask) for request in wanted]
        for request, spec in zip(wanted, specifications, strict=True):
            if self.era.asks_wallet:
                check_credits(request, self.catalogue, self.wallets)
            else:
                workspace = Workspace.of(request.owner, request.project)
                self.accounts.require(workspace, spec["product"]["category"])
        if self.asks_support:
            self._admit(specifications)
        every = list(zip(specifications, wanted, strict=True))
        bulks = [[each] for each in every] if self.era.creates_singly else [every]
        return [job_id for bulk in bulks for job_id in self._create(bulk)]

    def have(self, requests: Sequence[UserRequest]) -> list[Json]:
        """Have jobs whose create somebody else sends: they count as answered.

        :return: the jobs as they would be sent, in order
        """
        ask = self._ask_more if self.era.job_form == "second" else None
        made = []
        for request in requests:
            self.directory.meet(request.owner, request.project)
            spec = specification(request, self.catalogue, ask)
            made.append(self._jobs.add(stored(spec), request.owner, request.project, confirmed=True))
        return [self._rendered(job) for job in made]

    def _create(self, bulk: Sequence[tuple[Json, UserRequest]]) -> list[str]:
        jobs = [self._jobs.add(stored(spec), request.owner, request.project) for spec, request in bulk]
        try:
            items = [self._rendered(job) for job in jobs]
            for item, (spec, _) in zip(items, bulk, strict=True):
                item["specification"]["resources"] = self._rendering.values(spec["resources"])
            replies = self._calls.bulk("create", items, bulk[0][1].owner, says_something=True)
            self._confirm({job.id: self._generated(reply) for job, reply in zip(jobs, replies, strict=True)})
        except BaseException:
            self._jobs.remove(job.id for job in jobs)
            raise
        return [job.id for job in jobs]

    def _confirm(self, generated: dict[str, str | None]) -> None:
        try:
            self._jobs.confirm(generated)
        except CoreError as error:
            if self.era.is_fatal:
                self._complain(f"jobs.provider.{self.provider}.create: Core would have ended: {error.why}")
            raise

    def _ask_more(self, app: Json, request: UserRequest) -> list[Json]:
        """Parameters that the provider adds to those of an application.

        :raises CoreError: 502
        """
        name = app["metadata"]
        try:
            return self.open_form((name["name"], name["version"]), request.owner, request.project)
        except CoreError as error:
            raise CoreError(502, error.why) from error

    def open_form(self, application: tuple[str, str], owner: str = "user", project: str | None = None) -> list[Json]:
        """Ask for the provider's own parameters of an application, as a form does before a job is started.

        :param application: name and version
        :return: ApplicationParameters
        :raises CoreError: what the provider answered; 400 for an unknown application
        """
        app = self.catalogue.application(*application)
        if app is None:
            raise CoreError(400, f"Unknown application: {application[0]} {application[1]}")
        call = f"jobs.provider.{self.provider}.requestDynamicParameters"
        whole = {"owner": {"createdBy": owner, "project": project}, "application": whole_application(app)}
        data = self._calls.for_user(call, whole, owner)
        found = (data or {}).get("parameters")
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            self._complain(f"{call}: parameters is no list; say [] for none")
            if found is not None:
                raise CoreError(502, "Invalid response from provider")
        return [PARAMETER | entry for entry in found or []]

    def terminate(self, *job_ids: str, user: str | None = None) -> None:
        """Ask the provider to end jobs, in one bulk. Their states stay until the provider reports new ones.

        :param user: who asks; the owner of the first unless given
        :raises CoreError: 404 for an unknown job, or what the provider answered
        """
        jobs = [self.job(job_id) for job_id in job_ids]
        self._calls.bulk("terminate", [self._rendered(job, others=False) for job in jobs], user or jobs[0].owner)

    def extend(self, job_id: str, minutes: int, user: str | None = None) -> None:
        """Ask for more time, which is added to what the job has. Core itself changes nothing.

        :raises CoreError: see :meth:`terminate`
        """
        job = self.job(job_id)
        self._gate(job, "timeExtension")
        more = {"hours": minutes // 60, "minutes": minutes % 60, "seconds": 0}
        self._calls.bulk(
            "extend", [{"job": self._rendered(job, others=False), "requestedTime": more}], user or job.owner
        )

    def suspend(self, job_id: str, user: str | None = None) -> None:
        """Ask the provider to suspend a job, in the shape of the era. Its state stays until the provider reports.

        :raises CoreError: see :meth:`terminate`
        """
        job = self.job(job_id)
        if self.era.suspend_items == "wrapped":
            self._calls.bulk("suspend", [{"job": self._rendered(job, others=False)}], user or job.owner)
        else:
            call = f"jobs.provider.{self.provider}.suspend"
            self._calls.for_user(call, {"items": [self._rendered(job)]}, user or job.owner, unit=True)

    def unsuspend(self, job_id: str, user: str | None = None) -> None:
        """Ask the provider to let a suspended job go on; 2022 only.

        :raises CoreError: see :meth:`terminate`; 404 in an era without it
        """
        job = self.job(job_id)
        if not self.era.has_suspended:
            raise CoreError(404, "Not found")
        self._calls.bulk("unsuspend", [{"job": self._rendered(job, others=False)}], user or job.owner)

    def open_session(
        self,
        job_id: str,
        rank: int = 0,
        session_type: Literal["WEB", "VNC", "SHELL"] = "SHELL",
        user: str | None = None,
        *,
        target: str | None = None,
    ) -> Json | None:
        """Ask for an interactive session.

        :param target: name of one of several interfaces, in an era that knows them
        :return: the provider's OpenSession, as it came
        :raises CoreError: see :meth:`terminate`
        """
        job = self.job(job_id)
        self._gate(job, {"SHELL": "terminal", "WEB": "web", "VNC": "vnc"}[session_type])
        item = {"job": self._rendered(job, others=False), "rank": rank, "sessionType": session_type}
        if self.era.job_form == "second":
            item["target"] = target
        call = f"jobs.provider.{self.provider}.openInteractiveSession"
        opened = self._calls.bulk("openInteractiveSession", [item], user or job.owner, says_something=True)[0]
        if opened is None and self.era.needs_answers:
            self._complain(f"{call}: there is no session")
            raise CoreError(502, "Invalid response from provider")
        if opened is not None:
            for sentence in wrong_session(opened, job_id, rank, session_type, absolute=self.era.needs_absolute):
                self._complain(f"{call}: {sentence}")
        return opened

    def update_acl(
        self, job_id: str, added: Sequence[Json] = (), deleted: Sequence[Json] = (), user: str | None = None
    ) -> None:
        """Change who may use a job; done at Core only when the provider has agreed.

        :param added: entries ``{"entity": AclEntity, "permissions": [...]}``
        :param deleted: AclEntities
        :raises CoreError: see :meth:`terminate`
        """
        job = self.job(job_id)
        item = {"resource": self._rendered(job), "added": list(added), "deleted": list(deleted)}
        self._calls.bulk("updateAcl", [item], user or job.owner)
        gone = [*deleted, *(entry["entity"] for entry in added)]
        kept = [entry for entry in self.job(job_id).acl if entry["entity"] not in gone]
        self._jobs.change_acl(job_id, [*kept, *added])

    def retrieve_products(self) -> list[Json]:
        """Ask the provider what it supports, and believe it.

        :return: the ComputeSupport elements
        :raises CoreError: what the provider answered
        """
        call = f"jobs.provider.{self.provider}.retrieveProducts"
        found = self._calls.responses(call, self._calls.plain(call))
        if self.era.polls:
            wrong = list(unreadable(found))
            for sentence in wrong or unknown_features(found):
                self._complain(f"{call}: {sentence}")
            if wrong:
                raise CoreError(502, "Invalid response from provider")
            self._features.learn([each for each in found if self._sold(each)])
            return found
        for sentence in wrong_support(found):
            self._complain(f"{call}: {sentence}")
        # Core drops what it cannot resolve, silently.
        self._support.learn([each for each in found if not list(wrong_support([each])) and self._sold(each)])
        return found

    def retrieve_utilization(self, job_id: str, category: str | None = None) -> Json:
        """Ask the provider how much of it is in use, as the page of a job does.

        :param category: of products, in an era that names one; the job's own unless given
        :return: JobsRetrieveUtilizationResponse as it came: cpu in cores, memory in bytes, jobs in the queue
        :raises CoreError: 404 for an unknown job; what the provider answered
        """
        own = self.job(job_id).specification["product"]["category"]
        query = {"categoryId": category or own} if self.era.utilization_by_category else None
        call = f"jobs.provider.{self.provider}.retrieveUtilization"
        data = self._calls.plain(call, query=query)
        if not isinstance(data, dict):
            self._complain(f"{call}: the answer is not a JSON object")
            raise CoreError(502, "Invalid response from provider")
        for sentence in wrong_utilization(data):
            self._complain(f"{call}: {sentence}")
        return data

    def _generated(self, reply: Json | None) -> str | None:
        id_ = None if reply is None else reply.get("id")
        if reply is not None and not isinstance(id_, str):
            self._complain(f"jobs.provider.{self.provider}.create: a response is neither null nor has an id")
            raise CoreError(502, "Invalid response from provider")
        return id_

    def _admit(self, specifications: Sequence[Json]) -> None:
        if self.era.polls:
            for spec in specifications:
                self._gate_by(spec, "enabled")
            return
        if self._support.stale:
            try:
                self.retrieve_products()
            except CoreError as error:
                raise CoreError(502, "We received no information from the provider") from error
        for spec in specifications:
            self._support.admit(spec["product"], self._backend(spec))

    def _backend(self, spec: Json) -> str:
        app = self.catalogue.application(spec["application"]["name"], spec["application"]["version"])
        tool = app["invocation"]["tool"]["tool"]["description"] if app else {}
        return str(tool.get("backend", "NATIVE"))

    def _gate(self, job: CoreJob, flag: str) -> None:
        """Refuse what the provider does not support, if that is asked for and this Core knows it."""
        if self.asks_support and self.era.polls:
            self._gate_by(job.specification, flag)

    def _gate_by(self, spec: Json, flag: str) -> None:
        if self._features_at is None or self._now() - self._features_at >= POLL_EVERY:
            self._features_at = self._now()
            with suppress(CoreError):  # the last good answer stays in force
                self.retrieve_products()
        self._features.admit(spec["product"], self._backend(spec), flag)

    def _sold(self, element: Json) -> bool:
        product = self.catalogue.product(element.get("product") or {})
        return product is not None and product.get("type", "compute") == "compute"
