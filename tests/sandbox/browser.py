"""The browser of a user who connects with the provider: it shows the page, and presses its buttons."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests

from tests.sandbox.processes import wait_until

CONNECT = "Connect"
NOT_MINE = "This is not my account"
NEW_CODE = "Show me a new code"
PATIENCE = 60.0  # seconds for a page on a busy machine


@dataclass(frozen=True)
class Browser:
    """A browser that UCloud has sent to the provider's page."""

    address: str

    @classmethod
    def sent_to(cls, target: str, reachable: str | None = None) -> "Browser":
        """At the address that ``connect_user`` gives; ``reachable`` in place of the provider's public name."""
        return cls(target if reachable is None else f"{reachable}{urlsplit(target).path}")

    @property
    def secret(self) -> str:
        """What nobody but this browser knows."""
        return self.address.rpartition("/")[2]

    def look(self) -> requests.Response:
        """Loads the page."""
        return requests.get(self.address, timeout=PATIENCE)

    def code(self) -> str:
        """The code that the page shows."""
        (code,) = re.findall(r"<pre>([0-9A-Z-]{14})</pre>", self.look().text)
        return str(code)

    def press(self, button: str, page: str | None = None) -> requests.Response:
        """Presses a button of the page as it is now, or as it was."""
        page = self.look().text if page is None else page
        (answer,) = re.findall(rf'<button name="answer" value="(\w+)">{re.escape(button)}</button>', page)
        form = {"answer": answer, "shown": "".join(re.findall(r'name="shown" value="([^"]*)"', page))}
        return requests.post(self.address, form, timeout=PATIENCE)

    def wait_and_press(self, button: str = CONNECT, seconds: float = 60.0) -> requests.Response:
        """Waits until the page asks whether an account is the user's, and answers; again, where the provider is busy."""
        answers: list[requests.Response] = []

        def is_answered() -> bool:
            page = self.look().text
            if NOT_MINE in page:
                answers.append(self.press(button, page))
            return answers != [] and answers[-1].status_code < 500

        wait_until("the page asks and takes the answer", is_answered, seconds=seconds)
        return answers[-1]

    @contextmanager
    def answering(self, button: str = CONNECT) -> Iterator[None]:
        """While somebody types the code, the page is answered as soon as it asks."""
        with ThreadPoolExecutor(1) as pool:
            pressed = pool.submit(self.wait_and_press, button)
            yield
            assert pressed.result().status_code == 200
