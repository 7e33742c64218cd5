"""What may stand behind a key of the configuration file: durations, addresses, names, paths."""

import re
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(value: Any) -> float:
    """Reads a duration.

    :raises ValueError: it is none
    """
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value)):
        return float(match[1]) * _SECONDS[match[2]]
    raise ValueError('should be a duration such as "30s", "15m", "2h" or "7d"')


def _keep(value: float) -> float:
    if 0 < value < _SECONDS["d"]:
        raise ValueError('should be at least "1d", or "0s" to keep everything')
    return value


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _url(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("should be a URL")  # noqa: TRY004  pydantic collects ValueErrors
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("should be a URL such as https://cloud.example.org")
    if parts.username or parts.password:
        raise ValueError("must not hold a user name or a password")
    return value.rstrip("/")


def _core_url(value: Any) -> str:
    url = _url(value)
    parts = urlsplit(url)
    if parts.scheme == "http" and not _loopback(parts.hostname or ""):
        raise ValueError("must begin with https:// (http:// is accepted for a loopback address only)")
    return url


def _session_url(value: Any) -> str:
    url = _url(value)
    parts = urlsplit(url)
    if parts.scheme == "http" and not _loopback((parts.hostname or "").rpartition(".")[2]):
        raise ValueError("must begin with https:// (http:// is accepted below localhost only)")
    in_host, in_path = (parts.hostname or "").startswith("*."), parts.path.endswith("/*")
    if url.count("*") != 1 or not (in_host or in_path) or parts.query or parts.fragment:
        raise ValueError(
            'should have one * as the first part of the host ("https://*.apps.example.org") or, if all '
            "sessions must share one host, as the last part of the path"
        )
    return url


def _slurm_word(value: Any) -> str:
    # These become arguments of sbatch; a site's own value must not be read as an option or as two values.
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:@+&|*,()\[\]=-]*", value):
        return value
    raise ValueError("should be a plain Slurm name")


def _plain_path(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(/[A-Za-z0-9_+@.-]+)+", value) or _climbs(value):
        raise ValueError("should be an absolute path of letters, digits and _+@.-")
    return value


def _root(value: Any) -> str:
    """A folder in which ``{home}`` and other words in braces are filled in for each job."""
    if not isinstance(value, str):
        raise ValueError("should be a path")  # noqa: TRY004  pydantic collects ValueErrors
    bare = re.sub(r"\{(home|user|account|project)\}", "x", value.removeprefix("{home}"))
    if not value.startswith(("{home}", "/")) or not re.fullmatch(r"/?|(/[\w +@.,=~-]+)+", bare):
        raise ValueError(
            'should be an absolute path such as "/projects/{project}"; {home}, {user}, {account} and '
            "{project} are filled in"
        )
    if _climbs(value) or "{home}" in value[1:]:
        raise ValueError("must not hold . or .. as a part, nor {home} other than at its beginning")
    return value


def _climbs(path: str) -> bool:
    return not {".", ".."}.isdisjoint(path.split("/"))


Duration = Annotated[float, BeforeValidator(seconds)]
Keep = Annotated[Duration, AfterValidator(_keep)]
Url = Annotated[str, BeforeValidator(_url)]
SessionUrl = Annotated[str, BeforeValidator(_session_url)]
CoreUrl = Annotated[str, BeforeValidator(_core_url)]
PlainPath = Annotated[str, BeforeValidator(_plain_path)]
RootPath = Annotated[str, BeforeValidator(_root)]
SlurmWord = Annotated[str, BeforeValidator(_slurm_word)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]


class Section(BaseModel):
    """A table of the file. Frozen; a key that is not declared is an error."""

    # Only the whole file is read, so that what reads one table by itself is built only where that is wanted.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
