"""A UCloud/Core to try a provider on: what Core does with jobs, wallets and tokens, in one process.

Strict where Core is strict, and in places stricter, so that a provider's mistakes are seen: every message
that the contract does not allow is in :attr:`SimulatedCore.protocol_errors`. Users start and follow jobs,
and open shells on them. Not simulated: what goes through the browser to a web or VNC session, files, the
registration of providers, TLS towards the provider's WebSockets, and the web pages.
"""

from tests.sandbox.core.directory import Project
from tests.sandbox.core.drives import CoreDrive
from tests.sandbox.core.era import CORE_2021, CORE_2022, CORE_TODAY, ERAS, CoreEra
from tests.sandbox.core.errors import CoreCrashError, CoreError
from tests.sandbox.core.exchanges import Exchange
from tests.sandbox.core.follow import Followed
from tests.sandbox.core.frames import ResponseFrame
from tests.sandbox.core.jobs import BookedCharge, CoreJob, StateChange
from tests.sandbox.core.shell import ShellClient
from tests.sandbox.core.simulated import SimulatedCore
from tests.sandbox.core.today.quotas import Account, Report, Workspace
from tests.sandbox.core.user_requests import UserRequest
from tests.sandbox.core.websocket import Socket, SocketClosedError

__all__ = [
    "CORE_2021",
    "CORE_2022",
    "CORE_TODAY",
    "ERAS",
    "Account",
    "BookedCharge",
    "CoreCrashError",
    "CoreDrive",
    "CoreEra",
    "CoreError",
    "CoreJob",
    "Exchange",
    "Followed",
    "Project",
    "Report",
    "ResponseFrame",
    "ShellClient",
    "SimulatedCore",
    "Socket",
    "SocketClosedError",
    "StateChange",
    "UserRequest",
    "Workspace",
]
