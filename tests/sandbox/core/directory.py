"""The people, projects and SSH keys of the simulated Core (contract: Project, SshKey)."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Project:
    """A project. Times are milliseconds since the epoch.

    :ivar members: username -> PI, ADMIN or USER
    :ivar can_consume: whether it has resources of its own; a folder of projects has none
    """

    id: str
    title: str
    members: Mapping[str, str]
    created_at: int
    modified_at: int
    can_consume: bool = True
    archived: bool = False

    def json(self) -> Json:
        """The Project as it is sent."""
        return {
            "id": self.id,
            "createdAt": self.created_at,
            "modifiedAt": self.modified_at,
            "specification": {"parent": None, "title": self.title, "canConsumeResources": self.can_consume},
            "status": {
                "archived": self.archived,
                "isFavorite": False,
                "members": [{"username": name, "role": role, "email": None} for name, role in self.members.items()],
                "groups": [],
                "settings": {"subprojects": None},
                "myRole": None,
                "path": None,
                "personalProviderProjectFor": None,
            },
        }


class Directory:
    """Who is there, and who is connected with the provider. Safe for several threads.

    A user who starts a job or connects is known from then on, and so is the project.
    """

    def __init__(self, changed: threading.Condition, now_ms: Callable[[], int]) -> None:
        self._changed = changed
        self._now_ms = now_ms
        self._users: set[str] = {"_ucloud"}
        self._connected: set[str] = set()
        self._projects: dict[str, Project] = {}
        self._keys: dict[str, list[Json]] = {}
        self._watchers: list[Callable[[Project], None]] = []

    # -- people ---------------------------------------------------------------------------------------------

    def add_user(self, username: str) -> None:
        """Let somebody be known."""
        with self._changed:
            self._users.add(username)

    def knows(self, username: str) -> bool:
        """Whether there is such a user."""
        with self._changed:
            return username in self._users

    def connect(self, username: str) -> None:
        """The provider has approved somebody."""
        with self._changed:
            self._connected.add(username)
            self._changed.notify_all()

    def disconnect(self, username: str) -> None:
        """Somebody has given up the connection."""
        with self._changed:
            self._connected.discard(username)
            self._changed.notify_all()

    @property
    def connected(self) -> frozenset[str]:
        """Users whom the provider has approved."""
        with self._changed:
            return frozenset(self._connected)

    # -- projects -------------------------------------------------------------------------------------------

    def add_project(self, project: str, members: Mapping[str, str] | None = None, **more: Any) -> Project:
        """Make a project, or change the one of that id; the members become known.

        :param members: username -> PI, ADMIN or USER; those it has unless given
        :param more: fields of :class:`Project`
        """
        with self._changed:
            at = self._now_ms()
            known = self._projects.get(project) or Project(project, project, {}, at, at)
            people = dict(known.members if members is None else members)
            made = replace(known, members=people, modified_at=at, **more)
            self._projects[project] = made
            self._users.update(people)
            self._changed.notify_all()
            for watcher in self._watchers:
                watcher(made)
            return made

    def project(self, project: str) -> Project | None:
        """The project of that id."""
        with self._changed:
            return self._projects.get(project)

    def projects(self, member: str | None = None) -> list[Project]:
        """All projects, or those of a member."""
        with self._changed:
            return [each for each in self._projects.values() if member is None or member in each.members]

    def meet(self, username: str, project: str | None) -> None:
        """Somebody works in a workspace: both are known, and he is a member."""
        with self._changed:
            self.add_user(username)
            known = None if project is None else self._projects.get(project)
            if project is not None and (known is None or username not in known.members):
                members = {} if known is None else dict(known.members)
                self.add_project(project, members | {username: "USER" if members else "PI"})

    def watch(self, watcher: Callable[[Project], None]) -> None:
        """Have a function called with each project that is made or changed."""
        self._watchers.append(watcher)

    # -- keys -----------------------------------------------------------------------------------------------

    def add_key(self, username: str, title: str, key: str) -> list[Json]:
        """A user uploads an SSH key.

        :return: all keys of the user
        """
        with self._changed:
            self.add_user(username)
            number = 1 + sum(len(keys) for keys in self._keys.values())
            made = {
                "id": str(number),
                "owner": username,
                "createdAt": self._now_ms(),
                "fingerprint": f"SHA256:{number}",
                "specification": {"title": title, "key": key},
            }
            self._keys.setdefault(username, []).append(made)
            return list(self._keys[username])

    def keys(self, usernames: Iterable[str]) -> list[Json]:
        """The SSH keys of some people."""
        with self._changed:
            return [key for name in usernames for key in self._keys.get(name, [])]
