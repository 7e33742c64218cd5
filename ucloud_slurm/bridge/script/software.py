"""Software that applications load by a name and a version: which of the versions that the site has, and its modules."""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from ucloud_slurm.config import ApplicationsSection
from ucloud_slurm.errors import Refused, one_line

SHOWN = 5  # versions in a sentence


class Policy(StrEnum):
    """Which version may take the place of one that the site does not have (``applications.versions``)."""

    EXACT = "exact"  # none but a more precise one: 1.2.93 is a version 1.2
    NEWER = "newer"
    OLDER = "older"
    ANY = "any"


# The words of versionResolver() in templates. Any other word is a version itself.
RESOLVER = {"strict": Policy.EXACT, "loose-forward": Policy.NEWER, "loose-backward": Policy.OLDER, "loose": Policy.ANY}


class Software(NamedTuple):
    """What the site has.

    :ivar load: ``applications.load``
    :ivar policy: where a template does not say otherwise
    :ivar listed: modules of the cluster; none where they are not known
    """

    load: Mapping[str, Sequence[str]]
    policy: Policy
    listed: Sequence[str] = ()

    @classmethod
    def of(cls, settings: ApplicationsSection, listed: Sequence[str] = ()) -> "Software":
        """What the configuration says, and the modules that were found."""
        return cls(settings.load, Policy(settings.versions), listed)

    def has(self, name: str, version: str) -> bool:
        """Whether there is a version of software that may be taken, as far as is known."""
        return name in self.load or chosen(version, self._versions(name), self.policy) is not None

    def modules(self, loaded: Iterable[tuple[str, str]], policies: Mapping[str, str]) -> list[str]:
        """The modules of software, in its order, each once.

        :param loaded: names and versions
        :param policies: name of software -> word of versionResolver(); the empty name: all other software
        :raises Refused: the site has no version that may be taken
        """
        found: list[str] = []
        for name, version in loaded:
            found += self._modules(name, version, policies.get(name, policies.get("")))
        return list(dict.fromkeys(found))

    def _modules(self, name: str, version: str, word: str | None) -> Sequence[str]:
        policy = self.policy if word is None else RESOLVER.get(word, Policy.EXACT)
        if word is not None and word not in RESOLVER:
            version = word
        versions = self._versions(name)
        found = chosen(version, versions, policy)
        if found is not None:
            return versions[found]
        if name in self.load:
            return self.load[name]
        if versions and policy is not Policy.EXACT:
            there = ", ".join(sorted(versions, key=_key, reverse=True)[:SHOWN])
            raise Refused(
                f"The software {one_line(f'{name} {version}', 80)} is not here, nor a version that may take its place; "
                f"there are: {one_line(there, 200)}."
            )
        return (f"{name}/{version}",)

    def _versions(self, name: str) -> dict[str, Sequence[str]]:
        """The versions of software, each with its modules. What the administrator lists goes before what was found."""
        found: dict[str, Sequence[str]] = {}
        for module in self.listed:
            path, _, version = module.rpartition("/")
            if path.rpartition("/")[2].casefold() == name.casefold():
                found[version] = (module,)
        own = {key.removeprefix(f"{name}/"): modules for key, modules in self.load.items() if key.startswith(f"{name}/")}
        return found | own


def chosen(wanted: str, available: Iterable[str], policy: Policy) -> str | None:
    """The version that is taken; None: none may be.

    It is the one that was asked for, else the newest that is more precise, else one that the policy allows.

    :param available: the versions that there are
    """
    versions = sorted(available, key=_key, reverse=True)
    if wanted in versions:
        return wanted
    key = _key(wanted)
    more_precise = next((version for version in versions if _key(version)[: len(key)] == key), None)
    if more_precise is not None or not versions:
        return more_precise
    match policy:
        case Policy.ANY:
            return versions[0]
        case Policy.NEWER:
            return versions[0] if _key(versions[0]) > key else None
        case Policy.OLDER:
            return next((version for version in versions if _key(version) < key), None)
        case _:
            return None


def _key(version: str) -> tuple[tuple[int, int, str], ...]:
    """What versions are compared by: numbers as numbers, of any length, and words before numbers. ``v1.2`` is 1.2."""
    parts = re.findall(r"[0-9]+|[a-z]+", re.sub(r"^\s*v(ersion)?\s*(?=[0-9])", "", version.lower()))
    numbers = [part.lstrip("0") if part.isdigit() else None for part in parts]
    return tuple(
        (0, 0, part) if number is None else (1, len(number), number) for part, number in zip(parts, numbers, strict=True)
    )
