"""What a Core that polls asks a provider all the time (contract: provider routes that Core calls)."""

import time
from contextlib import suppress

from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.people import CorePeople
from tests.sandbox.core.routes import OTHER_CALLS
from tests.sandbox.core.users import CoreUsers


class CorePolling(CoreUsers, CorePeople):
    """The questions of every ten seconds. Used as :class:`SimulatedCore`."""

    def poll(self) -> None:
        """Ask everything once: products, manifest, the lists that are not about jobs, branding.

        Nothing is raised: the last good answer stays in force. What cannot be read, and what takes long, is in
        ``protocol_errors``.

        :raises CoreError: 404 in an era that does not poll
        """
        if not self.era.polls:
            raise CoreError(404, "Not found")
        began = time.monotonic()
        with suppress(CoreError):
            self.retrieve_products()
        self._quick("retrieveProducts", began)
        began = time.monotonic()
        self.manifest = self._manifest()
        self._quick("retrieveManifest", began)
        for name in OTHER_CALLS:
            if name.endswith(("retrieveProducts", "retrieveInfo")):
                self._ask(name.format(self.provider))

    def _ask(self, call: str) -> None:
        began = time.monotonic()
        try:
            data = self._calls.plain(call)
            if call.endswith("retrieveProducts"):
                self._calls.responses(call, data)
        except CoreError as error:
            if error.status in (401, 403, 500):
                self._complain(f"{call}: answered with {error.status}; say 404 for what is not there")
        self._quick(call, began)

    def _quick(self, call: str, began: float) -> None:
        seconds = time.monotonic() - began
        if seconds > self.quick:
            self._complain(f"{call}: took {seconds:.1f} s, which holds up everything that is asked after it")
