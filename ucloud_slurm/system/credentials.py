"""Secrets of this provider, each in a file of its own that the configuration names."""

from pathlib import Path

from ucloud_slurm.errors import Misconfigured


def read_secret(key: str, path: Path, what: str) -> str:
    """The secret in a file of one line.

    :param key: of the configuration, which names the file
    :param what: the secret, in words
    :raises Misconfigured: the file cannot be read, or does not hold one line without blanks
    """
    try:
        secret = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise Misconfigured(
            [f"{key}: {path} cannot be read ({error.strerror}); it should hold {what} in one line, for the daemon user alone."]
        ) from None
    except UnicodeDecodeError:
        raise Misconfigured([f"{key}: {path} is not a text file."]) from None
    if not secret or " " in secret or not secret.isprintable():
        raise Misconfigured([f"{key}: {path} should hold {what} in one line."])
    return secret


def read_credentials(key: str, path: Path) -> tuple[str, str]:
    """The user name and the password in such a file.

    :raises Misconfigured: see :func:`read_secret`; or there is no colon between them
    """
    user, colon, password = read_secret(key, path, "user:password").partition(":")
    if not user or not colon:
        raise Misconfigured([f"{key}: {path} should hold user:password in one line."])
    return user, password
