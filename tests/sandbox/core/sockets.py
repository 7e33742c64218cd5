"""What Core and the browsers of its users do over WebSockets."""

import base64
import itertools
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from tests.sandbox.core.early.job import Include
from tests.sandbox.core.follow import Followed, Line
from tests.sandbox.core.jobs import CoreJob
from tests.sandbox.core.log import Hook
from tests.sandbox.core.parts import CoreParts
from tests.sandbox.core.shell import ShellClient
from tests.sandbox.core.today.follow import Viewed
from tests.sandbox.core.websocket import Socket

Json = dict[str, Any]


class CoreSockets(CoreParts):
    """Logs, shells and plain WebSockets. Used as :class:`SimulatedCore`, whose stop ends them all."""

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
        job = self.job(job_id)
        call = f"jobs.provider.{self.provider}.follow"
        path = f"/ucloud/jobs.provider.{self.provider}/websocket"
        line = Line(
            call=call,
            job=self.job,
            render=self._with_updates,
            channel=lambda acting: self._lines.shared(path, acting),
            bearer=self.tokens.core_token,
            introduce=self._calls.introduce,
            exchanges=self._exchanges,
            complain=self._complain,
            crashed=self._crash,
        )
        who = user or job.owner
        if self.era.log_form == "streams":
            followed = Followed(line, job, who, while_running=while_running, on_message=on_message)
        else:
            followed = Viewed(self._view, line, job, who, while_running=while_running, on_message=on_message)
        self._lines.keep_user(followed)
        return followed

    def shell(self, opened: Mapping[str, Any], cols: int = 80, rows: int = 24, user: str = "user") -> ShellClient:
        """Open a shell, as a user's browser does with what :meth:`open_session` gave it.

        :param opened: OpenSession of the type shell
        :param cols: columns of the terminal
        :param rows: lines of it
        :param user: whose browser it is, which stands in the address in later eras; there it may be another host
            than the provider's, if the session says so
        :raises CoreError: what the provider answered; 502 when it is not there
        :raises TimeoutError: when it says nothing
        """
        if opened.get("type") != "shell":
            raise ValueError(f"A session of type {opened.get('type')} is no shell.")
        call = f"jobs.compute.{self.provider}.shell.open"
        path = f"/ucloud/{self.provider}/websocket"
        base = None
        if self.era.job_form == "second":
            path += "?" + urlencode({"session": opened["sessionIdentifier"], "usernameHint": _hint(user)})
            base = opened.get("domainOverride") or None
        channel = self._lines.channel(path, {"Origin": self.url}, itertools.count(), base)
        shell = ShellClient(channel, call, self._complain, self._timeout)
        shell.begin(opened["sessionIdentifier"], cols, rows)
        return shell

    def websocket(self, path: str, user: str | None = None, headers: Mapping[str, str] | None = None) -> Socket:
        """Connect with the provider and say anything; nothing is checked.

        :param path: from the root, such as ``/ucloud/example/websocket``
        :param user: acting user
        :param headers: further headers of the handshake
        :raises CoreError: with the provider's status when it opens no WebSocket; 502 when it is not there
        """
        return self._lines.socket(path, user, headers)

    def _view(self, user: str) -> Socket:
        """The WebSocket of one look at a log: who looks is in its address, and Core's token in its handshake."""
        path = f"/ucloud/jobs.provider.{self.provider}/websocket?{urlencode({'usernameHint': _hint(user)})}"
        return self._lines.socket(path, None, {"Authorization": f"Bearer {self.tokens.core_token()}"})

    def _with_updates(self, job: CoreJob) -> Json:
        if self.era.job_form == "second":
            return self._rendered(job)
        include = Include(application=self.include_resolved, support=True, updates=True)
        return self._rendering.job(job, include, permissions=False)


def _hint(user: str) -> str:
    return base64.urlsafe_b64encode(user.encode()).decode()
