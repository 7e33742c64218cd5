"""What a simulated Core has to say about a provider, and about itself, when a test looks."""

import threading


class Complaints:
    """Sentences about what the contract does not allow, and traces of what failed in here. Safe for several threads."""

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._protocol_errors: list[str] = []
        self._crashes: list[str] = []
        self._ended: str | None = None

    def add(self, sentence: str) -> None:
        """The provider said something against the contract."""
        with self._changed:
            self._protocol_errors.append(sentence)
            self._changed.notify_all()

    def end(self, why: str) -> None:
        """The provider has ended the process of Core."""
        with self._changed:
            self._ended = self._ended or why
            self._changed.notify_all()

    @property
    def ended(self) -> str | None:
        """By what the provider has ended the process of Core; None while it lives. No start of Core forgets it."""
        with self._changed:
            return self._ended

    def crash(self, trace: str) -> None:
        """Something failed inside the simulated Core, or in a function that it was given."""
        with self._changed:
            self._crashes.append(trace)

    def all(self) -> list[str]:
        """What was said against the contract so far. A copy."""
        with self._changed:
            return list(self._protocol_errors)

    def take_crashes(self) -> list[str]:
        """The traces since the last time."""
        with self._changed:
            crashes, self._crashes = self._crashes, []
            return crashes
