"""What UCloud itself has named: with another user, project or product than these some requests end UCloud. Pure.

:mod:`ucloud_slurm.ucloud.gate` makes requests of them.
"""

from collections.abc import Mapping
from typing import NamedTuple


class NamedUser(NamedTuple):
    """A user of UCloud whom UCloud itself has named. The store makes it, which has the names.

    Where UCloud names nobody and survives a stranger, the configuration counts (:mod:`..worker.external_jobs`).
    """

    name: str


class NamedProject(NamedTuple):
    """A project that UCloud itself has named. See :class:`NamedUser`."""

    id: str


class JobRegistration(NamedTuple):
    """A job that is to be registered.

    :ivar key: the provider's id of it, unique over all resources of the provider
    :ivar owner: None for UCloud's own user, in eras that allow it
    :ivar specification: the job in the form of one that was started at UCloud
    """

    key: str
    owner: NamedUser | None
    project: NamedProject | None
    specification: Mapping[str, object]


class RegisteredProduct(NamedTuple):
    """A product that UCloud has: :meth:`ucloud_slurm.ucloud.core.Core.registered_storage` has seen it there.

    A drive of another one would belong to nobody after UCloud's next start.
    """

    id: str
    category: str
    provider: str


class DriveRegistration(NamedTuple):
    """A drive that is to be registered.

    :ivar key: the provider's id of it, unique over all resources of the provider, jobs included
    :ivar owner: of a user's own drive; None for one of a project
    :ivar writable: whether all members of the project may change what is in it
    """

    key: str
    title: str
    product: RegisteredProduct
    owner: NamedUser | None
    project: NamedProject | None
    writable: bool
