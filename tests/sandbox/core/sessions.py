"""What Core and the browsers of its users do with sessions and WebSockets: shells, web pages, logs."""

import base64
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from tests.sandbox.core.capabilities import Capabilities
from tests.sandbox.core.checks import wrong_session
from tests.sandbox.core.complaints import Complaints
from tests.sandbox.core.early.follow import FollowedStreams
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.exchanges import Exchanges
from tests.sandbox.core.follow import FollowContext, Followed
from tests.sandbox.core.jobs import Jobs
from tests.sandbox.core.log import Hook
from tests.sandbox.core.provider import ProviderCalls
from tests.sandbox.core.rendering import SentJobs
from tests.sandbox.core.shell import ShellClient
from tests.sandbox.core.sockets import Sockets
from tests.sandbox.core.today.follow import FollowedSockets
from tests.sandbox.core.tokens import Tokens
from tests.sandbox.core.websocket import Socket

Json = dict[str, Any]
FLAGS: Mapping[str, str] = {"SHELL": "terminal", "WEB": "web", "VNC": "vnc"}
"""Type of a session -> what a provider must support for it."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """What users look at and type into.

    :ivar url: Core's own address, which browsers send as their origin
    :ivar timeout: seconds that the provider has for each response in a shell
    """

    era: CoreEra
    calls: ProviderCalls
    jobs: Jobs
    sent: SentJobs
    capabilities: Capabilities
    tokens: Tokens
    sockets: Sockets
    exchanges: Exchanges
    complaints: Complaints
    url: Callable[[], str]
    timeout: float

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
        :raises CoreError: 404 for an unknown job, or what the provider answered
        """
        job = self.jobs.get(job_id)
        self.capabilities.require(job, FLAGS[session_type])
        item = {"job": self.sent.job(job, others=False), "rank": rank, "sessionType": session_type}
        if self.era.job_form == "second":
            item["target"] = target
        call = self.calls.about_jobs("openInteractiveSession")
        opened = self.calls.bulk("openInteractiveSession", [item], user or job.owner, says_something=True)[0]
        if opened is None and self.era.needs_answers:
            self.complaints.add(f"{call}: there is no session")
            raise CoreError(502, "Invalid response from provider")
        if opened is not None:
            for sentence in wrong_session(opened, job_id, rank, session_type, absolute=self.era.needs_absolute):
                self.complaints.add(f"{call}: {sentence}")
        return opened

    def open_terminal(self, folder: str, user: str = "user") -> Json:
        """Ask for a shell in a folder; a 404 in an early era.

        :param folder: such as ``/1/data``
        :return: the provider's OpenSession, as it came
        :raises CoreError: what the provider answered
        """
        self.era.require_today()
        found = self.calls.bulk("openTerminalInFolder", [{"folder": folder}], user, says_something=True)[0]
        if found is None:
            raise CoreError(502, "Invalid response from provider")
        job_id = found.get("jobId")
        for sentence in wrong_session(found, job_id if isinstance(job_id, str) else "", 0, "SHELL"):
            self.complaints.add(f"{self.calls.about_jobs('openTerminalInFolder')}: {sentence}")
        return found

    def shell(self, opened: Mapping[str, Any], cols: int = 80, rows: int = 24, user: str = "user") -> ShellClient:
        """Open a shell, as a user's browser does with what :meth:`open_session` gave it.

        :param opened: OpenSession of the type shell
        :param cols: columns of the terminal
        :param rows: lines of it
        :param user: whose browser it is, which the address says in later eras; there it may be another host than the
            provider's, if the session says so
        :raises CoreError: what the provider answered; 502 when it is not there
        :raises TimeoutError: when it says nothing
        """
        if opened.get("type") != "shell":
            raise ValueError(f"A session of type {opened.get('type')} is no shell.")
        call = f"jobs.compute.{self.calls.provider}.shell.open"
        path = f"/ucloud/{self.calls.provider}/websocket"
        base = None
        if self.era.job_form == "second":
            path += "?" + urlencode({"session": opened["sessionIdentifier"], "usernameHint": _hint(user)})
            base = opened.get("domainOverride") or None
        channel = self.sockets.channel(path, {"Origin": self.url()}, itertools.count(), base)
        shell = ShellClient(channel, call, self.complaints.add, self.timeout)
        shell.begin(opened["sessionIdentifier"], cols, rows)
        return shell

    def follow(
        self, job_id: str, user: str | None = None, *, while_running: bool = True, on_message: Hook | None = None
    ) -> Followed:
        """Look at the log of a job, as a user does on its page.

        Core does so while it takes the job for RUNNING, looking every 100 ms, and asks again 100 ms after the
        provider has ended a stream too early. In an era of sockets it does so in any state, and the browser comes
        back half a second after the provider has closed, until the job has ended. Which jobs have logs by their
        backend is not looked at here.

        :param user: who looks; the owner unless given
        :param while_running: False: ask once and at once, whatever the state
        :param on_message: see :meth:`Followed.on_message`; this way it misses nothing
        :raises CoreError: 404 for an unknown job. What the provider answers is seen in what is returned
        """
        job = self.jobs.get(job_id)
        path = f"/ucloud/jobs.provider.{self.calls.provider}/websocket"
        context = FollowContext(
            call=self.calls.about_jobs("follow"),
            job=self.jobs.get,
            render=self.sent.followed,
            channel=lambda acting: self.sockets.shared(path, acting),
            dial=lambda looking: self._dial(path, looking),
            bearer=self.tokens.core_token,
            introduce=self.calls.introduce,
            exchanges=self.exchanges,
            complain=self.complaints.add,
            crashed=self.complaints.crash,
        )
        way = FollowedStreams if self.era.log_form == "streams" else FollowedSockets
        followed = way(context, job, user or job.owner, while_running=while_running, on_message=on_message)
        self.sockets.keep_user(followed)
        return followed

    def websocket(self, path: str, user: str | None = None, headers: Mapping[str, str] | None = None) -> Socket:
        """Connect with the provider and say anything; nothing is checked.

        :param path: from the root, such as ``/ucloud/example/websocket``
        :param user: acting user
        :param headers: further headers of the handshake
        :raises CoreError: with the provider's status when it opens no WebSocket; 502 when it is not there
        """
        return self.sockets.socket(path, user, headers)

    def _dial(self, path: str, user: str) -> Socket:
        """The WebSocket of one look at a log: who looks is in its address, and Core's token in its handshake."""
        bearer = {"Authorization": f"Bearer {self.tokens.core_token()}"}
        return self.sockets.socket(f"{path}?{urlencode({'usernameHint': _hint(user)})}", None, bearer)


def _hint(user: str) -> str:
    return base64.urlsafe_b64encode(user.encode()).decode()
