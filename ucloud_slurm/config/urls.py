"""Types of values in the configuration file: URLs."""

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from ucloud_slurm.config.types import Before


def _loopback(host: str) -> bool:
    from ipaddress import ip_address

    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _url(value: Any, credentials: str = "") -> str:
    # The host comes into the configuration of nginx and into headers.
    if not isinstance(value, str) or not re.fullmatch(r"https?://[\x21-\x7e]+", value, re.IGNORECASE) or not _has_host(value):
        raise ValueError("should be a URL such as https://cloud.example.org, in ASCII")
    parts = urlsplit(value)
    if parts.username or parts.password:
        raise ValueError("must not contain a user name or a password" + (credentials and f"; {credentials}"))
    head = f"{parts.scheme}://{parts.netloc}"  # others compare it, letter by letter
    return (head.lower() + value[len(head) :]).rstrip("/")


def _has_host(url: str) -> bool:
    """Whether the host of a URL is one, and its port, if there is one."""
    try:
        parts = urlsplit(url)  # of an address in brackets it is certain then that it is one
        place, port = parts.netloc.rpartition("@")[2], parts.port
    except ValueError:
        return False
    host = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_*]([A-Za-z0-9_.*-]*[A-Za-z0-9_.])?)(:\d+)?"
    return re.fullmatch(host, place) is not None and port != 0


def _core_url(value: Any) -> str:
    url = _url(value)
    parts = urlsplit(url)
    if parts.scheme == "http" and not _loopback(parts.hostname or ""):
        raise ValueError("must begin with https:// (http:// is accepted for a loopback address only)")
    return url


def _address(value: Any) -> str:
    """Where UCloud calls: it knows a scheme, a host and a port, and no path."""
    url = _core_url(value)
    if urlsplit(url).path or not {"?", "#", "*"}.isdisjoint(url):
        raise ValueError("should be https:// and a host, without a path: such as https://hpc.example.org")
    return url


def _proxy(value: Any) -> str:
    url = _url(value, "keep them in the file that ucloud.proxy_credentials_file names")
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.port is None or parts.path or parts.query or parts.fragment:
        raise ValueError("should be http://, a host and a port, such as http://proxy.example.org:3128")
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


Url = Annotated[str, Before(_url)]
SessionUrl = Annotated[str, Before(_session_url)]
ProxyUrl = Annotated[str, Before(_proxy)]
CoreUrl = Annotated[str, Before(_core_url)]
Address = Annotated[str, Before(_address)]
