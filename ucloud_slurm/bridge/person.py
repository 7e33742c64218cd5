"""Whose a job is on this cluster."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Person:
    """The local account that a job runs as, its home folder and its login shell."""

    user: str
    home: str
    shell: str
